"""How much arithmetic a step is, and how much the machine could do: together the model FLOPs utilisation (MFU).

Counted from the shapes of a batch, padding included, 2 per multiplication and addition (Kaplan et al. 2020,
arXiv:2001.08361, with attention); a backward pass is twice a forward pass where weights are trained, once where
gradients only pass through a frozen part, nothing before the first trained one.
"""

from typing import Any

import torch
from torch import nn

PEAKS = {
    # dense TFLOP/s of tensor cores: (bf16 or fp16, fp32 as TF32 or plain), from the makers' data sheets
    "B200": (2250, 1100), "GH200": (989, 494), "H200": (989, 494), "H100": (989, 494), "H100 NVL": (835, 417),
    "H100 PCIe": (756, 378), "A100": (312, 156), "A40": (150, 75), "A30": (165, 82), "A10": (125, 62), "A10G": (70, 35),
    "L40S": (362, 183), "L40": (181, 90), "L4": (121, 60), "V100": (125, 15.7), "T4": (65, 8.1), "RTX A6000": (155, 77),
    "RTX 3090": (71, 35.6), "RTX 4090": (165, 82.6),
}  # fmt: skip


class Counter:
    """Count what one batch costs to train on.

    Args:
        model: A Whisper, or one under an adapter.
    """

    def __init__(self, model: nn.Module):
        self.config = model.config
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        adapter = hasattr(model, "peft_config")
        in_encoder = any(".encoder." in name for name in trained)
        # forward, and per part: 2 with weight gradients, 1 passing through, 0 never reached
        through = 1 if adapter else 2
        self.encoder_passes = 1 + (through if in_encoder else 0)
        self.decoder_passes = 1 + (through if adapter or any(".decoder." in name for name in trained) else 1)

    def count(self, batch: dict[str, Any]) -> float:
        """Return the floating-point operations of one batch, forward and backward."""
        rows, mels, frames = batch["input_features"].shape
        tokens = batch["labels"].shape[1]
        encoder, decoder = forward(self.config, frames, tokens, mels)
        return rows * (self.encoder_passes * encoder + self.decoder_passes * decoder)


def forward(config: Any, frames: int, tokens: int, mels: int) -> tuple[float, float]:
    """Return the operations of encoder and decoder for one row of T frames and L tokens."""
    d, steps = config.d_model, (frames + 1) // 2
    convolutions = 2 * 3 * (frames * mels * d + steps * d * d)
    layer = 2 * steps * (4 * d * d + 2 * d * config.encoder_ffn_dim) + 4 * steps * steps * d
    encoder = convolutions + config.encoder_layers * layer
    own = 2 * tokens * (6 * d * d + 2 * d * config.decoder_ffn_dim) + 4 * tokens * tokens * d
    cross = 4 * steps * d * d + 4 * tokens * steps * d  # keys and values of the encoder's output; attention
    decoder = config.decoder_layers * (own + cross) + 2 * tokens * d * config.vocab_size
    return float(encoder), float(decoder)


def audio_per_second(config: Any, teraflops: float, mfu: float, seconds: float, tokens: float) -> float:
    """Return the seconds of audio that one GPU trains on per second.

    Args:
        config: Of the model.
        teraflops: Of the GPU at its peak.
        mfu: Share of the peak that training reaches.
        seconds: Of a typical utterance.
        tokens: Per second of audio.
    """
    encoder, decoder = forward(config, int(100 * seconds), int(tokens * seconds), config.num_mel_bins)
    return mfu * teraflops * 1e12 / (3 * (encoder + decoder) / seconds)


def peak(device: torch.device, precision: str) -> float | None:
    """Return the operations per second that the maker of a GPU states; None of others and of a CPU."""
    if device.type != "cuda":
        return None  # of a CPU none is known: measured by a matrix product, training reached 169 %
    name = peak_name(torch.cuda.get_device_name(device))
    return None if name is None else 1e12 * PEAKS[name][0 if precision != "fp32" else 1]


def peak_name(device: str) -> str | None:
    """Return the entry of PEAKS for a GPU's full name ("NVIDIA A100-SXM4-80GB" is an A100), None if it has none."""
    words = set(device.replace("-", " ").split())
    fitting = [name for name in PEAKS if words.issuperset(name.split()) and "Laptop" not in words]
    return max(fitting, key=lambda name: len(name.split()), default=None)
