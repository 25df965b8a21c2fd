"""A job's folder: what the server writes for the worker, what the worker leaves for the server.

    job.json         what to run, and within which limits           written by the server
    data/            the recordings
    worker.lock      held by the worker for as long as it lives
    worker.json      process id and start of the worker and of what it runs
    CANCEL           this job is not to be continued                 written by the server
    run/             the run folder of `egrecho personal`, with events.jsonl
    log.txt          output of the worker and of what it runs
    artifact.tar.gz  what a client downloads
    result.json      how it ended; where it is, nothing runs any more

The folder holds everything that a server needs after it was killed.
"""

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egrecho_inner.runtime.files import atomic_file

PHASES = {
    "preparing training": "preparing",
    "starting tensorboard": "preparing",
    "running base model evaluation": "evaluating_base",
    "running training": "training",
    "saving best model": "saving",
    "running final model evaluation": "evaluating_final",
}
"""The phases that the specification's status shows, in their order, and the state each belongs to."""
LONGEST_LINE = 100_000
TAIL = 200_000


@dataclass(frozen=True)
class JobFolder:
    """Where a job's files are."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def events(self) -> Path:
        return self.run / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def artifact(self) -> Path:
        return self.path / "artifact.tar.gz"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def lock(self) -> Path:
        return self.path / "worker.lock"

    @property
    def cancel(self) -> Path:
        return self.path / "CANCEL"

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file's content; empty where there is none or it does not read."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file, complete or not at all."""
        with atomic_file(self.path / name) as file:
            file.write(f"{json.dumps(content, indent=1)}\n".encode())

    def held(self) -> bool:
        """Tell whether a worker lives that holds the folder; the lock is only looked at, never taken."""
        try:
            handle = os.open(self.lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def begun(self) -> int:
        """Return the last attempt whose worker began; 0 where none did."""
        return max((event["attempt"] for event in read_events(self.events) if "attempt" in event), default=0)

    def phase(self) -> str:
        """Return the furthest phase that this attempt has reached."""
        furthest = ""
        for event in read_events(self.events):
            if event.get("attempt"):  # a worker begins
                furthest = ""
            name = event.get("phase")
            if name in PHASES and (not furthest or list(PHASES).index(name) > list(PHASES).index(furthest)):
                furthest = name
        return furthest


def read_events(path: Path, start: int = 0) -> list[dict[str, Any]]:
    """Return the events of a file from a line on; a line that is still being written is left for later."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
    found = []
    for line in lines[start:]:
        try:
            event = json.loads(line) if len(line) < LONGEST_LINE else {}
        except ValueError:
            event = {}
        found.append(event if isinstance(event, dict) else {})
    return found


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def tail(path: Path, size: int = TAIL) -> str:
    """Return the end of a text file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - size))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
