"""What training Whisper costs: operations of a batch, and bytes of activations that forward keeps for backward.

Operations are counted from the shapes of a batch, padding included, 2 per multiplication and addition (Kaplan et al.
2020, arXiv:2001.08361, with attention); a backward pass is twice a forward pass where weights are trained, once where
gradients only pass through a frozen part, nothing before the first trained one. Activations are counted per layer after
Korthikanti et al. 2022 (arXiv:2205.05198), with memory-efficient attention (no S x S matrix is kept).
"""

from typing import Any

import torch
from torch import nn
from transformers import WhisperConfig

from egrecho_inner.data.batches.tensors import LoadedBatch
from egrecho_inner.model.options import SIZES
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.training.options import Method

LOGITS = 3
"""Copies of the vocabulary-wide matrix alive at once: logits, their fp32 form, their gradient."""


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

    def count(self, batch: LoadedBatch) -> float:
        """Return the floating-point operations of one batch, forward and backward."""
        rows, mels, frames = batch.inputs["input_features"].shape
        encoder, decoder = forward(self.config, frames, batch.tokens, mels)
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
