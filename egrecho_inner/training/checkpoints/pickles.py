"""The pickles in a checkpoint that others may have made: nothing in them is run.

Transformers reads optimizer, schedule and random states with `weights_only`; DeepSpeed reads its shards without. So all
of them are opened here first, by the reader that knows tensors, numbers and the few names below, and nothing else.
"""

import contextlib
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_pt_utils import safe_globals

from egrecho_inner.errors import ModelError

ENDINGS = ("*.pt", "*.pth", "*.bin")


def check_pickles(checkpoint: Path) -> None:
    """Refuse a checkpoint with a file that would run something when it is read.

    Raises:
        ModelError: Naming the file.
    """
    for path in sorted(path for ending in ENDINGS for path in checkpoint.rglob(ending)):
        try:
            with safe_globals(), torch.serialization.safe_globals(deepspeed_names() if sharded(path) else []):
                torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # tensors stay on the disk
        except Exception as error:
            reason = " ".join(str(error).split())
            named = reason[reason.find("GLOBAL ") :].split(" ")[1] if "GLOBAL " in reason else type(error).__name__
            raise ModelError(
                f"{path} holds more than numbers ({named}) and is not opened; a checkpoint of ours has no such thing: "
                "remove that checkpoint, an earlier one or none is then continued"
            ) from error


def sharded(path: Path) -> bool:
    """Tell whether a file is DeepSpeed's."""
    return path.parent.name.startswith("global_step")


def deepspeed_names() -> list[Any]:
    """Return what DeepSpeed's shards name, where DeepSpeed is installed."""
    with contextlib.suppress(ImportError):
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address

        return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]
    return []
