"""When memory runs out: which batch it was, and what to set.

In: a batch as the model gets it. Out: `OutOfMemory`, a MachineError whose line names the batch's seconds, its longest
cut and a `batch.max_duration` to try; `halve()` makes that change with the effective batch kept.
"""

import contextlib
import dataclasses
import gc
import os
import traceback
from collections.abc import Iterator

import torch
from torch import nn

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.training.guards import loaders
from egrecho_inner.training.options import TrainOptions


class OutOfMemory(MachineError):
    """Memory ran out.

    Args:
        message: For people.
        rows: Cuts of the batch that did not fit; weights and optimizer are then as after the last step. 0 where it was
            no batch: the optimizer may have updated half of the weights.
    """

    def __init__(self, message: str, rows: int = 0):
        super().__init__(message)
        self.rows = rows

    def bare(self) -> "OutOfMemory":
        """Return the same without its traceback, whose frames hold the batch's activations, but for its text."""
        bare = OutOfMemory(str(self), self.rows)
        bare.add_note("".join(traceback.format_exception(self)))
        return bare


def bound_kernel_cache() -> None:
    """Keep oneDNN from remembering 1,024 kernels, one for every shape it meets: on a CPU memory grew without end.

    A nano Whisper on batches of all lengths grew by 170 MB in 80 steps, with this by 30, at the same CPU time.
    It is read once, at the first convolution.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on a GPU or on the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


@contextlib.contextmanager
def named(loaded: LoadedBatch, batch: BatchOptions, step: int | str) -> Iterator[None]:
    """Turn running out of memory into a line that names the batch.

    Raises:
        OutOfMemory: Instead of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        text = describe(loaded.rows, loaded.row_seconds, loaded.tokens, batch, step)
        raise OutOfMemory(text, loaded.rows) from error


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
                "out of memory outside of a batch (in the optimizer, most often): set batch.max_duration lower, freeze "
                "parts, use an adapter, or shard the optimizer with train.deepspeed config/ds_zero2.json; the same "
                "command continues from the last checkpoint"
            ) from error
        if not (text := loaders.death(error)):
            raise
        raise MachineError(f"{text} {loaders.REMEDY}; the same command continues from the last checkpoint") from error


@contextlib.contextmanager
def evaluation_named(step: int) -> Iterator[None]:
    """Turn running out of memory while development cuts are scored into a line of its own: no smaller batch helps.

    Raises:
        OutOfMemory: Instead of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory while the development cuts were scored after step {step}, which is saved; take the longest "
            "out of data.dev, or set train.metric loss, which decodes nothing; the same command then continues"
        ) from error


def moments(model: nn.Module, optimizer: str) -> int:
    """Return the bytes that an optimizer takes at its first step."""
    each = {"adamw": 2, "lion": 1}.get(optimizer, 0)
    return each * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def release() -> None:
    """Give back what nothing refers to any more but circles of references, which Python would keep for a while."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe(rows: int, longest: float, tokens: int, batch: BatchOptions, step: int | str) -> str:
    """Describe the batch that did not fit, and what to do."""
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


def halve(batch: BatchOptions, train: TrainOptions, times: int = 1) -> tuple[BatchOptions, TrainOptions]:
    """Halve what a process holds at once and raise the accumulation: a step's audio stays the same.

    Raises:
        ConfigError: Nothing is left to halve.
    """
    if times == 0:
        return batch, train
    share = 2**times
    if batch.batch_size is not None:
        if batch.batch_size < share:
            raise ConfigError(f"batch.batch_size cannot be halved {times} times; set train.gradient_checkpointing true")
        size = batch.batch_size // share
        batch, share = dataclasses.replace(batch, batch_size=size), round(batch.batch_size / size)  # 3 is 1 three times
    else:
        batch = dataclasses.replace(batch, max_duration=batch.max_duration / share)
    return batch, dataclasses.replace(train, accumulation=train.accumulation * share)
