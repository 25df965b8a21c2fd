"""The options of this room, apart from the code that uses them: a command line is read without torch or Lhotse."""

from dataclasses import dataclass, field
from typing import Literal

from egrecho_inner.config_types import ClosedUnitInterval, Options, PositiveInt, ShareBelowOne
from egrecho_inner.errors import ConfigError

Part = Literal["none", "decoder", "all"]
Bits = Literal[4, 8]
Attention = Literal["sdpa", "flash_attention_2", "eager"]
"""Kernels of attention in Transformers; flash_attention_2 wants the package flash-attn, a GPU and 16 bits."""
Window = Literal["longest", "30s", "mixed"]
"""The input a model was trained with: as long as the batch's longest utterance, Whisper's 30 s, or both by turns."""

SIZES: dict[str, tuple[int, int, int, int, int]] = {
    # width, heads, encoder layers, decoder layers, mel bins (Radford et al. 2022, table 1; large-v3 and turbo: cards)
    "nano": (128, 4, 3, 3, 80),
    "tiny": (384, 6, 4, 4, 80),
    "base": (512, 8, 6, 6, 80),
    "small": (768, 12, 12, 12, 80),
    "medium": (1024, 16, 24, 24, 80),
    "large": (1280, 20, 32, 32, 80),
    "large-v2": (1280, 20, 32, 32, 80),
    "large-v3": (1280, 20, 32, 32, 128),
    "large-v3-turbo": (1280, 20, 32, 4, 128),
}


@dataclass(frozen=True)
class ModelOptions(Options, group="model"):
    """Where the model comes from."""

    path: str
    """Folder or hub id; with `size` only its tokenizer and feature extractor are used."""
    size: str | None = None
    """Random weights of this named size (nano, tiny, ... large-v3-turbo) instead of trained ones."""
    multilingual: bool | None = None
    """With `size`: whether the prefix names language and task; null: as the tokenizer is laid out (make-processor)."""
    dropout: ShareBelowOne = 0.0
    """Of the transformer layers."""
    attention: Attention = "sdpa"
    """Kernel of attention."""


@dataclass(frozen=True)
class LoraOptions(Options, group="lora"):
    """Shape and place of the adapter."""

    method: Literal["lora", "dora", "adalora"] = "lora"
    """dora: magnitude and direction apart (arXiv:2402.09353); adalora: ranks move to where they help (2303.10512)."""
    r: PositiveInt = 32
    """Rank; of AdaLoRA the average it ends with."""
    alpha: PositiveInt = 64
    """The adapter's output is scaled by alpha / r."""
    dropout: ShareBelowOne = 0.05
    """On the adapter's input."""
    target_modules: list[str] = field(default_factory=lambda: ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"])
    """Linear layers that are adapted, by the last part of their name."""
    parts: Literal["both", "encoder", "decoder"] = "both"
    """Where the adapted layers are."""
    bits: Bits | None = None
    """Hold the frozen base in 4 (QLoRA's NF4) or 8 bits, by bitsandbytes (extra quant), on an NVIDIA GPU; the adapter
    is merged into the base as it is published."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (arXiv:2312.03732)."""
    init_r: PositiveInt = 48
    """AdaLoRA: rank it begins with."""
    warmup: ClosedUnitInterval = 0.1
    """AdaLoRA: share of the steps before ranks begin to move."""
    settle: ClosedUnitInterval = 0.3
    """AdaLoRA: share of the steps at the end in which ranks are fixed."""
    delta: PositiveInt = 10
    """AdaLoRA: steps between two re-allocations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "adalora" and self.init_r <= self.r:
            raise ConfigError(
                f"lora.init_r {self.init_r} and lora.r {self.r} leave AdaLoRA no rank to take away; expected init_r to "
                "be more than r, half as much again for example"
            )
        if self.method == "adalora" and self.warmup + self.settle >= 1:
            raise ConfigError(
                f"lora.warmup {self.warmup:g} and lora.settle {self.settle:g} leave AdaLoRA no steps between them; "
                "expected a sum below 1"
            )
