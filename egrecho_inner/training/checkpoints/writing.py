"""How a checkpoint gets onto the disk: complete or not at all, with room for it, and with weights worth going on from.

In: a trainer, and what Transformers wrote into `.writing/checkpoint-N`. Out: sealed and renamed to `checkpoint-N`,
older ones rotated. Non-finite weights and a full disk end the run before they cost an earlier checkpoint.
"""

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn
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

EXTRAS = "extras.safetensors"
"""What trains with a model but is no part of its result; `ctc_head.safetensors` in older versions."""
DISK_WORDS = (
    *("iostream error", "writing file", "No space left", "File too large", "Disk quota", "os error 28"),
    "inline_container",  # torch's own zip file, which finds itself shorter than it wrote
)
"""How torch and safetensors say that a write failed."""


def write_checkpoint(trainer: Any, write: Callable[[], None]) -> None:
    """Write a checkpoint beside its place, seal it, rename it; every process must call it.

    Args:
        trainer: A `PlanTrainer`.
        write: Transformers' own, into the folder that `_get_output_dir` names.

    Raises:
        DataError: A weight is not finite.
        MachineError: The disk is full, or writing was refused.
    """
    run, state = Path(trainer.args.output_dir), trainer.state
    check_weights(trainer)
    if state.best_global_step:
        state.best_model_checkpoint = str(run / f"{checkpoint.PREFIX}{state.best_global_step}")
    if trainer.args.should_save:
        shutil.rmtree(run / checkpoint.WRITING, ignore_errors=True)
        checkpoint.check_space(run, trainer.checkpoint_bytes())
    trainer.accelerator.wait_for_everyone()
    with disk_faults_named(run, run / checkpoint.WRITING):
        write()
    trainer.accelerator.wait_for_everyone()
    if trainer.args.should_save:
        best, facts = state.best_model_checkpoint, {"step": state.global_step, **trainer.fingerprint}
        complete_checkpoint(run, facts, trainer.options.keep_checkpoints, best and Path(best))
    trainer.accelerator.wait_for_everyone()


def check_weights(trainer: Any) -> None:
    """Refuse to save what nobody could go on from; every process must call it, and all refuse together.

    Raises:
        DataError: A trained weight is not finite.
    """
    trained = ((name, weight) for name, weight in trainer.model.named_parameters() if weight.requires_grad)
    broken = next((name for name, weight in trained if not sharding.is_finite(weight)), None)
    if name := next(filter(None, collectives.gather(broken)), None):
        raise DataError(
            f"{name} holds NaN or infinite values at step {trainer.state.global_step}, which is not saved; lower "
            "train.learning_rate; the same command continues from the last checkpoint"
        )


def checkpoint_bytes(trainer: Any) -> int:
    """Estimate a checkpoint: the weights that are saved, and what the optimizer keeps of those that are trained."""
    sizes = [(sharding.numel(p), p.requires_grad) for p in trainer.model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    adapter = hasattr(trainer.model, "peft_config") or trainer.family.kept(trainer.model) is not None
    saved = trained if adapter else sum(size for size, _ in sizes)
    if trainer.is_deepspeed_enabled:  # 16 bits but for the optimizer's fp32 weights and two moments
        size = 4 if trainer.options.precision == "fp32" else 2
        again = saved - trained if trainer.accelerator.state.deepspeed_plugin.zero_stage == 3 else saved
        return size * (saved + again) + 12 * trained
    copies = 2 if trainer.is_fsdp_enabled else 1  # FSDP continues from a file of its own
    return copies * 4 * saved + (8 if trainer.average is None else 12) * trained


def save_kept(model: nn.Module, names: Collection[str], state: Mapping[str, torch.Tensor] | None, folder: Path) -> None:
    """Write what a family keeps of a model; `state` is the gathered one of a sharded model."""
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict() if state is None else state
    save_tensors({name: state[name] for name in sorted(names)}, folder / SAFE_WEIGHTS_NAME)


def is_extra(name: str, family: Family) -> bool:
    """Return whether a weight is kept in a file of its own."""
    return bool(family.extras) and name.startswith(family.extras)


def save_beside(trainer: Any, state: Mapping[str, torch.Tensor] | None, folder: Path) -> None:
    """Write what a checkpoint has beside the model's own files, and take away what nothing reads.

    Args:
        trainer: A `PlanTrainer`.
        state: The gathered weights of a sharded model.
        folder: Of the checkpoint.
    """
    (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)  # a pickle
    model, family = trainer.model, trainer.family
    if is_adalora(model):
        adalora.save_state(model, folder)
    extras = {name: value for name, value in (state or model.state_dict()).items() if is_extra(name, family)}
    if extras:
        save_tensors(extras, folder / EXTRAS)
    if trainer.average is not None:
        trainer.average.save(folder)


def odd_weights(
    missing: Iterable[str], unexpected: Iterable[str], kept: Collection[str] | None, family: Family
) -> list[str]:
    """Return the names that a checkpoint lacks, or has too many: none where it is this model's."""
    lacking = [
        name
        for name in missing
        if name not in family.ties and not is_extra(name, family) and (kept is None or name in kept)
    ]
    return [*lacking, *unexpected]


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors, none of which share memory, as Transformers reads them."""
    plain = {name: value.detach().contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(plain, path, {"format": "pt"})


def load_extras(model: nn.Module, family: Family, folder: Path) -> None:
    """Load what a checkpoint keeps beside the model's own weights.

    Raises:
        ModelError: Some are missing.
    """
    wanted = {name: value for name, value in model.state_dict().items() if is_extra(name, family)}
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
