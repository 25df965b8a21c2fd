#!/usr/bin/env python
"""Transcripts in, a Whisper processor of one's own out, for a model from random weights (`model.path`, `model.size`).

    egrecho make-processor data/nano/train/text exp/nano/processor
    egrecho make-processor data/web/windows.jsonl.gz exp/web/processor --vocab_size 50257 --english_only true

The folder has tokenizer, feature extractor and generation config, and loads offline with `WhisperProcessor`. Its layout
makes the model: English-only as tiny.en, or multilingual as tiny, whose prefix names language and task.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import working_folder

SMALLEST = 257
"""The 256 bytes and the empty token."""


def make_processor(
    text: str,
    out: str,
    vocab_size: PositiveInt = 512,
    n_mels: Literal[80, 128] = 80,
    english_only: bool = False,
    language: str = "en",
    task: Literal["transcribe", "translate"] = "transcribe",
    limit: PositiveInt | None = None,
) -> None:
    """Train a BPE tokenizer on transcripts and save a complete Whisper processor.

    Args:
        text: Kaldi `text` file (id, then transcript), or a manifest of cuts, .jsonl or .jsonl.gz.
        out: Folder for the processor; replaced if it exists.
        vocab_size: BPE entries, with the 256 bytes; special tokens come on top. Whisper has 50257.
        n_mels: Mel bins; 128 as large-v3.
        english_only: Lay it out as tiny.en: no language, no task, no empty token.
        language: Of the saved prompt prefix.
        task: Of the saved prompt prefix.
        limit: Train on the first so many transcripts; the BPE of a web corpus needs a few million, not all.
    """
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    from egrecho_inner.model.tokenizer import build_generation_config, build_tokenizer, check_round_trip

    if vocab_size < SMALLEST:
        raise ConfigError(f"vocab_size is {vocab_size}, expected {SMALLEST} at least: all bytes and the empty token")
    transcripts = list(islice(read_transcripts(Path(text)), limit))
    if not transcripts:
        raise DataError(f"{text}: no transcripts; expected lines `utterance-id words ...`, or cuts with text")
    tokenizer = build_tokenizer(transcripts, vocab_size, english_only)
    if english_only:
        tokenizer.set_prefix_tokens()
    else:
        tokenizer.set_prefix_tokens(language=language, task=task)
    check_round_trip(tokenizer, transcripts)
    features = WhisperFeatureExtractor(feature_size=n_mels)
    with working_folder(out) as folder:
        WhisperProcessor(feature_extractor=features, tokenizer=tokenizer).save_pretrained(folder)
        features.save_pretrained(folder)  # CTranslate2 and older tools ask for its own file
        build_generation_config(tokenizer).save_pretrained(folder)
    mean = sum(len(tokenizer.encode(line, add_special_tokens=False)) for line in transcripts) / len(transcripts)
    print(f"{out}: {len(tokenizer)} entries, {len(transcripts)} transcripts, {mean:.1f} tokens each")


make_processor.positional = ["text", "out"]


def read_transcripts(path: Path) -> Iterator[str]:
    """Yield the transcripts of a Kaldi text file or of a manifest that are not empty.

    Raises:
        DataError: There is no such file, or it does not read.
    """
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        from egrecho_inner.data.cuts.fields import reference_of
        from egrecho_inner.data.cuts.index import CutIndex

        index = CutIndex(path)
        yield from (text for cut in index.select(range(len(index))) if (text := reference_of(cut).text))
        return
    try:
        with open(path, encoding="utf-8") as file:
            for line in file.read().splitlines():
                fields = line.split(maxsplit=1)
                if len(fields) == 2:
                    yield fields[1]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; text is a Kaldi text file or a manifest of cuts") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error})") from error


if __name__ == "__main__":
    run(make_processor)
