#!/usr/bin/env python3
"""Time what checkpoints cost training: none, written in the step, written by a thread; turn by turn, one process.

    python benchmarks/checkpoint_cost.py --out exp/checkpoint_cost

Trains a Whisper of a named size with random weights on noise, so that a step takes as long as the machine needs and
nothing is downloaded. A step's time is from its end to the end of the one before, checkpoint included. After the last
counted checkpoint comes as much training as between two, so the thread's work falls on counted steps.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from speech import machine, make_processor, quiet
from tabulate import tabulate
from transformers import TrainerCallback, WhisperProcessor

from egrecho_inner.data.batching import BatchOptions
from egrecho_inner.data.dataset import DataOptions
from egrecho_inner.model.loading import SIZES, random_model
from egrecho_inner.training.fit import WindowOptions, fit
from egrecho_inner.training.options import TrainOptions
from egrecho_inner.training.trainer import WhisperTrainer

WAYS = {"none": None, "in the step": False, "by a thread": True}


class Watch(TrainerCallback):
    """Notes when steps end, and how long training stood still for a checkpoint."""

    def __init__(self) -> None:
        self.ended: list[float] = []
        self.stood: list[float] = []


class Watched(WhisperTrainer):
    """Our trainer, with the watch."""

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        save = self.control.should_save
        began = time.perf_counter()
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.watch.ended.append(time.perf_counter())
        if save:
            self.watch.stood.append(self.watch.ended[-1] - began)


def main() -> None:
    """Train in every way, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", choices=list(SIZES), help="of the model")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="steps between two checkpoints")
    parser.add_argument("--checkpoints", type=int, default=3, metavar="N", help="in a round")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="times each way is run")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="utterances of 4 s in a step")
    parser.add_argument("--out", metavar="DIR", help="folder on the disk to measure; of the machine's temporary files")
    options = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory(dir=options.out and make(options.out)) as name:
        folder = Path(name)
        cuts = noise(folder, 4 * options.batch)
        processor = make_processor(cuts)
        steps: dict[str, list[float]] = {way: [] for way in WAYS}
        stood: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, in_thread in WAYS.items():
                watch = train(folder, processor, options, in_thread)
                counted = np.diff(watch.ended)[options.every - 1 :]  # from the first checkpoint on; before, all warm up
                steps[way].append(float(counted.mean()))
                stood[way] += watch.stood[:-1]  # the last one, at the end, is waited for in any way
                written = folder_bytes(folder / "run")
                shutil.rmtree(folder / "run")
    show(steps, stood, options, written)


def make(folder: str) -> str:
    """Make a folder if it is not there."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def noise(folder: Path, n: int) -> list[MonoCut]:
    """Write utterances of noise and their manifest."""
    cuts, rng = [], np.random.default_rng(0)
    for number in range(n):
        name = f"noise{number}"
        soundfile.write(folder / f"{name}.wav", 0.1 * rng.standard_normal(4 * 16000), 16000)
        recording = Recording.from_file(folder / f"{name}.wav", recording_id=name)
        said = SupervisionSegment(name, name, 0.0, 4.0, text="nothing of importance was said here", language="en")
        cuts.append(MonoCut(name, 0.0, 4.0, 0, [said], recording=recording))
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return cuts


def train(folder: Path, processor: WhisperProcessor, options: argparse.Namespace, in_thread: bool | None) -> Watch:
    """Train once."""
    watch = Watch()

    def watched(*args: Any) -> WhisperTrainer:
        trainer = Watched(*args)
        trainer.watch = watch
        return trainer

    last = options.every * (options.checkpoints + 1)
    every = 10 * last if in_thread is None else options.every
    fit(
        random_model(options.size, processor),
        processor,
        folder / "run",
        data=DataOptions(train=str(folder / "cuts.jsonl")),
        batch=BatchOptions(None, options.batch),
        train=TrainOptions(
            max_steps=last, eval_steps=every, workers=0, report_to=[], rehearse=False, async_save=bool(in_thread)
        ),
        window=WindowOptions("longest"),
        augment=None,
        config="",
        make_trainer=watched,
    )
    return watch


def folder_bytes(run: Path) -> int:
    """Return the size of the newest checkpoint of a run."""
    newest = max(run.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())


def show(
    steps: dict[str, list[float]], stood: dict[str, list[float]], options: argparse.Namespace, written: int
) -> None:
    """Print one row for each way."""
    plain = steps["none"]
    rows = []
    for way, values in steps.items():
        more = [1000 * (value - other) for value, other in zip(values, plain, strict=True)]
        still = f"{statistics.median(stood[way]):.2f}" if stood[way] else ""
        median = f"{1000 * statistics.median(values):.0f}"
        rows.append([way, median, f"{statistics.median(more):.0f}", f"{min(more):.0f} to {max(more):.0f}", still])
    headers = ["checkpoints", "ms per step", "more than none", "lowest, highest", "training stands still (s)"]
    print(
        f"\n{options.size}, a checkpoint of {written / 1e6:.0f} MB every {options.every} steps of "
        f"{options.batch} x 4 s; {machine('accelerate')}\n"
    )
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
