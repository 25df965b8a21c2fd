"""When memory runs out: which batch it was, what to set, and finding out before the first step.

In: a batch as the model gets it. Out: `OutOfMemory`, a MachineError whose line names the batch's seconds, its longest
cut and a `batch.max_duration` to try; `halve()` makes that change with the effective batch kept.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from egrecho_inner.data.batching import BatchPlan
from egrecho_inner.data.dataset import CutBatches
from egrecho_inner.data.device_features import transform
from egrecho_inner.data.options import BatchOptions
from egrecho_inner.data.shards import StreamPlan
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.training import loaders
from egrecho_inner.training.options import TrainOptions

logger = logging.getLogger(__name__)


class OutOfMemory(MachineError):
    """A batch did not fit."""


def bound_kernel_cache() -> None:
    """Keep oneDNN from remembering 1,024 kernels, one for every shape it meets: on a CPU memory grew without end.

    A nano Whisper on batches of all lengths grew by 170 MB in 80 steps, with this by 30, at the same CPU time.
    It is read once, at the first convolution.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, on a GPU or on the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


@contextlib.contextmanager
def named(inputs: dict[str, Any], batch: BatchOptions, step: int | str) -> Iterator[None]:
    """Turn running out of memory into a line that names the batch.

    Raises:
        OutOfMemory: Instead of torch's error.
    """
    rows, _, frames = inputs["input_features"].shape
    tokens = inputs["labels"].shape[1]
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(describe(rows, frames / 100, tokens, batch, step)) from error


@contextlib.contextmanager
def faults_named() -> Iterator[None]:
    """Name what `named` cannot see: memory that runs out in the optimizer, a loader process that dies at any moment.

    Raises:
        MachineError: Instead of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError, EOFError, ConnectionError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                "out of memory outside of a batch (optimizer or evaluation): set batch.max_duration lower, freeze "
                "parts, use an adapter, or shard the optimizer with train.deepspeed config/ds_zero2.json"
            ) from error
        if not (text := loaders.death(error)):
            raise
        raise MachineError(f"{text} {loaders.REMEDY}; the same command continues from the last checkpoint") from error


def describe(rows: int, longest: float, tokens: int, batch: BatchOptions, step: int | str) -> str:
    """Say which batch did not fit, and what to do."""
    if batch.batch_size is not None:
        remedy = f"set batch.batch_size to {max(rows // 2, 1)}"
    elif rows == 1:
        remedy = "one cut alone is too much: set data.max_seconds lower, or train.gradient_checkpointing true"
    else:
        remedy = f"set batch.max_duration to {max(int(0.7 * rows * longest), int(longest) + 1)}"
    return (
        f"out of memory at step {step} with {rows} cuts of up to {longest:.1f} s and {tokens} tokens "
        f"({rows * longest:.0f} s with padding); {remedy} (and train.accumulation higher to keep the effective "
        "batch), or train.gradient_checkpointing true, or train.auto_halve true; the same command then continues"
    )


def rehearse(
    model: nn.Module, batches: CutBatches, plan: BatchPlan | StreamPlan, device: torch.device, precision: str
) -> None:
    """Run the plan's largest batch forward and backward once, and leave no trace of it.

    Args:
        model: On its device, not wrapped yet.
        batches: Makes its tensors.
        plan: Knows which it is.
        device: Of the model.
        precision: Of the run.

    Raises:
        OutOfMemory: It does not fit.
    """
    largest = plan.largest()
    if largest is None:
        logger.info("no rehearsal: a stream cannot be asked for its longest cuts")
        return
    batch = batches[largest]
    transform(batch, batches.n_mels, device)
    inputs = {k: v.to(device) for k, v in batch.items() if isinstance(v, torch.Tensor)}
    training = model.training
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), named(inputs, plan.options, "0 (rehearsal)"):
        model.train()
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            loss = model(**inputs).loss
        loss.backward()
        trained = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
        if device.type == "cuda":
            # what the optimizer will take at its first step: two moments
            torch.empty(2 * trained, dtype=torch.uint8, device=device)
    model.zero_grad(set_to_none=True)
    model.train(training)
    if device.type == "cuda":
        logger.info(
            "rehearsal: the largest batch (%.0f s with padding) takes %.1f of %.1f GB",
            plan.padded_seconds(largest), torch.cuda.max_memory_allocated() / 1e9,
            torch.cuda.get_device_properties(device).total_memory / 1e9,
        )  # fmt: skip
        torch.cuda.empty_cache()


def halve(batch: BatchOptions, train: TrainOptions, times: int = 1) -> tuple[BatchOptions, TrainOptions]:
    """Halve what a process holds at once and double the accumulation: a step's audio stays the same.

    Raises:
        ConfigError: Nothing is left to halve.
    """
    if times == 0:
        return batch, train
    share = 2**times
    if batch.batch_size is not None:
        if batch.batch_size < share:
            raise ConfigError(f"batch.batch_size cannot be halved {times} times; set train.gradient_checkpointing true")
        batch = dataclasses.replace(batch, batch_size=batch.batch_size // share)
    else:
        batch = dataclasses.replace(batch, max_duration=batch.max_duration / share)
    return batch, dataclasses.replace(train, accumulation=train.accumulation * share)
