"""How a run is really divided over processes, said in one line, and an error where that is not what was asked for.

accelerate turns FSDP on a CPU into plain DDP, and `accelerate launch --cpu --num_processes 2` into one process, both in
silence.
"""

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch.nn.parallel import DistributedDataParallel

from egrecho_inner.errors import ConfigError
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)


def asked(options: TrainOptions, world_size: int) -> str:
    """Name the strategy that options and launcher ask for."""
    if options.deepspeed:
        stage = json.loads(Path(options.deepspeed).read_text()).get("zero_optimization", {}).get("stage", 0)
        return f"DeepSpeed ZeRO-{stage}"
    if options.fsdp:
        return "FSDP2"
    return "DDP" if world_size > 1 else "single"


def in_force(trainer: Any) -> str:
    """Name the strategy that a prepared trainer really uses."""
    kind, wrapped = trainer.accelerator.distributed_type, trainer.model_wrapped
    if kind == DistributedType.DEEPSPEED:
        return f"DeepSpeed ZeRO-{wrapped.zero_optimization_stage()}"
    if kind == DistributedType.FSDP:
        return f"FSDP{trainer.accelerator.state.fsdp_plugin.fsdp_version}"
    return "DDP" if isinstance(wrapped, DistributedDataParallel) else "single"


def check(trainer: Any, options: TrainOptions) -> None:
    """Say what is in force.

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
