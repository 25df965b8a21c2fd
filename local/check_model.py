#!/usr/bin/env python3
"""Check that a folder holds a whole model: config, tokenizer, feature extractor for speech, and unbroken safetensors.

    local/check_model.py DIR

Prints one line about what is there, or one line about what is missing (exit 4). Reads headers, never weights.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from egrecho_inner.config import run
from egrecho_inner.errors import ModelError

_SPEECH_TYPES = ("whisper", "wavlm", "wav2vec2", "hubert")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
_EXTRACTORS = (("preprocessor_config.json",), ("processor_config.json",))


def check_model(folder: str) -> None:
    """Check that a model folder is complete and its weights are not cut off.

    Args:
        folder: the folder, as `from_pretrained` takes it.
    """
    path = Path(folder)
    config = _read_json(path / "config.json")
    kind = config.get("model_type", "unknown")
    missing = [] if _has_one(path, _TOKENIZERS) or kind in _SPEECH_TYPES[1:] else ["tokenizer.json"]
    if kind in _SPEECH_TYPES and not _has_one(path, _EXTRACTORS):
        missing.append("preprocessor_config.json")
    weights = _weight_files(path)
    missing += [name for name in weights if not (path / name).is_file()]
    if missing:
        raise ModelError(f"{path}: incomplete, {', '.join(missing)} missing; download the model again")
    tensors = sum(_count_tensors(path / name) for name in weights)
    size = sum((path / name).stat().st_size for name in weights) / 1e6
    print(f"{path}: {kind}, {tensors} tensors, {size:,.1f} MB of weights")


def _weight_files(path: Path) -> list[str]:
    """Return the names of the weight files that the folder promises."""
    index = path / "model.safetensors.index.json"
    if index.is_file() and not (path / "model.safetensors").is_file():
        return sorted(set(_read_json(index)["weight_map"].values()))
    return ["model.safetensors"]


def _count_tensors(path: Path) -> int:
    try:
        with safe_open(path, framework="numpy") as tensors:  # opening compares the header with the file's length
            return len(tensors.keys())
    except SafetensorError as error:
        raise ModelError(f"{path}: not a whole safetensors file ({error}); download the model again") from None


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder has config.json, a tokenizer and safetensors") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}:{error.lineno}: not JSON ({error.msg}); download the model again") from None


def _has_one(path: Path, alternatives: tuple[tuple[str, ...], ...]) -> bool:
    return any(all((path / name).is_file() for name in names) for names in alternatives)


check_model.positional = ["folder"]

if __name__ == "__main__":
    run(check_model)
