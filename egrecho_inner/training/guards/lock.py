"""One run per folder: the first process holds `.lock`, a second one is refused with its pid and host.

A POSIX record lock: the kernel drops it when the process ends, however it ends, and forked loader workers do not
inherit it (a `flock` would live on in them after `kill -9`). The file's content serves the message only.
"""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from egrecho_inner.errors import ConfigError, MachineError

logger = logging.getLogger(__name__)

NAME = ".lock"


class RunLock:
    """Hold a run folder for as long as the `with` block lasts.

    Args:
        run: The folder; made if it is not there.
    """

    def __init__(self, run: Path):
        self.run, self.path = run, run / NAME
        self.descriptor: int | None = None

    def __enter__(self) -> "RunLock":
        """Take the lock.

        Raises:
            ConfigError: Another process holds it.
            MachineError: The folder cannot be written.
        """
        check_writable(self.run)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise ConfigError(
                    f"{self.run} is in use by {describe(self.read())}; wait for it, stop it, or give another --out"
                ) from error
            logger.warning("%s cannot be locked (%s); see to it that nobody else writes there", self.run, error)
        before = self.read()
        if before:
            logger.info("the run of %s did not end in order (killed, or the machine went down)", describe(before))
        self.write({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)
        self.descriptor = None

    def read(self) -> dict[str, Any]:
        """Return what the last holder wrote; empty if it left in order."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        try:
            return json.loads(os.read(self.descriptor, 4096) or b"{}")
        except ValueError:
            return {}

    def write(self, holder: dict[str, Any]) -> None:
        """Write who holds the folder."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        os.write(self.descriptor, json.dumps(holder).encode())


def describe(holder: dict[str, Any]) -> str:
    """Name a holder for a message."""
    if not holder:
        return "another process"
    return f"pid {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}"


def check_writable(run: Path) -> None:
    """Find out before any work whether the run folder can be written.

    Raises:
        MachineError: It cannot.
    """
    probe = run / f".probe-{os.getpid()}"
    try:
        run.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as out:
            out.write(bytes(4096))
            out.flush()
            os.fsync(out.fileno())
        probe.unlink()
    except OSError as error:
        probe.unlink(missing_ok=True) if run.is_dir() and os.access(run, os.W_OK) else None
        raise MachineError(
            f"{run} cannot be written: {error.strerror}; free space or give another --out, then repeat"
        ) from error
