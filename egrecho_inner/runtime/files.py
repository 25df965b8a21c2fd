"""Manifests as JSON lines, plain or gzipped: written beside and renamed, the same lines always as the same bytes.

In: lines of text without newlines. Out: a file that is never seen half-written. A gzip header holds no time and no
name, so that a repeated stage gives an identical file. Two processes may write the same path at once: each has a
temporary file of its own. Left out: appending; a gzip file cannot be continued after a kill.
"""

import errno
import gzip
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from egrecho_inner.errors import MachineError

WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
TEMPORARY = ".tmp-"  # what an unfinished file has behind its name, then host and process


def to_line(item: dict[str, Any]) -> str:
    """Write one manifest item as JSON with its letters as they are."""
    return json.dumps(item, ensure_ascii=False)


def write_jsonl(path: str | Path, lines: Iterable[str]) -> int:
    """Write lines to a `.jsonl` or `.jsonl.gz` file, making its folder; return how many."""
    path, count = Path(path), 0
    with atomic_file(path) as raw:
        file = gzip.GzipFile("", "wb", 6, raw, mtime=0) if path.suffix == ".gz" else raw
        for line in lines:
            file.write(f"{line}\n".encode())
            count += 1
        if file is not raw:
            file.close()
    return count


def read_lines(path: str | Path) -> Iterator[str]:
    """Read the lines of a `.jsonl` or `.jsonl.gz` file, one at a time."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line := line.rstrip("\n"):
                yield line


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when all of it is on the disk.

    Raises:
        MachineError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}{TEMPORARY}{socket.gethostname()}-{os.getpid()}")
    try:
        with _create(beside, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in WRITE_ERRORS:
            raise _cannot_write(path, error) from error
        raise


def free_space(path: Path) -> int:
    """Give the free bytes of the disk that holds a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _create(beside: Path, path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        return open(beside, "wb")
    except OSError as error:
        raise _cannot_write(path, error) from error


def _sweep(path: Path) -> None:
    """Remove what processes of this machine that were killed have left of this file."""
    begin = f"{path.name}{TEMPORARY}{socket.gethostname()}-"
    for left in path.parent.iterdir():
        if left.name.startswith(begin) and not _is_alive(int(left.name[len(begin) :])):
            left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _cannot_write(path: Path, error: OSError) -> MachineError:
    try:
        free = f"{free_space(path) / 1e6:,.1f} MB are free there; "
    except OSError:
        free = ""
    return MachineError(f"cannot write {path} ({error.strerror}); {free}make room or mend the rights, then repeat")
