"""What the processes of a run find out together. Every process must call each of these at the same moment.

In: one process's figures or objects. Out: the same answer on all; without other processes, its own.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist


def total(values: Sequence[float], device: torch.device) -> list[float]:
    """Sum figures over the processes, each by itself."""
    return reduce(values, device, dist.ReduceOp.SUM)


def largest(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the highest of each figure over the processes."""
    return reduce(values, device, dist.ReduceOp.MAX)


def reduce(values: Sequence[float], device: torch.device, operation: Any) -> list[float]:
    """Reduce figures over the processes; `device` is where the backend takes them from."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    if dist.is_initialized():
        dist.all_reduce(tensor, operation)
    return tensor.tolist()


def gather(item: Any) -> list[Any]:
    """Return the object of every process, in their order."""
    if not dist.is_initialized():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(items, item)
    return items
