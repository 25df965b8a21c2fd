"""What a training step holds in memory, by arithmetic: size of model x method, before anything is bought or queued.

In: a model's shape (from the meta device, no weights), a method, a batch. Out: bytes per process of weights, gradients,
optimizer and activations. Activations are counted per layer after Korthikanti et al. 2022 (arXiv:2205.05198), with
memory-efficient attention (no S x S matrix is kept). The allocator's and CUDA's own share is added as SLACK.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import WhisperConfig

from egrecho_inner.model.options import SIZES
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.training.options import Method, Sharding

SLACK = 1.2e9
"""Bytes of CUDA's context and of fragments between tensors."""
LOGITS = 3
"""Copies of the vocabulary-wide matrix alive at once: logits, their fp32 form, their gradient."""
BUCKET = 100_000_000
"""Gradients that DeepSpeed sends at a time: `reduce_bucket_size` of config/ds_*.json, held twice to overlap."""


USABLE = 0.95
"""Share of a GPU's memory that an estimate may take."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    host: float = 0.0
    """In the machine's memory instead of the GPU's."""

    @property
    def total(self) -> float:
        """All that the GPU holds."""
        return self.weights + self.gradients + self.optimizer + self.activations + SLACK


def shape(name: str, tokens: int | None = None) -> WhisperConfig:
    """Return the configuration of a named size, with the vocabulary of its family if not another one."""
    width, heads, encoder, decoder, mels = SIZES[name]
    return WhisperConfig(
        vocab_size=tokens or (51866 if mels == 128 else 51865),
        pad_token_id=0,  # Whisper's own would lie outside of a smaller vocabulary
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        num_mel_bins=mels,
        d_model=width,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_layers=encoder,
        decoder_layers=decoder,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
    )


def shell(config: WhisperConfig) -> nn.Module:
    """Build a model without memory."""
    with torch.device("meta"):
        return Whisper(config)


def trained_parameters(model: nn.Module, method: Method, rank: int, targets: Iterable[str]) -> int:
    """Return how many parameters a method trains.

    Args:
        model: On any device.
        method: All weights, or an adapter.
        rank: Of the adapter.
        targets: Names of the linear layers it adapts.
    """
    if method == "full":
        return sum(p.numel() for p in model.parameters())
    wanted = set(targets)
    linear = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.split(".")[-1] in wanted]
    return sum(rank * (m.in_features + m.out_features) for m in linear)


def activations(
    config: WhisperConfig,
    seconds: float,
    longest: float,
    tokens: float,
    method: Method,
    checkpointing: bool,
    half: bool,
) -> float:
    """Return the bytes that forward keeps for backward.

    Args:
        config: Of the model.
        seconds: Of the batch, padding included.
        longest: Of its longest utterance; with `seconds` its rows.
        tokens: Per second of audio.
        method: Under an adapter most inputs of frozen layers need not be kept.
        checkpointing: Layers keep their input only.
        half: bf16 or fp16 autocast.
    """
    width, size = config.d_model, 2 if half else 4
    steps, words = 50 * seconds, tokens * seconds
    # inputs of the linear layers, attention's q, k, v and output, norms and GELU: 34 s b h bytes at 2 per number
    kept = 17.0 if method == "full" else 13.0
    encoder = 1.0 if checkpointing else kept
    decoder = 1.0 if checkpointing else kept + 7.0  # with cross-attention
    bytes_kept = size * width * (
        steps * config.encoder_layers * encoder
        + words * config.decoder_layers * decoder
        + (0 if checkpointing else 2 * steps * config.decoder_layers)  # keys and values over the encoder's output
    )  # fmt: skip
    if checkpointing:  # one layer at a time is computed anew
        bytes_kept += size * width * steps * kept
    front = size * 2 * seconds * 100 * width  # convolutions at 10 ms
    return bytes_kept + front + LOGITS * 4 * words * config.vocab_size


def footprint(
    total: int, trained: int, kept: float, sharding: Sharding = "none", processes: int = 1, half: bool = True
) -> Footprint:
    """Divide weights, gradients and optimizer over processes as a method does.

    Without sharding weights and gradients are fp32, and autocast keeps a 16-bit copy of the weights in use. DeepSpeed's
    weights and gradients have 16 bits; the optimizer holds the fp32 weights beside its two moments, and every process
    two buffers in which gradients travel.

    Args:
        total: Parameters of the model.
        trained: Those that are trained.
        kept: Bytes of activations.
        sharding: What is divided, and whether the optimizer lives in the machine's memory.
        processes: Over how many.
        half: bf16 or fp16.
    """
    if sharding == "none":
        return Footprint((6 if half else 4) * total, 4 * trained, 8 * trained, kept)
    stage, size = int(sharding[4]), 2 if half else 4
    share = [1 / processes if stage >= least else 1 for least in (3, 2, 1)]
    weights, gradients, optimizer = size * total * share[0], size * trained * share[1], 12 * trained * share[2]
    host = 0.0
    if sharding.endswith("offload"):
        host, optimizer = optimizer, 0.0
        if stage == 3:
            host, weights = host + weights, size * total / 12  # a few layers at a time
    return Footprint(weights, gradients + 2 * size * BUCKET, optimizer, kept, host * processes)
