"""A frozen base in 8 or 4 bits under an adapter (QLoRA, Dettmers et al. 2023, arXiv:2305.14314), by bitsandbytes.

In: a Whisper with its weights as they were loaded. Out: the same with the linear layers of its transformer replaced;
their weights are quantised when the model is moved to a GPU. Hashes of the base are taken before, so that the adapter
belongs to the base as it is published, and is merged into that.
"""

import torch
from torch import nn

from egrecho_inner.errors import ConfigError, extra_missing
from egrecho_inner.model.options import Bits

KEPT = ("proj_out", "ctc_head")
"""Heads stay: the first is the embedding's own matrix, the second is trained."""
OUTLIERS = 6.0
"""Activations above this are multiplied in 16 bits (Dettmers et al. 2022, arXiv:2208.07339)."""


def check_bits(bits: Bits | None) -> None:
    """Refuse what this machine cannot compute with, before a model is loaded.

    Raises:
        ConfigError: There is no NVIDIA GPU.
        MachineError: bitsandbytes is not installed.
    """
    if bits is None:
        return
    if not torch.cuda.is_available():
        raise ConfigError(f"lora.bits {bits} needs an NVIDIA GPU (CUDA), and there is none here; leave it out")
    try:
        import bitsandbytes  # noqa: F401  an extra
    except ImportError as error:
        raise extra_missing("bitsandbytes", "quant") from error


def quantize(model: nn.Module, bits: Bits | None) -> nn.Module:
    """Replace the linear layers of a model, in place; None leaves it as it is."""
    if bits is None:
        return model
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name not in KEPT:
                setattr(parent, name, quantized(child, bits))
    setattr(model, f"is_loaded_in_{bits}bit", True)  # how peft knows which of its layers to put around
    return model


def quantized(linear: nn.Linear, bits: Bits) -> nn.Module:
    """Return a layer of bitsandbytes with a linear layer's weights."""
    import bitsandbytes as bnb

    shape, bias = (linear.in_features, linear.out_features), linear.bias is not None
    weight = linear.weight.data
    if bits == 4:
        layer = bnb.nn.Linear4bit(
            *shape, bias, compute_dtype=torch.bfloat16, compress_statistics=True, quant_type="nf4"
        )
        layer.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    else:
        layer = bnb.nn.Linear8bitLt(*shape, bias, has_fp16_weights=False, threshold=OUTLIERS)
        layer.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    return layer
