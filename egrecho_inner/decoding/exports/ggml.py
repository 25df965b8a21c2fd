"""whisper.cpp's format: one file with sizes, mel filters, the vocabulary's bytes and the tensors (its `models/README`).

All numbers are little-endian. Matrices are stored in half precision or single; what whisper.cpp adds (biases, norms,
positions) always in single. Left out: its own quantised types, which its `quantize` makes of this file.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import WhisperProcessor

from egrecho_inner.data.audio.features import mel_filters
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

NAME = "ggml-model.bin"
MAGIC = 0x67676D6C
HALF = 1
COLUMNS = ("encoder.conv1.bias", "encoder.conv2.bias")
"""Biases that whisper.cpp has as columns."""
SINGLE = (*COLUMNS, "encoder.positional_embedding", "decoder.positional_embedding")


def write(model: Whisper, processor: WhisperProcessor, source: Path, out: Path, kind: WeightType) -> None:
    """Write a ggml file."""
    refuse_other_vocabulary(model, "whisper.cpp")
    config = model.config
    half = kind == "float16"
    with open(out / NAME, "wb") as file:
        file.write(
            struct.pack(
                "<12i",
                MAGIC,
                config.vocab_size,
                config.max_source_positions,
                config.d_model,
                config.encoder_attention_heads,
                config.encoder_layers,
                config.max_target_positions,
                config.d_model,
                config.decoder_attention_heads,
                config.decoder_layers,
                config.num_mel_bins,
                HALF if half else 0,
            )
        )
        filters = np.ascontiguousarray(mel_filters(config.num_mel_bins).T)  # (mels, 201)
        file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
        words = text_tokens(processor)
        file.write(struct.pack("<i", len(words)))
        for word in words:
            file.write(struct.pack("<i", len(word)) + word)
        for name, tensor in model.state_dict().items():
            if renamed := openai_names(name):
                file.write(tensor_bytes(renamed, tensor.float().cpu().numpy(), half))


def text_tokens(processor: WhisperProcessor) -> list[bytes]:
    """Return the bytes of the tokens that are text, in the order of their ids."""
    tokenizer = processor.tokenizer
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    added = tokenizer.get_added_vocab()
    vocabulary = sorted((index, word) for word, index in tokenizer.get_vocab().items() if word not in added)
    return [bytes(letters[letter] for letter in word) for _, word in vocabulary]


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte in a byte-level vocabulary: itself where it can be printed."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def tensor_bytes(name: str, values: np.ndarray, half: bool) -> bytes:
    """Return a tensor with its head: dimensions, name, type; the dimensions from the last to the first."""
    if name in COLUMNS:
        values = values.reshape(-1, 1)
    is_half = half and values.ndim > 1 and name not in SINGLE
    values = values.astype("<f2" if is_half else "<f4")
    head = struct.pack("<3i", values.ndim, len(name.encode()), HALF if is_half else 0)
    return head + struct.pack(f"<{values.ndim}i", *values.shape[::-1]) + name.encode() + values.tobytes()


def reader(place: Path, processor: WhisperProcessor, asked: Asked, kind: WeightType) -> Decode:
    """Load with whisper.cpp, by its Python wheel."""
    try:
        from pywhispercpp.model import Model  # an optional package
    except ImportError as error:
        raise extra_missing("pywhispercpp", "export") from error
    options = {"print_progress": False, "print_realtime": False, "print_timestamps": False, "temperature_inc": 0.0}
    options |= {"no_timestamps": True, "translate": asked.task == "translate", "no_context": True}
    model = Model(str(place / NAME), redirect_whispercpp_logs_to=None, **options)

    def decode(waves: Sequence[np.ndarray]) -> list[str]:
        found = (model.transcribe(wave, language=asked.language or "en") for wave in waves)
        return ["".join(segment.text for segment in segments).strip() for segments in found]

    return decode


FORM = ExportForm(("float16", "float32"), write, reader, "30s")
