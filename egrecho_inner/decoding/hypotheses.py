"""Hypotheses that outlive their process: appended as they come, found again by the next attempt, gathered over ranks.

In: hypotheses of one decoding, named by a key (model, data, options). Out: `hyps.partial*.jsonl` in the result folder,
a line each, one file a process; a torn last line is dropped, a file of another key counts for nothing.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from egrecho_inner.results.utterance import Hypothesis, from_row, to_row

PATTERN = "hyps.partial*.jsonl"


class HypothesisLog:
    """What was decoded so far.

    Args:
        folder: Of the results.
        key: Of the decoding, see `passes.make_key`.
        rank: Of this process, which writes a file of its own.

    Attributes:
        done: Hypotheses of earlier attempts, from all processes, by id.
    """

    def __init__(self, folder: Path, key: str, rank: int = 0):
        self.done: dict[str, Hypothesis] = {}
        own = folder / (f"hyps.partial.{rank}.jsonl" if rank else "hyps.partial.jsonl")
        whole = 0
        for path in sorted(folder.glob(PATTERN)):
            found, size = read_log(path, key)
            self.done.update({each.id: each for each in found})
            whole = size if path == own else whole
        descriptor = os.open(own, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(descriptor, whole)
        self.file = os.fdopen(descriptor, "r+b")
        self.file.seek(whole)
        if not whole:
            self._write({"key": key})

    def add(self, hypothesis: Hypothesis) -> None:
        """Append a hypothesis; it outlives a kill of this process."""
        self._write(to_row(hypothesis))

    def close(self) -> None:
        """Close the file, which stays."""
        self.file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self.file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.file.flush()


def read_log(path: Path, key: str) -> tuple[list[Hypothesis], int]:
    """Return the hypotheses of a log and the bytes of its whole lines; nothing where the key is another."""
    size, found = 0, []
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if row is None or (number == 0 and row != {"key": key}):
                break
            if number:
                found.append(from_row(row))
            size += len(line)
    return found, size


def remove_logs(folder: Path) -> None:
    """Remove the logs of all processes."""
    for path in folder.glob(PATTERN):
        path.unlink(missing_ok=True)


def deal(order: Sequence[int], rank: int, world: int) -> Sequence[int]:
    """Return one process's share of positions sorted by duration: each gets long and short ones."""
    return order[rank::world]


def gather(mine: list[Hypothesis]) -> list[list[Hypothesis]]:
    """Return the hypotheses of every process, on every process."""
    if not dist.is_initialized():
        return [mine]
    shares: list[list[Hypothesis]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, mine)
    return shares
