"""What training a speech LLM holds in memory, by arithmetic, for `egrecho plan`: method x language model.

In: shapes from the meta device, no weights. Out: bytes of a process. Frozen parts have 16 bits; what is trained has
fp32 weights, gradients and two moments. The language model's activations are kept even where it is frozen, for the
gradient goes through it to the projector. The kernels' own share is added as `cost.SLACK`.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig

from egrecho_inner.model.audio_encoder import empty_encoder
from egrecho_inner.model.projector import make_projector
from egrecho_inner.model.speech_options import ProjectorOptions
from egrecho_inner.training.cost import SLACK, USABLE

LLMS = {
    # width, feed-forward, layers, heads, key-value heads, vocabulary (config.json of Vicuna 1.5 and Llama 3)
    "7B": (4096, 11008, 32, 32, 32, 32000),
    "13B": (5120, 13824, 40, 40, 40, 32000),
    "70B": (8192, 28672, 80, 64, 8, 128256),
}
METHODS = ("projector", "+ LoRA", "+ encoder", "whole LLM")
MEMORIES = (24, 48, 80, 141)
LORA_RANK = 64
PROMPT_TOKENS, VECTORS, WORDS = 20, 10, 4
"""Tokens of a prompt, vectors of a second (50 frames by 5), tokens of text of a second."""
KEPT = 13.0
"""Numbers that a frozen layer keeps for each position and unit of width (inputs of norms, attention, activation)."""
WEIGHT_BYTES, TRAINED_BYTES = 2, 16
"""Of a frozen parameter; of a trained one: fp32 weight, gradient and two moments."""


@dataclass(frozen=True)
class Sizes:
    """Parameters of the parts."""

    encoder: int
    projector: int
    llm: int
    lora: int


def sizes(name: str) -> tuple[LlamaConfig, Sizes]:
    """Return the shape of a language model and the parameters of all parts, with the encoder of Whisper large-v3."""
    width, hidden, layers, heads, groups, words = LLMS[name]
    config = LlamaConfig(
        vocab_size=words, hidden_size=width, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups,
    )  # fmt: skip
    whisper = WhisperConfig(
        d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120, num_mel_bins=128
    )
    with torch.device("meta"):
        llm, encoder = LlamaForCausalLM(config), empty_encoder(whisper)
        projector = make_projector(ProjectorOptions(), encoder.width, width)
    linear = [module for path, module in llm.named_modules() if isinstance(module, nn.Linear) and "lm_head" not in path]
    lora = sum(LORA_RANK * (module.in_features + module.out_features) for module in linear)
    counts = [sum(each.numel() for each in part.parameters()) for part in (encoder, projector, llm)]
    return config, Sizes(*counts, lora)


def need(config: LlamaConfig, found: Sizes, method: str, seconds: float, gpus: int, checkpointing: bool) -> float:
    """Return the bytes of a process.

    Args:
        config: Of the language model.
        found: Parameters of the parts.
        method: One of METHODS.
        seconds: Of audio in a batch.
        gpus: Over which FSDP divides weights, gradients and moments; 1 divides nothing.
        checkpointing: Layers keep their input only.
    """
    trained = found.projector + {"+ LoRA": found.lora, "+ encoder": found.encoder, "whole LLM": found.llm}.get(
        method, 0
    )
    frozen = found.encoder + found.projector + found.llm + (found.lora if method == "+ LoRA" else 0) - trained
    positions = (VECTORS + WORDS) * seconds + PROMPT_TOKENS * seconds / 10
    kept = 1.0 if checkpointing else KEPT + (4.0 if method == "whole LLM" else 0.0)
    activations = 2 * config.hidden_size * positions * config.num_hidden_layers * kept
    activations += 3 * 4 * WORDS * seconds * config.vocab_size
    if method == "+ encoder":
        activations += 2 * 1280 * 50 * seconds * 32 * (1.0 if checkpointing else 17.0)
    return (WEIGHT_BYTES * frozen + TRAINED_BYTES * trained) / gpus + activations + SLACK


def slam_rows(name: str, seconds: float, gpus: int) -> list[str]:
    """Return the lines of one language model: every method, and which GPUs it fits."""
    config, found = sizes(name)
    lines = []
    for method in METHODS:
        for checkpointing in (False, True):
            total = need(config, found, method, seconds, gpus, checkpointing) / 1e9
            fits = "".join(f"{'yes' if total <= USABLE * memory else 'no':>7}" for memory in MEMORIES)
            label = f"{gpus} x FSDP" if gpus > 1 else "one GPU"
            ckpt = "+ckpt" if checkpointing else ""
            lines.append(f"{name:6}{method:12}{label:12}{ckpt:7}{total:8.1f}{fits}")
    return lines
