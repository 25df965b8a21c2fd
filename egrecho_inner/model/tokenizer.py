"""A Whisper tokenizer of one's own, for models from random weights: byte-level BPE with Whisper's own tokens behind it.

In: transcripts. Out: a tokenizer, and the generation config that belongs to it. Ids follow Whisper's order: BPE
entries, <|endoftext|>, <|startoftranscript|>, languages, tasks, <|notimestamps|>, then 1,501 timestamps. Every UTF-8
text can be written, since all 256 bytes are entries. There are two layouts, as OpenAI's models have two: the
multilingual one has the empty token behind the BPE entries, the English-only one has not. No alignment heads.
"""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerBase, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TASK_IDS

from egrecho_inner.errors import ModelError
from egrecho_inner.model.options import ModelOptions

END, START = "<|endoftext|>", "<|startoftranscript|>"
# in the order of the released multilingual models; <|notimestamps|> must stand right before the timestamps
CONTROLS = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
TIMESTAMPS = [f"<|{index * 0.02:.2f}|>" for index in range(1501)]
ENGLISH_ONLY_VOCABULARY = 51864
"""Rows of tiny.en to medium.en, whose older generation configs do not name `is_multilingual`."""
ENGLISH_ONLY_LANGUAGES = 99
"""tiny.en to medium.en have 99, though they use none; large-v3 brought the hundredth."""
MAX_LENGTH = 448
PROBE = "Sự xuất hiện của phiên bản, naïve œuvre — 你好 हिन्दी"


def names_language(
    options: ModelOptions, generation: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase
) -> bool:
    """Return whether the prefix of a new model names language and task: as asked for, else as its tokenizer's model.

    Args:
        options: What is asked for.
        generation: The generation config beside the tokenizer, where there is one.
        tokenizer: Of the new model.

    Raises:
        ModelError: It is to, and the tokenizer is one for English only.
    """
    laid_out = getattr(generation, "is_multilingual", None)
    if laid_out is None:
        laid_out = len(tokenizer) != ENGLISH_ONLY_VOCABULARY
    if options.multilingual and not laid_out:
        raise ModelError(f"{options.path} has a tokenizer for English only; model.multilingual true wants another one")
    return bool(laid_out) if options.multilingual is None else options.multilingual


def build_tokenizer(transcripts: Iterable[str], vocab_size: int, english_only: bool = False) -> WhisperTokenizer:
    """Train the BPE and add Whisper's tokens behind it.

    Args:
        transcripts: Texts to train on.
        vocab_size: BPE entries and one more, as Whisper's 50,257 are counted: the empty token, or <|endoftext|> in the
            English-only layout; fewer if the texts do not yield as many.
        english_only: Lay it out as tiny.en and its like.

    Returns:
        A tokenizer with the released models' token names and order.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the space before a word is part of its token, so a first word would never be met alone: train on both forms
    both = (form for line in transcripts for form in (line, " " + line))
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(both, trainer)
    model = json.loads(bpe.to_str())["model"]
    vocab = dict(model["vocab"])
    if not english_only:
        vocab[""] = len(vocab)  # CTranslate2 takes a vocabulary without the empty token for an English-only model
    tokenizer = WhisperTokenizer(
        vocab=vocab, merges=[tuple(merge) for merge in model["merges"]], pad_token=END, bos_token=END, unk_token=END
    )
    languages = list(LANGUAGES)[:ENGLISH_ONLY_LANGUAGES] if english_only else LANGUAGES
    specials = [START, *(f"<|{code}|>" for code in languages), *CONTROLS]
    tokenizer.add_special_tokens({"extra_special_tokens": specials})
    tokenizer.add_tokens(TIMESTAMPS)  # ordinary tokens: `decode(decode_with_timestamps=True)` finds them by their id
    return tokenizer


def build_generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    """Build the generation config of a model with this tokenizer; only a leading space is suppressed."""
    ids = tokenizer.convert_tokens_to_ids
    end = ids(END)
    multilingual = "" in tokenizer.get_vocab()
    tables = {
        "lang_to_id": {f"<|{code}|>": ids(f"<|{code}|>") for code in LANGUAGES},
        "task_to_id": {task: ids(f"<|{task}|>") for task in TASK_IDS},
    }
    return GenerationConfig(
        decoder_start_token_id=ids(START),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        prev_sot_token_id=ids("<|startofprev|>"),
        no_timestamps_token_id=ids("<|notimestamps|>"),
        **(tables if multilingual else {}),
        is_multilingual=multilingual,
        begin_suppress_tokens=[ids("Ġ")],
        max_initial_timestamp_index=50,
        return_timestamps=False,
        max_length=MAX_LENGTH,
    )


def check_round_trip(tokenizer: WhisperTokenizer, transcripts: Iterable[str]) -> None:
    """Refuse a tokenizer that does not give back a text as it went in.

    Raises:
        ModelError: With the first such text.
    """
    for line in {*transcripts, PROBE}:
        back = tokenizer.decode(tokenizer(line).input_ids, skip_special_tokens=True)
        if back != line:
            raise ModelError(f"the tokenizer turns {line!r} into {back!r}")
