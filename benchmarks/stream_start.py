#!/usr/bin/env python3
"""How long training takes to begin, and to go on, with millions of windows in Shar folders.

    python benchmarks/stream_start.py --windows 10000000

Makes indexes of shards that hold nothing (no audio, no lines), opens them as training does, plans the first batches of
one of some processes, and those of a run that stood in the second epoch. Prints seconds and memory of each.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.stream import CutStream, StreamPlan
from egrecho_inner.data.sources.shard_index import ROW, VERSION


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds of the block, those of its CPU, and the most memory that was held so far."""
    began, worked = time.perf_counter(), time.process_time()
    yield
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{what:42} {time.perf_counter() - began:6.2f} s  {time.process_time() - worked:6.2f} s CPU  {held:5.2f} GB",
        flush=True,
    )


def make(folder: Path, windows: int, size: int) -> None:
    """Write indexes of shards, and empty files that stand for the shards."""
    (folder / "shar").mkdir()
    (folder / "shar.index").mkdir()
    rng = np.random.default_rng(0)
    for number in range(windows // size):
        (folder / f"shar/cuts.{number:06d}.jsonl.gz").touch()
        (folder / f"shar/recording.{number:06d}.tar").touch()
        rows = np.zeros(size, ROW)
        rows["durations"] = rng.uniform(5, 30, size)
        rows["ids"] = rng.integers(0, 2**63, size, dtype=np.uint64)
        rows["text_bytes"], rows["teacher_bytes"] = rng.integers(20, 900, size), -2
        head = {"version": VERSION, "cuts": size, "sizes": [0, 0], "digest": str(number), "languages": ["en"]}
        head["behind"] = 0
        path = folder / f"shar.index/{number:06d}.columns"
        path.write_bytes(json.dumps(head).encode() + b"\n" + rows.tobytes())


class AnyText:
    """Stands for the tokenizer, which is not asked: half of the texts are longer than what always fits."""

    language, max_tokens, always_fits = "en", 448, 440

    def language_fault(self, language: str | None) -> None:
        """Find none."""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000_000)
    parser.add_argument("--shard_size", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), given.windows, given.shard_size)
        options = BatchOptions(max_duration=None, batch_size=32)
        with timed("open the stream"):
            cuts = CutStream([f"{name}/shar"])
        with timed("leave out what cannot be used"):
            cuts.keep_trainable(AnyText(), 0.01)
        with timed("plan, and the first batch"):
            plan = StreamPlan(cuts, options, world_size=given.processes)
            first = next(plan.batches(1))
        taken = int(1.5 * given.windows / 32)
        with timed("a resume in the middle of epoch 2"):
            plan = StreamPlan(cuts, options, world_size=given.processes, state={"taken": taken})
            later = next(plan.batches(1, 5))
        print(f"{len(cuts):,} windows, {len(cuts.indexes):,} shards; epochs {first.epoch} and {later.epoch}")


if __name__ == "__main__":
    main()
