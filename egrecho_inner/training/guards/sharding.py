"""A plain copy of a model that is sharded over processes (ZeRO-3, FSDP2), for decoding, and for a frozen encoder.

In: a model after `accelerator.prepare`, unwrapped. Out: the model itself where it is not sharded, else a copy on each
process. Decoding a sharded model would need every process at every token: processes with fewer cuts would wait for
ever. Whether one process can hold a copy is for the family to know.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.distributed.tensor import DTensor

WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")
"""What activation checkpointing of FSDP and torch.compile put into the names of parameters."""


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a model's parameters are divided over processes."""
    return any(hasattr(p, "ds_id") or isinstance(p.data, DTensor) for p in model.parameters())


def numel(parameter: nn.Parameter) -> int:
    """Return how many numbers a parameter has over all processes; ZeRO-3's own count is 0 or its share."""
    return getattr(parameter, "ds_numel", parameter.numel())


def is_finite(parameter: nn.Parameter) -> bool:
    """Tell whether the numbers that this process holds of a parameter are finite."""
    held = getattr(parameter, "ds_tensor", parameter).detach()
    held = held.to_local() if isinstance(held, DTensor) else held
    return bool(torch.isfinite(held).all())


def plain_name(name: str) -> str:
    """Return a parameter's name without what wrappers put into it."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def unsharded(module: nn.Module, plain: Callable[[nn.Module], nn.Module | None]) -> nn.Module | None:
    """Return a module itself, or a plain copy where it is sharded; every process must call it.

    Args:
        module: The unwrapped model, or a part of it.
        plain: Builds a module like it (`Family.plain`).

    Returns:
        In eval mode where it is a copy; None where one process cannot hold it.
    """
    if not is_sharded(module):
        return module
    like = plain(module)
    return None if like is None else filled(like, module).eval()


def filled(plain: nn.Module, model: nn.Module) -> nn.Module:
    """Give a plain module the values and types of a sharded one, on its device."""
    device = next(model.parameters()).device
    parameters = {plain_name(name): value for name, value in model.named_parameters()}
    buffers = {plain_name(name): value for name, value in model.named_buffers()}
    with torch.no_grad():
        for name, target in plain.named_parameters():
            with gathered(parameters[name]) as value:
                target.data = value.detach().to(device=device, copy=True)
        for name, buffer in plain.named_buffers():
            buffer.copy_(buffers[name])
    return plain.to(device)


@contextlib.contextmanager
def gathered(parameter: torch.Tensor) -> Iterator[torch.Tensor]:
    """Give the full value of one parameter for a moment."""
    if isinstance(parameter.data, DTensor):
        yield parameter.data.full_tensor()
    elif hasattr(parameter, "ds_id"):
        import deepspeed  # optional; there if a parameter has its mark

        with deepspeed.zero.GatheredParameters([parameter]):
            yield parameter.data
    else:
        yield parameter.data
