"""A memory of scanned files, so that a killed or repeated scan continues and validation and import share their work.

In: scans as they come. Out: the same scans later, for files whose path, size and time of change are as they were. A
plain JSONL file that is appended to; a line torn by a kill is passed over, and its file scanned again. Without a path
nothing is remembered.
"""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TextIO

from egrecho_inner.data.audio.check import AudioScan
from egrecho_inner.data.audio.files import AudioInfo

FLUSH_SECONDS = 1.0  # of scanning that a kill may cost
VERSION = 2  # of what a scan looks for; scans of another version are made again


class ScanCache:
    """Remembers scans in a file, as a context manager.

    Args:
        path: the file; None remembers nothing.
        decode: whether these scans decode every sample; scans of headers only are kept apart.
    """

    def __init__(self, path: str | Path | None, decode: bool) -> None:
        self.path = Path(path) if path else None
        self.decode = decode
        self.known: dict[str, dict] = {}
        self.file: TextIO | None = None
        self.flushed = 0.0

    def __enter__(self) -> "ScanCache":
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.exists() and self._read()
            self.file = open(self.path, "a", encoding="utf-8")
            if torn:
                self.file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file:
            self.file.close()

    def get(self, path: str) -> AudioScan | None:
        """Return what is known of a file as it is now."""
        row = self.known.get(path)
        if row is None or row["stamp"] != _stamp(path) or row["decode"] != self.decode:
            return None
        if row.get("version") != VERSION:
            return None
        scan = row["scan"]
        info = AudioInfo(**scan["info"]) if scan["info"] else None
        return AudioScan(**{**scan, "info": info, "bad_seconds": tuple(scan["bad_seconds"])})

    def put(self, scan: AudioScan) -> None:
        """Remember a scan, if its file exists."""
        stamp = _stamp(scan.path) if self.file else None
        if stamp is None:
            return
        row = {"path": scan.path, "stamp": stamp, "decode": self.decode, "version": VERSION, "scan": asdict(scan)}
        self.file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.file.flush()
            self.flushed = time.monotonic()

    def _read(self) -> bool:
        """Read what is known, and return whether a kill tore the last line."""
        line = "\n"
        with open(self.path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    self.known[row["path"]] = row
                except (ValueError, TypeError, KeyError):
                    continue
        return not line.endswith("\n")


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
