"""A whole model from one that lies in pieces on several processes (ZeRO-3, FSDP2), for decoding and saving.

Decoding a sharded model would need every process at every token: processes with fewer cuts would wait for ever. So each
gets a plain copy for as long as it decodes; every Whisper fits one device.
"""

import contextlib
import copy
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.distributed.tensor import DTensor

from egrecho_inner.model.whisper import Whisper


def is_sharded(model: nn.Module) -> bool:
    """Tell whether a model's parameters lie in pieces."""
    return any(hasattr(p, "ds_id") or isinstance(p.data, DTensor) for p in model.parameters())


def whole(model: nn.Module) -> nn.Module:
    """Return the model itself, or a plain copy where it is sharded; every process must call it.

    Args:
        model: A Whisper or a PeftModel of one, unwrapped.
    """
    if not is_sharded(model):
        return model
    with torch.random.fork_rng(devices=[]):  # the copy's random weights are drawn and overwritten
        base = Whisper(model.config)
        plain = base
        if isinstance(model, PeftModel):
            plain = get_peft_model(base, copy.deepcopy(model.peft_config["default"]))
    base.generation_config = model.generation_config
    device = next(model.parameters()).device
    pieces = dict(model.named_parameters())
    with torch.no_grad():
        for name, target in plain.named_parameters():
            with gathered(pieces[name]) as value:
                target.data = value.detach().to(device=device, copy=True)
        for name, buffer in plain.named_buffers():
            buffer.copy_(model.get_buffer(name))
    return plain.to(device).eval()


@contextlib.contextmanager
def gathered(piece: torch.Tensor) -> Any:
    """Give the whole of one parameter for a moment."""
    if isinstance(piece.data, DTensor):
        yield piece.data.full_tensor()
    elif hasattr(piece, "ds_id"):
        import deepspeed  # optional; there if a parameter has its mark

        with deepspeed.zero.GatheredParameters([piece]):
            yield piece.data
    else:
        yield piece.data
