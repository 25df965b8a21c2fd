"""Files and folders that are never seen half-written: made beside their place, then renamed; no other module does it.

In: bytes, text, JSON, or lines without newlines for a `.jsonl` or `.jsonl.gz`. Out: a file that is complete or absent;
the same lines always give the same bytes, because a gzip header written here holds no time and no name. Two processes
may write the same path at once: each has a temporary file of its own, named after host and process, and what killed
processes left behind goes when the next one begins to write in that folder.
Left out: appending; a gzip file cannot be continued after a kill.
"""

import errno
import fcntl
import filecmp
import gzip
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from egrecho_inner.errors import MachineError

WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
TEMPORARY = re.compile(r"\.tmp-(?P<machine>.+)-(?P<pid>\d+)\.\d+$")
"""What an unfinished file or folder has behind its name."""
ABANDONED = 7 * 24 * 3600
"""Seconds after which an untouched temporary file of another machine is taken for a killed process's."""

_numbers = itertools.count()


def to_line(item: dict[str, Any]) -> str:
    """Write one manifest item as JSON with its letters as they are."""
    return json.dumps(item, ensure_ascii=False)


def write_jsonl(path: str | Path, lines: Iterable[str]) -> int:
    """Write lines to a `.jsonl` or `.jsonl.gz` file, making its folder; return how many.

    A file with these very bytes is left as it is, with its time: what depends on it is not out of date.
    """
    with atomic_file(path, keep_same=True) as file:
        return write_lines(file, lines, packed=Path(path).suffix == ".gz")


def write_lines(raw: BinaryIO, lines: Iterable[str], packed: bool) -> int:
    """Write lines to an open file, gzipped or plain; return how many."""
    file, count = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw, 0
    for line in lines:
        file.write(f"{line}\n".encode())
        count += 1
    if packed:
        file.close()  # its end; `raw` stays open
    return count


def read_lines(path: str | Path) -> Iterator[str]:
    """Read the lines of a `.jsonl` or `.jsonl.gz` file, one at a time."""
    opener = gzip.open if Path(path).suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line := line.rstrip("\n"):
                yield line


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, making its folder."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(
    path: str | Path, content: Any, indent: int | None = 1, default: Callable[[Any], Any] | None = None
) -> None:
    """Write a JSON file for people and programs, making its folder.

    Args:
        path: The file.
        content: What it holds.
        indent: Spaces; None puts all on one line.
        default: Turns what JSON has no form for into what it has.
    """
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, default=default) + "\n")


@contextmanager
def atomic_file(path: str | Path, keep_same: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only when all of it is on the disk.

    Args:
        path: The file.
        keep_same: Leave one that is there and has the same bytes as it is.

    Raises:
        MachineError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    beside = _beside(path)
    try:
        with _create(beside, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep_same and path.is_file() and filecmp.cmp(beside, path, shallow=False):
            beside.unlink()
        else:
            os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in WRITE_ERRORS:
            raise _cannot_write(path, error) from error
        raise


@contextmanager
def working_folder(place: str | Path) -> Iterator[Path]:
    """Make a folder that takes its name only when the block ends without an error; one of that name gives way.

    Raises:
        MachineError: the folder around it cannot be written.
    """
    place = Path(place)
    working = _beside(place, hidden=True)
    try:
        working.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(working.parent.absolute())
        working.mkdir()
    except OSError as error:
        raise _cannot_write(place, error) from error
    try:
        yield working
        replace_folder(working, place)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def replace_folder(working: Path, place: Path) -> None:
    """Rename a complete folder to its place; one of that name is moved aside first, then removed."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(working, place)
    shutil.rmtree(old, ignore_errors=True)
    handle = os.open(place.parent, os.O_RDONLY)  # the rename itself is on the disk, too
    os.fsync(handle)
    os.close(handle)


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Hold other processes off for the time of the block; yield whether the file system has locks at all.

    Processes on other machines wait too where the shared file system passes locks on (NFS 4, Lustre with `flock`).

    Args:
        path: A folder that is there, or a file, which is made and removed again.
    """
    path = Path(path)
    is_folder = path.is_dir()
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            held = True
        except OSError:  # no locks here; whatever is written still appears complete or not at all
            held = False
        yield held
    finally:
        if not is_folder:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def digest_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder(name: str) -> Path:
    """Return where the user's things of one kind are kept that can be made again; it need not be there.

    It is in `$EGRECHO_CACHE`, else in `egrecho` of `$XDG_CACHE_HOME`, else in `~/.cache/egrecho`.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"))
    return Path(os.environ.get("EGRECHO_CACHE") or base / "egrecho") / name


def free_space(path: Path) -> int:
    """Give the free bytes of the disk that holds a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@lru_cache(maxsize=10_000)
def _sweep_once(folder: Path) -> None:
    sweep(folder)  # once in a process, as the folder is listed for that


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder."""
    for entry in os.scandir(folder):
        found = TEMPORARY.search(entry.name)
        if found is None:
            continue
        try:
            if found["machine"] == machine_name():
                gone = not is_alive(int(found["pid"]))
            else:
                gone = time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
            if gone and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif gone:
                os.unlink(entry.path)
        except FileNotFoundError:
            continue  # another process of this run swept it


def _beside(path: Path, hidden: bool = False) -> Path:
    """Name the temporary file of a path: no other writer has the same one, not even a thread of this process."""
    return path.with_name(f"{'.' * hidden}{path.name}.tmp-{machine_name()}-{os.getpid()}.{next(_numbers)}")


@lru_cache(maxsize=1)
def machine_name() -> str:
    """Name where a process id means something: the host, and the container on it."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = 0
    return f"{socket.gethostname()}.{namespace}"


def _create(beside: Path, path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep_once(path.parent.absolute())
        return open(beside, "wb")
    except OSError as error:
        raise _cannot_write(path, error) from error


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def _cannot_write(path: Path, error: OSError) -> MachineError:
    try:
        free = f"{free_space(path) / 1e6:,.1f} MB are free there; "
    except OSError:
        free = ""
    return MachineError(f"cannot write {path} ({error.strerror}); {free}make room or fix the rights, then repeat")
