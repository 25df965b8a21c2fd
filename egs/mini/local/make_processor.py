#!/usr/bin/env python3
"""Make a Whisper processor of one's own: a small byte-level BPE with Whisper's special and timestamp tokens.

    make_processor.py --text data/pretrain/train/text --out exp/nano/processor

writes a folder that `WhisperProcessor.from_pretrained` loads offline, with `generation_config.json` and
`preprocessor_config.json` (CTranslate2 and older tools ask for it). Ids follow Whisper's order: BPE entries with the
empty token last, <|endoftext|>, <|startoftranscript|>, the languages, tasks, <|notimestamps|>, then 1,501 timestamps.
Every UTF-8 text can be written, since all 256 bytes are entries. No word-timestamp alignment heads.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TASK_IDS

from egrecho_inner.config import run
from egrecho_inner.errors import DataError, ModelError

logger = logging.getLogger(__name__)

END, START = "<|endoftext|>", "<|startoftranscript|>"
# in the order of the released multilingual models; <|notimestamps|> must stand right before the timestamps
_CONTROLS = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
_TIMESTAMPS = [f"<|{index * 0.02:.2f}|>" for index in range(1501)]
_MAX_LENGTH = 448


def make_processor(
    text: str, out: str, vocab_size: int = 512, n_mels: int = 80, language: str = "en", task: str = "transcribe"
) -> None:
    """Train a BPE tokenizer on transcripts and save a complete Whisper processor.

    Args:
        text: Kaldi `text` file (id, then transcript) to train the BPE on.
        out: folder for the processor; replaced if it exists.
        vocab_size: BPE entries, with the 256 bytes and the empty token; special tokens come on top.
        n_mels: mel bins, 80 or 128.
        language: language of the saved prompt prefix.
        task: task of the saved prompt prefix.
    """
    transcripts = _read_transcripts(Path(text))
    tokenizer = build_tokenizer(transcripts, vocab_size)
    tokenizer.set_prefix_tokens(language=language, task=task)
    _prove(tokenizer, transcripts)
    folder = Path(out)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    features = WhisperFeatureExtractor(feature_size=n_mels)
    WhisperProcessor(feature_extractor=features, tokenizer=tokenizer).save_pretrained(temporary)
    features.save_pretrained(temporary)
    build_generation_config(tokenizer).save_pretrained(temporary)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
    mean = sum(len(tokenizer.encode(line, add_special_tokens=False)) for line in transcripts) / len(transcripts)
    print(f"{folder}: {len(tokenizer)} entries, {len(transcripts)} transcripts, {mean:.1f} tokens each")


def build_tokenizer(transcripts: Iterable[str], vocab_size: int) -> WhisperTokenizer:
    """Train the BPE and add Whisper's tokens behind it.

    Args:
        transcripts: texts to train on.
        vocab_size: BPE entries, the empty token included; fewer if the texts do not yield as many.

    Returns:
        A tokenizer with the released models' token names and order.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the space before a word is part of its token, so a first word would never be met whole: train on both forms
    both = (form for line in transcripts for form in (line, " " + line))
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(both, trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab = dict(model["vocab"])
    vocab[""] = len(vocab)  # CTranslate2 takes a vocabulary without the empty token for an English-only model
    tokenizer = WhisperTokenizer(
        vocab=vocab, merges=[tuple(merge) for merge in model["merges"]], pad_token=END, bos_token=END, unk_token=END
    )
    specials = [START, *(f"<|{code}|>" for code in LANGUAGES), *_CONTROLS]
    tokenizer.add_special_tokens({"extra_special_tokens": specials})
    tokenizer.add_tokens(_TIMESTAMPS)  # ordinary tokens: `decode(decode_with_timestamps=True)` tells them by their id
    return tokenizer


def build_generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Build the generation config of a multilingual Whisper with this tokenizer; only a leading space is suppressed."""
    ids = tokenizer.convert_tokens_to_ids
    end = ids(END)
    return GenerationConfig(
        decoder_start_token_id=ids(START),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        prev_sot_token_id=ids("<|startofprev|>"),
        no_timestamps_token_id=ids("<|notimestamps|>"),
        lang_to_id={f"<|{code}|>": ids(f"<|{code}|>") for code in LANGUAGES},
        task_to_id={task: ids(f"<|{task}|>") for task in TASK_IDS},
        is_multilingual=True,
        begin_suppress_tokens=[ids("Ġ")],
        max_initial_timestamp_index=50,
        return_timestamps=False,
        max_length=_MAX_LENGTH,
    )


def _read_transcripts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; --text takes a Kaldi text file") from None
    transcripts = [line.split(maxsplit=1)[1] for line in lines if len(line.split(maxsplit=1)) == 2]
    if not transcripts:
        raise DataError(f"{path}: no transcripts; expected lines `utterance-id words ...`")
    return transcripts


def _prove(tokenizer: WhisperTokenizer, transcripts: list[str]) -> None:
    """Fail if a text does not come back as it went in."""
    for line in {*transcripts, "Sự xuất hiện của phiên bản, naïve œuvre — 你好 हिन्दी"}:
        back = tokenizer.decode(tokenizer(line).input_ids, skip_special_tokens=True)
        if back != line:
            raise ModelError(f"the tokenizer turns {line!r} into {back!r}")


if __name__ == "__main__":
    run(make_processor)
