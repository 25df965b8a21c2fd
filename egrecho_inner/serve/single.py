"""One server per work folder: a second one would dispatch the same jobs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from egrecho_inner.errors import ConfigError, MachineError

NAME = ".server.lock"


@contextmanager
def hold(work: Path) -> Iterator[None]:
    """Hold a work folder; the kernel lets go of it when the process ends, however it ends.

    Raises:
        ConfigError: Another server works there.
        MachineError: It cannot be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(work / NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise MachineError(f"{work} cannot be written: {error.strerror}; give another --work") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ConfigError(f"another server works in {work}; stop it, or give another --work") from error
    try:
        yield
    finally:
        os.close(handle)
