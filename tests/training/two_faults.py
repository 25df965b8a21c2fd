"""Let one of two processes fail; run under torchrun by test_two_faults.py. Lines of JSON say how each went.

usage: two_faults.py CUTS BROKEN DEV OUT NAME...     a name is that of a function below; of BROKEN two do not load
"""

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from runs import train
from tiny import tiny_model, tiny_processor

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.errors import UserError
from egrecho_inner.training.kd import DistilTrainer
from egrecho_inner.training.options import KdOptions
from egrecho_inner.training.trainer import PlanTrainer

cuts, broken, dev, out, *names = sys.argv[1:]
RANK = int(os.environ["RANK"])
Last = dict[str, Any]


def run(name: str, trainer: type[PlanTrainer] = PlanTrainer, **changes: Any) -> Last:
    """Train, and return what this process knows at the end."""
    AcceleratorState._reset_state()
    found: Last = {}

    class Watched(trainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().train(*args, **kwargs)
            finally:
                found.update(
                    skipped=sorted(self.tally.skips.reasons), halvings=self.fingerprint["halvings"],
                    step=self.state.global_step,
                )  # fmt: skip

    batch = changes.pop("batch", BatchOptions(max_duration=None, batch_size=2))
    make, source = partial(Watched, **changes.pop("further", {})), changes.pop("source", cuts)
    try:
        train(Path(source), Path(out) / name, Path(dev), batch=batch, make_trainer=make, **changes)
    except UserError as error:
        found |= {"code": error.exit_code, "message": str(error)}
    return found


def out_of_memory(when: Callable[[PlanTrainer, int], bool]) -> type[PlanTrainer]:
    """Make a trainer whose memory runs out in forward, on the second process alone."""

    class Failing(PlanTrainer):
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if RANK == 1 and when(self, len(inputs["labels"])):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return loss

    return Failing


def skips() -> Last:
    """Two of eleven cuts do not load; three epochs."""
    return run("skips", source=broken, max_steps=9, max_skip_ratio=0.2)


def halve() -> Last:
    """One batch of two does not fit at step 5."""
    return run(
        "halve", out_of_memory(lambda trainer, rows: rows > 1 and trainer.state.global_step == 4), auto_halve=True
    )


def accumulate() -> Last:
    """The first of two batches of a step does not fit."""
    failing = out_of_memory(lambda trainer, rows: rows > 1 and trainer.state.global_step == 2)
    return run("accumulate", failing, auto_halve=True, accumulation=2, max_steps=4)


def floor() -> Last:
    """Nothing fits from step 5 on."""
    return run("floor", out_of_memory(lambda trainer, rows: trainer.state.global_step >= 4), auto_halve=True)


def rehearsal() -> Last:
    """The largest batch does not fit the second process."""
    return run("rehearsal", out_of_memory(lambda trainer, rows: trainer.state.global_step == 0), rehearse=True)


def plain() -> Last:
    """Nothing fails."""
    return run("plain")


def apart() -> Last:
    """Nothing fails where it could."""
    return run("apart", auto_halve=True, rehearse=True)


def loader() -> Last:
    """The second process loses a loader in the middle of step 5."""

    class Bereft(PlanTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            if RANK == 1 and self.state.global_step == 4:
                for child in multiprocessing.active_children():
                    child.kill()
                    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            return super().compute_loss(*args, **kwargs)

    return run("loader", Bereft, workers=1)


def again() -> Last:
    """The run that lost a loader, continued."""
    return run("loader", workers=1)


def figures() -> Last:
    """Each process keeps its own share of the first line's figures."""
    own: Last = {}

    class Kept(DistilTrainer):
        def log(self, logs: dict[str, float], *args: Any) -> None:
            if "loss" in logs and not own:
                own.update(audio=self.tally.audio, padded=self.tally.padded, items=int(self.items))
                own.update({name: float(value) for name, value in self.terms.items()})
            super().log(logs, *args)

    further = {"teacher": tiny_model(tiny_processor(), layers=1, seed=1), "shared": False, "kd": KdOptions()}
    return run("figures", Kept, further=further, max_steps=1) | own


for each in names:
    row = {"name": each, "rank": RANK} | globals()[each]()
    sys.stdout.write("RESULT " + json.dumps(row) + "\n")
    sys.stdout.flush()
