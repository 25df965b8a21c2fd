"""CTranslate2's format, for faster-whisper and WhisperX: a folder with tokenizer and mel bins beside the weights."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import WhisperProcessor

from egrecho_inner.decoding.exports.forms import Asked, Decode, ExportForm, WeightType
from egrecho_inner.errors import ModelError, extra_missing
from egrecho_inner.model.whisper import Whisper

COPIED = ("tokenizer.json", "preprocessor_config.json")
"""What faster-whisper reads beside the weights."""


def write(model: Whisper, processor: WhisperProcessor, source: Path, out: Path, kind: WeightType) -> None:
    """Convert a folder."""
    try:
        from ctranslate2.converters import TransformersConverter  # an optional package
    except ImportError as error:
        raise extra_missing("ctranslate2", "export") from error
    try:
        TransformersConverter(str(source)).convert(str(out), quantization=kind, force=True)
    except (RuntimeError, ValueError, NotImplementedError, OSError, KeyError) as error:
        raise ModelError(f"{source} does not convert to CTranslate2: {' '.join(str(error).split())[:300]}") from error
    for name in COPIED:
        shutil.copyfile(source / name, out / name)


def reader(place: Path, processor: WhisperProcessor, asked: Asked, kind: WeightType) -> Decode:
    """Load with faster-whisper; a CPU computes float16 weights in float32."""
    try:
        from faster_whisper import WhisperModel  # an optional package
    except ImportError as error:
        raise extra_missing("faster-whisper", "export") from error
    compute = "int8" if kind == "int8" else "float32"
    model = WhisperModel(str(place), device="cpu", compute_type=compute, cpu_threads=2)
    options = {"language": asked.language, "task": asked.task, "beam_size": 1, "temperature": 0.0}
    options |= {"without_timestamps": True, "suppress_tokens": list(asked.suppressed)}

    def decode(waves: Sequence[np.ndarray]) -> list[str]:
        found = (model.transcribe(wave, **options)[0] for wave in waves)
        return ["".join(segment.text for segment in segments).strip() for segments in found]

    return decode


FORM = ExportForm(("float16", "float32", "int8"), write, reader, "30s-zeros")
