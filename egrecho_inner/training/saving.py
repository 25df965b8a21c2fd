"""The Trainer's saving and loading, made whole: a checkpoint appears complete or not at all.

In: Transformers' Trainer writes its files into `.writing/checkpoint-N`; out: sealed and renamed to `checkpoint-N`,
older ones rotated. Non-finite weights and a full disk end the run before they cost an earlier checkpoint.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from egrecho_inner.errors import DataError, MachineError, ModelError
from egrecho_inner.runtime.files import replace_folder
from egrecho_inner.training import collectives
from egrecho_inner.training.checkpoints import adalora
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.adalora import is_adalora
from egrecho_inner.training.family import Family
from egrecho_inner.training.guards import sharding
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)

EXTRAS = "extras.safetensors"
"""What trains with a model but is no part of its result; `ctc_head.safetensors` in older versions."""
DISK_WORDS = (
    *("iostream error", "writing file", "No space left", "File too large", "Disk quota", "os error 28"),
    "inline_container",  # torch's own zip file, which finds itself shorter than it wrote
)
"""How torch and safetensors say that a write failed."""


class SavingTrainer(Trainer):
    """A Trainer whose checkpoints are whole; the attributes are set by the subclass."""

    family: Family
    options: TrainOptions
    fingerprint: dict[str, Any]
    saved_step = -1
    """The step of the newest checkpoint written or loaded."""

    def _get_output_dir(self, trial: Any) -> str:
        # where super()._save_checkpoint writes "checkpoint-N": beside the place it is renamed to when whole
        return str(Path(self.args.output_dir) / checkpoint.WRITING)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.saved_step == self.state.global_step:
            return
        run = Path(self.args.output_dir)
        writing = run / checkpoint.WRITING
        self.check_weights()
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(run / f"{checkpoint.PREFIX}{self.state.best_global_step}")
        if self.args.should_save:
            shutil.rmtree(writing, ignore_errors=True)
            checkpoint.check_space(run, self.checkpoint_bytes())
        self.accelerator.wait_for_everyone()
        with disk_faults_named(run, writing):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            facts = {"step": self.state.global_step, **self.fingerprint}
            complete_checkpoint(run, facts, self.options.keep_checkpoints, best and Path(best))
        self.accelerator.wait_for_everyone()
        self.saved_step = self.state.global_step

    def check_weights(self) -> None:
        """Refuse to save what nobody could go on from; every process must call it, and all refuse together.

        Raises:
            DataError: A trained weight is not finite.
        """
        trained = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
        broken = next((name for name, weight in trained if not sharding.is_finite(weight)), None)
        if name := next(filter(None, collectives.gather(broken)), None):
            raise DataError(
                f"{name} holds NaN or infinite values at step {self.state.global_step}, which is not saved; lower "
                "train.learning_rate; the same command continues from the last checkpoint"
            )

    def checkpoint_bytes(self) -> int:
        """Estimate a checkpoint: the weights that are saved, and what the optimizer keeps of those that are trained."""
        sizes = [(sharding.numel(p), p.requires_grad) for p in self.model.parameters()]
        trained = sum(size for size, is_trained in sizes if is_trained)
        adapter = hasattr(self.model, "peft_config") or self.family.kept(self.model) is not None
        saved = trained if adapter else sum(size for size, _ in sizes)
        if self.is_deepspeed_enabled:  # 16 bits but for the optimizer's fp32 weights and two moments
            size = 4 if self.options.precision == "fp32" else 2
            again = saved - trained if self.accelerator.state.deepspeed_plugin.zero_stage == 3 else saved
            return size * (saved + again) + 12 * trained
        copies = 2 if self.is_fsdp_enabled else 1  # FSDP continues from a file of its own
        return copies * 4 * saved + 8 * trained

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        names = self.family.kept(self.accelerator.unwrap_model(self.model))
        if names is None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            state = self.model.state_dict() if state_dict is None else state_dict
            save_tensors({name: state[name] for name in sorted(names)}, Path(output_dir) / SAFE_WEIGHTS_NAME)
        if not self.args.should_save:
            return
        (Path(output_dir) / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle that nothing reads
        if is_adalora(self.model):
            adalora.save_state(self.model, Path(output_dir))
        # of a sharded model the state given is the gathered one
        extras = {k: v for k, v in (state_dict or self.model.state_dict()).items() if self.is_extra(k)}
        if extras:
            save_tensors(extras, Path(output_dir) / EXTRAS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        if is_adalora(self.model):
            adalora.load_state(self.model, folder)
            return
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if not self.is_fsdp_enabled:  # FSDP's own file has them
            load_extras(self.model, folder, self.is_extra)

    def is_extra(self, name: str) -> bool:
        """Return whether a weight is kept in a file of its own."""
        return bool(self.family.extras) and name.startswith(self.family.extras)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Account for every weight of a checkpoint that is continued.

        Raises:
            ModelError: Some are missing or belong to another model.
        """
        kept = self.family.kept(self.accelerator.unwrap_model(self.model))
        missing = [
            name
            for name in load_result.missing_keys
            if name not in self.family.ties and not self.is_extra(name) and (kept is None or name in kept)
        ]
        if missing or load_result.unexpected_keys:
            odd = [*missing, *load_result.unexpected_keys]
            raise ModelError(f"the checkpoint's weights are another model's: {len(odd)} of them, e.g. {odd[:3]}")

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        place = super()._init_training_state(max_steps, *args, **kwargs)
        # Transformers takes the old run's logging, evaluation and saving steps from its state
        self.state.compute_steps(self.args, max_steps)
        self.saved_step = self.state.global_step if self.state.global_step else -1
        return place


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, none of which share memory, as Transformers reads them."""
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(plain, path, {"format": "pt"})


def load_extras(model: nn.Module, folder: Path, is_extra: Callable[[str], bool]) -> None:
    """Load what a checkpoint keeps beside the model's own weights.

    Raises:
        ModelError: Some are missing.
    """
    wanted = {name: value for name, value in model.state_dict().items() if is_extra(name)}
    if not wanted:
        return
    old = folder / "ctc_head.safetensors"
    if old.is_file():  # of a version that knew this one extra, without its prefix
        found = {f"ctc_head.{name}": value for name, value in safetensors.torch.load_file(old).items()}
    else:
        found = safetensors.torch.load_file(folder / EXTRAS)
    if wanted.keys() != found.keys():
        raise ModelError(f"{folder / EXTRAS}: expected {sorted(wanted)[:3]}, found {sorted(found)[:3]}")
    model.load_state_dict(found, strict=False)


def complete_checkpoint(run: Path, facts: dict[str, Any], keep: int, best: Path | None) -> None:
    """Seal the checkpoint that was written, put it in its place and delete those it makes needless.

    Args:
        run: The run folder.
        facts: What the marker says besides the files.
        keep: Newest checkpoints to keep.
        best: The best checkpoint, kept too.

    Raises:
        MachineError: The disk is full, or writing was refused.
    """
    name, writing = f"{checkpoint.PREFIX}{facts['step']}", run / checkpoint.WRITING
    with disk_faults_named(run, writing):
        checkpoint.seal(writing / name, facts)
        replace_folder(writing / name, run / name)
        writing.rmdir()
    checkpoint.rotate(run, keep, best)


@contextlib.contextmanager
def disk_faults_named(run: Path, writing: Path) -> Iterator[None]:
    """Turn a failed write into one line, and take its remains away.

    Raises:
        MachineError: The disk is full, or writing was refused.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, OSError) and not any(words in text for words in DISK_WORDS):
            raise
        shutil.rmtree(writing, ignore_errors=True)
        last = checkpoint.steps(run)
        raise MachineError(
            f"{run}: a checkpoint could not be written ({text[:200]}); free space and repeat the command, it continues "
            f"from {last[0][1].name if last else 'the start'}"
        ) from error
