"""What a GPU can do, asked before Transformers is told to do it: TF32, bf16, one GPU of several, the same bits twice.

In: the options of a run. Out: arguments that this machine can follow, a warning, or one error line.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from egrecho_inner.errors import ConfigError

logger = logging.getLogger(__name__)


def tf32() -> bool | None:
    """Return True where the GPU multiplies fp32 matrices as TF32; None before Ampere, on ROCm and without a GPU."""
    return True if is_torch_tf32_available() else None


def check_bf16() -> None:
    """Refuse bf16 on a GPU that does not have it, warn where it is emulated (T4, V100).

    Raises:
        ConfigError: The GPU cannot do it.
    """
    if not torch.cuda.is_available():
        return
    name = torch.cuda.get_device_name()
    if not torch.cuda.is_bf16_supported():
        raise ConfigError(f"train.precision bf16: {name} does not have it; use fp16 or fp32")
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        logger.warning("train.precision bf16: %s only emulates it, slowly; fp16 is faster", name)


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Train on the first GPU where one process sees several; Transformers would wrap the model in DataParallel."""
    visible = arguments.n_gpu
    if visible > 1:
        logger.warning(
            "%d GPUs are visible, one process uses one of them; torchrun --nproc_per_node %d, or finetune.sh --nproc "
            "%d, trains on all",
            *[visible] * 3,
        )
        arguments._n_gpu = 1  # as the Trainer itself does for a model that lies on several devices


def use_deterministic_operations(wanted: bool | Literal["warn"]) -> None:
    """Let torch take only operations that give the same bits each time; called before the first of them.

    Args:
        wanted: `train.deterministic`; with False torch is left as it is.
    """
    if not wanted:
        return
    # or cuBLAS chooses its working memory, and with it the order of its sums, by what other streams do
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=wanted == "warn")


@contextlib.contextmanager
def random_operations_named() -> Iterator[None]:
    """Name an operation that `train.deterministic true` does not allow.

    Raises:
        ConfigError: Instead of torch's error.
    """
    try:
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not found:
            raise
        raise ConfigError(
            f"train.deterministic true: {operation} has no deterministic form on this device; do without what uses it "
            "(train.ctc_weight, AdaLoRA), or train.deterministic warn"
        ) from error


def same_bits_need() -> dict[str, str]:
    """Return what another run must share to give the same bits, besides settings, data and versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    return {"device": device}
