"""Stand-ins for a shard of egs/mini's corpus, in a module that costs a child process nothing to import."""

import os
import signal
from pathlib import Path


class Plan:
    """So many shards of nothing."""

    def __init__(self, count: int):
        self.count = count

    def shards(self) -> list[tuple[str, int, int]]:
        return [("train", start, start + 1) for start in range(self.count)]


def make(folder: Path, plan: Plan, split: str, start: int, stop: int) -> None:
    """Do what is quickly done."""
    (folder / str(start)).touch()


def die_once(folder: Path, plan: Plan, split: str, start: int, stop: int) -> None:
    """Be killed at the second shard, the first time."""
    if start == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    make(folder, plan, split, start, stop)


def die(folder: Path, plan: Plan, split: str, start: int, stop: int) -> None:
    """Be killed every time."""
    with open(folder / "attempts", "a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def fail(folder: Path, plan: Plan, split: str, start: int, stop: int) -> None:
    """Raise."""
    with open(folder / "attempts", "a") as file:
        file.write("x")
    raise ValueError("no such voice")
