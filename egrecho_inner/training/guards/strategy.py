"""How a run is really divided over processes: one line of the log, and an error where that is not what was asked for.

accelerate turns FSDP on a CPU into plain DDP, and `accelerate launch --cpu --num_processes 2` into one process, both in
silence; Transformers turns one process that sees several GPUs into DataParallel, which cannot train on our batches.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from egrecho_inner.config import read_yaml
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.training.checkpoints.adalora import is_adalora
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)

MIN_SCALE = 1e-5
"""A GradScaler below this has found no scale at which the gradients are finite."""
DEEPSPEED_MIN_SCALE = "loss scale already at minimum"
"""How DeepSpeed, by a plain Exception, ends a run whose loss scale cannot fall further."""


def asked(options: TrainOptions, world_size: int) -> str:
    """Name the strategy that options and launcher ask for."""
    if options.deepspeed:
        return f"DeepSpeed ZeRO-{zero_stage(options.deepspeed)}"
    if options.fsdp:
        return "FSDP2"
    return "DDP" if world_size > 1 else "single"


def zero_stage(config: str) -> int:
    """Return the ZeRO stage of a DeepSpeed configuration."""
    return json.loads(Path(config).read_text(encoding="utf-8")).get("zero_optimization", {}).get("stage", 0)


def in_force(trainer: Any) -> str:
    """Name the strategy that a prepared trainer really uses."""
    kind, wrapped = trainer.accelerator.distributed_type, trainer.model_wrapped
    wrapped = getattr(wrapped, "_orig_mod", wrapped)  # torch.compile puts its module around DDP's
    if kind == DistributedType.DEEPSPEED:
        return f"DeepSpeed ZeRO-{wrapped.zero_optimization_stage()}"
    if kind == DistributedType.FSDP:
        return f"FSDP{trainer.accelerator.state.fsdp_plugin.fsdp_version}"
    if isinstance(wrapped, DataParallel):
        return "DataParallel"
    return "DDP" if isinstance(wrapped, DistributedDataParallel) and trainer.args.world_size > 1 else "single"


def check(trainer: Any, options: TrainOptions) -> None:
    """Log what is in force.

    Raises:
        ConfigError: It is not what was asked for.
    """
    wanted, found = asked(options, trainer.args.world_size), in_force(trainer)
    alone = trainer.args.world_size == 1 and {wanted, found} == {"single", "DDP"}  # torchrun with one process
    if found != wanted and not alone:
        raise ConfigError(
            f"{wanted} was asked for, {found} over {trainer.args.world_size} processes is what this launch on "
            f"{trainer.args.device.type} gets; FSDP needs GPUs and torchrun; on a CPU use DDP or train.deepspeed"
        )
    logger.info("strategy: %s, %d process(es), %s", found, trainer.args.world_size, trainer.args.device)


def check_model(model: nn.Module, options: TrainOptions) -> None:
    """Refuse a model or adapter that the strategy asked for cannot train rightly.

    Raises:
        ConfigError: AdaLoRA needs each weight's whole gradient beside the weight, which sharding takes away; or what
            `check_recomputation` finds.
    """
    check_recomputation(model, options)
    sharding = "train.deepspeed" if options.deepspeed else "train.fsdp" if options.fsdp else None
    if sharding and is_adalora(model):
        raise ConfigError(
            f"lora.method adalora cannot move its ranks under {sharding}, which keeps no whole gradients; use "
            f"lora.method lora or dora, or train without {sharding} (torchrun alone is DDP)"
        )


def check_recomputation(model: nn.Module, options: TrainOptions) -> None:
    """Refuse FSDP's own activation checkpointing where a layer has dropout.

    Raises:
        ConfigError: accelerate computes the layers again without restoring the random state, so with other dropout:
            the gradients would be those of another loss.
    """
    if options.fsdp and read_yaml(options.fsdp).get("activation_checkpointing") and has_dropout(model):
        raise ConfigError(
            f"{options.fsdp}: activation_checkpointing draws other dropout when it computes a layer again, which "
            "makes the gradients wrong, and this model or its adapter has dropout; set it to false and "
            "train.gradient_checkpointing true instead, or lora.dropout 0"
        )


def has_dropout(model: nn.Module) -> bool:
    """Tell whether a model draws dropout in training."""
    names = ("p", "dropout", "attention_dropout", "activation_dropout", "layerdrop")
    shares = [getattr(module, name, 0.0) for module in model.modules() for name in names]
    return any(isinstance(share, float) and share > 0 for share in shares)


def loss_scale(trainer: Any) -> float | None:
    """Return the present loss scale of fp16 training, of accelerate's scaler or DeepSpeed's; None without one."""
    scaler = trainer.accelerator.scaler
    if scaler is not None and scaler.is_enabled():
        return scaler.get_scale()
    engine = trainer.model_wrapped
    engine = getattr(engine, "_orig_mod", engine)
    if trainer.is_deepspeed_enabled and engine.fp16_enabled():
        return float(engine.optimizer.loss_scale)
    return None


@contextlib.contextmanager
def smallest_scale_named(step: int) -> Iterator[None]:
    """Name what DeepSpeed raises when no loss scale makes the gradients of fp16 finite.

    Raises:
        DataError: Instead of its Exception.
    """
    try:
        yield
    except Exception as error:
        if DEEPSPEED_MIN_SCALE not in str(error):
            raise
        raise DataError(fallen_scale("its minimum", step)) from error


def fallen_scale(scale: str, step: int) -> str:
    """Return the message of a loss scale that fell too far."""
    return f"the fp16 loss scale fell to {scale} at step {step}; use train.precision bf16"


def name_accelerator() -> None:
    """Tell DeepSpeed that no GPU is here: where it is installed, used or not, it warns of that on the screen."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def check_launcher() -> None:
    """Compare the processes a launcher was told to start with those that are there.

    Raises:
        ConfigError: One process where several were asked for.
    """
    parent = Path(f"/proc/{os.getppid()}/cmdline")
    if "WORLD_SIZE" in os.environ or "ACCELERATE_MIXED_PRECISION" not in os.environ or not parent.is_file():
        return
    words = parent.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    told = re.search(r"--num_processes[= ](\d+)", words)
    if told and int(told.group(1)) > 1:
        raise ConfigError(
            f"accelerate launch was asked for {told.group(1)} processes and started one, as it does on a CPU; use "
            f"torchrun --nproc_per_node {told.group(1)}"
        )
