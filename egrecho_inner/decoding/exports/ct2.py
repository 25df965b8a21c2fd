"""CTranslate2's format, for faster-whisper and WhisperX: a folder with tokenizer and mel bins beside the weights."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperProcessor

from egrecho_inner.decoding.exports.forms import Asked, Decode, ExportForm, WeightType
from egrecho_inner.errors import ModelError, extra_missing
from egrecho_inner.model.loading import save_folder, window_of
from egrecho_inner.model.new_language import added_languages, among_languages
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.runtime.files import write_json

COPIED = ("tokenizer.json", "preprocessor_config.json")
"""What faster-whisper reads beside the weights."""
CONFIG = "config.json"


def write(model: Whisper, processor: WhisperProcessor, source: Path, out: Path, kind: WeightType) -> None:
    """Convert a folder; added languages get their place among the others, see `model/new_language.py`."""
    try:
        from ctranslate2.converters import TransformersConverter  # an optional package
    except ImportError as error:
        raise extra_missing("ctranslate2", "export") from error
    with tempfile.TemporaryDirectory() as folder:
        taken = source
        if added_languages(processor.tokenizer):
            taken = Path(folder)
            save_folder(*among_languages(model, processor), taken, window_of(model))
        try:
            TransformersConverter(str(taken)).convert(str(out), quantization=kind, force=True)
        except (RuntimeError, ValueError, NotImplementedError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{source} does not convert to CTranslate2: {reason}") from error
        for name in COPIED:
            shutil.copyfile(taken / name, out / name)
    config = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    if config.get("lang_ids"):
        config["lang_ids"] = sorted(set(config["lang_ids"]))  # an added language has three names, one token
        write_json(out / CONFIG, config)


def reader(place: Path, processor: WhisperProcessor, asked: Asked, kind: WeightType) -> Decode:
    """Load with faster-whisper; a CPU computes float16 weights in float32."""
    try:
        from faster_whisper import WhisperModel, tokenizer  # an optional package
    except ImportError as error:
        raise extra_missing("faster-whisper", "export") from error
    if asked.language and asked.language not in tokenizer._LANGUAGE_CODES:  # it takes the codes of this tuple alone
        tokenizer._LANGUAGE_CODES += (asked.language,)
    compute = "int8" if kind == "int8" else "float32"
    threads = torch.get_num_threads()  # CTranslate2 sets it for all of the process: torch has the same OpenMP
    model = WhisperModel(str(place), device="cpu", compute_type=compute, cpu_threads=threads)
    options = {"language": asked.language, "task": asked.task, "beam_size": 1, "temperature": 0.0}
    names = {index: name for name, index in processor.tokenizer.get_vocab().items()}
    suppressed = [model.hf_tokenizer.token_to_id(names[each]) for each in asked.suppressed if each in names]
    options |= {"without_timestamps": True, "suppress_tokens": suppressed or None}

    def decode(waves: Sequence[np.ndarray]) -> list[str]:
        found = (model.transcribe(wave, **options)[0] for wave in waves)
        return ["".join(segment.text for segment in segments).strip() for segments in found]

    return decode


FORM = ExportForm(("float16", "float32", "int8"), write, reader, "30s-zeros")
