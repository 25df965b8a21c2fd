"""What a run is doing, as lines of `events.jsonl`: for a person who waits and for a server that reports.

In: one call per phase or result. Out: JSON lines with the time, appended at once, so that a reader sees each line
complete and a killed run leaves those it wrote. The names of the phases are those that the training server reports.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, Literal

NAME = "events.jsonl"
Phase = Literal[
    "preparing training",
    "starting tensorboard",
    "running base model evaluation",
    "running training",
    "saving best model",
    "running final model evaluation",
]


class Events:
    """Append events to a file.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def phase(self, name: Phase) -> None:
        """Begin a phase."""
        self.add(phase=name)

    def add(self, **values: Any) -> None:
        """Append one event."""
        line = json.dumps({"time": round(time.time(), 3), **values}, ensure_ascii=False)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{line}\n".encode())  # one write: lines of two processes do not mix
        finally:
            os.close(handle)
