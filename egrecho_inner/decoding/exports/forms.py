"""What every form of export has in common: how it is written, how its runtime is asked, and what it cannot hold.

In: a model folder of ours. Out: a file or folder of that form, and the texts that its runtime gives for waves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import WhisperProcessor

from egrecho_inner.errors import ModelError
from egrecho_inner.model.whisper import Whisper

FormName = Literal["ctranslate2", "onnx", "openai", "ggml"]
WeightType = Literal["float32", "float16", "int8"]
WHISPER_VOCABULARIES = range(51864, 51867)
"""Sizes of OpenAI's vocabularies: English, multilingual, multilingual with Cantonese."""
READ_SECONDS = 30.0
"""A runtime is asked about clips of one window."""

Decode = Callable[[Sequence[np.ndarray]], list[str]]
"""Waves at 16 kHz -> texts."""


@dataclass(frozen=True)
class Asked:
    """What a runtime is told besides the audio."""

    language: str | None
    """Code; None for English-only models."""
    task: str
    suppressed: tuple[int, ...] = ()
    """Tokens that the generation config forbids."""


@dataclass(frozen=True)
class ExportForm:
    """A form of export."""

    types: tuple[WeightType, ...]
    """Of weights that it has, the usual one first."""
    write: Callable[[Whisper, WhisperProcessor, Path, Path, WeightType], None]
    """(model, processor, its folder, where to, type of the weights)."""
    reader: Callable[[Path, WhisperProcessor, Asked, WeightType], Decode]
    """(what was written, processor, what to ask, type of the weights) -> the runtime, loaded."""
    window: Literal["30s", "30s-zeros"]
    """How the runtime pads short audio: with silence, or with zeros of the log-mel."""


def refuse_other_vocabulary(model: Whisper, form: str) -> None:
    """Refuse a vocabulary that a program has no place for: it counts its special tokens from the vocabulary's size.

    Raises:
        ModelError: With the sizes it knows.
    """
    size = model.config.vocab_size
    if size not in WHISPER_VOCABULARIES:
        raise ModelError(
            f"{form} knows OpenAI's vocabularies only (51864 to 51866 tokens), this model has {size}; "
            "export it to ctranslate2 or onnx"
        )
    table = getattr(model.generation_config, "lang_to_id", None) or {}
    last = getattr(model.generation_config, "no_timestamps_token_id", None) or size
    if added := [name for name, index in table.items() if index > last and name.startswith("<|")]:
        raise ModelError(
            f"{form} takes a language's token from its place in Whisper's own list, where an added one ({added[0]}) is "
            "not; export it to ctranslate2 or onnx"
        )


def openai_names(name: str) -> str | None:
    """Return the name that OpenAI's program has for a tensor of Transformers'; None for what it does not store."""
    if name == "proj_out.weight":
        return None
    name = name.removeprefix("model.")
    for theirs, ours in (
        (".layers.", ".blocks."),
        ("self_attn_layer_norm", "attn_ln"),
        ("encoder_attn_layer_norm", "cross_attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("encoder.layer_norm", "encoder.ln_post"),
        ("decoder.layer_norm", "decoder.ln"),
        ("encoder_attn.", "cross_attn."),
        ("self_attn.", "attn."),
        ("q_proj", "query"),
        ("k_proj", "key"),
        ("v_proj", "value"),
        ("out_proj", "out"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
        ("embed_tokens", "token_embedding"),
        ("embed_positions.weight", "positional_embedding"),
    ):
        name = name.replace(theirs, ours)
    return name
