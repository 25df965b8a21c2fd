"""OpenAI's own format: one `.pt` file with sizes and tensors, for openai-whisper and what is built on it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperProcessor

from egrecho_inner.decoding.exports.forms import (
    Asked,
    Decode,
    ExportForm,
    WeightType,
    openai_names,
    refuse_other_vocabulary,
)
from egrecho_inner.errors import extra_missing
from egrecho_inner.model.whisper import Whisper

NAME = "model.pt"


def write(model: Whisper, processor: WhisperProcessor, source: Path, out: Path, kind: WeightType) -> None:
    """Write a `.pt` file."""
    refuse_other_vocabulary(model, "openai-whisper")
    config = model.config
    sizes = {
        "n_mels": config.num_mel_bins,
        "n_audio_ctx": config.max_source_positions,
        "n_audio_state": config.d_model,
        "n_audio_head": config.encoder_attention_heads,
        "n_audio_layer": config.encoder_layers,
        "n_vocab": config.vocab_size,
        "n_text_ctx": config.max_target_positions,
        "n_text_state": config.d_model,
        "n_text_head": config.decoder_attention_heads,
        "n_text_layer": config.decoder_layers,
    }
    dtype = torch.float16 if kind == "float16" else torch.float32
    named = ((openai_names(name), tensor) for name, tensor in model.state_dict().items())
    state = {name: tensor.to(dtype).contiguous().clone() for name, tensor in named if name}
    torch.save({"dims": sizes, "model_state_dict": state}, out / NAME)


def reader(place: Path, processor: WhisperProcessor, asked: Asked, kind: WeightType) -> Decode:
    """Load with openai-whisper, which computes in float32 on a CPU."""
    try:
        import whisper  # an optional package
    except ImportError as error:
        raise extra_missing("openai-whisper", "export") from error
    model = whisper.load_model(str(place / NAME), device="cpu")

    def decode(waves: Sequence[np.ndarray]) -> list[str]:
        options = {"language": asked.language, "task": asked.task, "temperature": 0.0, "fp16": False}
        suppressed = ",".join(map(str, asked.suppressed))
        options |= {"without_timestamps": True, "suppress_tokens": suppressed or None}
        return [model.transcribe(wave, **options)["text"].strip() for wave in waves]

    return decode


FORM = ExportForm(("float16", "float32"), write, reader, "30s-zeros")
