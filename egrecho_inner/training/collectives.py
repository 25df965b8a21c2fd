"""What the processes of a run find out together. Every process must call each of these at the same moment.

In: one process's figures or objects. Out: the same answer on all; without other processes, its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from egrecho_inner.runtime.devices import exact_device

BUCKET = 2**23
"""Numbers that are averaged in one message: 32 MB in fp32."""


def total(values: Sequence[float], device: torch.device) -> list[float]:
    """Sum figures over the processes, each by itself."""
    return reduce(values, device, dist.ReduceOp.SUM)


def largest(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the highest of each figure over the processes."""
    return reduce(values, device, dist.ReduceOp.MAX)


def reduce(values: Sequence[float], device: torch.device, operation: Any) -> list[float]:
    """Reduce figures over the processes; `device` is where the backend takes them from."""
    tensor = torch.tensor(values, dtype=torch.float64, device=exact_device(device))
    if dist.is_initialized():
        dist.all_reduce(tensor, operation)
    return tensor.tolist()


def average(tensors: Iterable[torch.Tensor]) -> None:
    """Give all processes the mean of each tensor, in place; some at a time, as DistributedDataParallel does."""
    if not dist.is_initialized():
        return
    bucket: list[torch.Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            average_bucket(bucket)
            bucket = []
        bucket.append(tensor)
    if bucket:
        average_bucket(bucket)


def average_bucket(tensors: list[torch.Tensor]) -> None:
    """Average tensors as one message."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).div_(dist.get_world_size())
    dist.all_reduce(flat)
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def gather(item: Any) -> list[Any]:
    """Return the object of every process, in their order."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items
