"""A small training run for tests, in this process or in a forked child that may be killed.

Everything random is on: dropout, SpecAugment, volume; nothing takes longer than a few seconds.
"""

import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from tiny import tiny_model, tiny_processor

from egrecho_inner.config import plain
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, VolumeOptions
from egrecho_inner.errors import UserError
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.resume import Allowance
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.trainer import PlanTrainer
from egrecho_inner.training.whisper_family import WhisperFamily

torch.set_num_threads(1)  # bits depend on it, and a forked child has no other

TRAIN = TrainOptions(
    max_steps=7, learning_rate=1e-3, eval_steps=3, logging_steps=1, workers=0, report_to=[], metric="loss"
)


def train(
    cuts: Path,
    out: Path,
    dev: Path | None = None,
    lora: LoraOptions | None = None,
    allow: Allowance = Allowance(),
    batch: BatchOptions = BatchOptions(max_duration=None, batch_size=3),
    dropout: float = 0.1,
    augment: AugmentOptions | None = AugmentOptions(volume=VolumeOptions()),
    max_skip_ratio: float = 0.01,
    features: Literal["workers", "device"] = "workers",
    make_trainer: Callable[..., PlanTrainer] = PlanTrainer,
    **changes: Any,
) -> Path:
    """Train a tiny model with dropout and augmentation; the arguments are `fit`'s, `changes` go to TrainOptions."""
    processor = tiny_processor()
    model = tiny_model(processor, layers=1, ending=3.3)
    model.config.dropout = dropout
    for module in model.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = dropout
    options = dataclasses.replace(TRAIN, **changes)
    data = DataOptions(train=str(cuts), dev=None if dev is None else str(dev), max_skip_ratio=max_skip_ratio)
    data = dataclasses.replace(data, features=features)
    config = plain({"data": data, "batch": batch, "train": options, "augment": augment, "lora": lora})
    adapt = None if lora is None else lambda base, steps: add_adapter(base, lora, steps, options.seed)
    family = WhisperFamily(model, processor, data)
    return fit(
        model, family, out, data, batch, options, WindowOptions(), augment, config, adapt, allow=allow,
        make_trainer=make_trainer,
    )  # fmt: skip


def in_child(work: Callable[[], Any]) -> int:
    """Run a function in a forked child; its exit code, negative for the signal that ended it."""
    assert torch.get_num_threads() == 1, "the child would wait for OpenMP threads that it does not have"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def kill_at_step(step: int, number: int = signal.SIGKILL) -> None:
    """Make every trainer of this process send itself a signal when a step has been taken, before it is saved."""
    kept, sent = PlanTrainer._maybe_log_save_evaluate, []

    def dying(self: PlanTrainer, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step == step and not sent:  # it is called once more when the loop ends
            sent.append(step)
            os.kill(os.getpid(), number)
        kept(self, *args, **kwargs)

    PlanTrainer._maybe_log_save_evaluate = dying


def kill_in_save(step: int) -> None:
    """Make every trainer of this process die in the middle of writing a checkpoint."""
    kept = PlanTrainer._save_optimizer_and_scheduler

    def dying(self: PlanTrainer, folder: str) -> None:
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        kept(self, folder)

    PlanTrainer._save_optimizer_and_scheduler = dying


def kill_in_seal(step: int) -> None:
    """Make this process die when all of a checkpoint is written but for its marker."""
    kept = checkpoint.seal

    def dying(folder: Path, facts: dict[str, Any]) -> None:
        if facts["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        kept(folder, facts)

    checkpoint.seal = dying


def weights(place: Path) -> dict[str, torch.Tensor]:
    """Load the weights of a result."""
    return load_file(next(place.glob("*.safetensors")))


def same(left: Path, right: Path) -> bool:
    """Tell whether two results hold the same bits."""
    one, other = weights(left), weights(right)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
