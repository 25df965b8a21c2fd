"""Whether the files of a model folder belong together: sizes, ids of special tokens, languages, tasks, features.

In: the config, the generation config and the processor of one model. Out: nothing, or one error that names the file and
both ids. A tokenizer of another Whisper loads and runs without complaint: large-v3 numbers every token after the
languages one higher than large-v2, so such a model is trained, and decodes, on wrong tokens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from transformers import GenerationConfig, PretrainedConfig, WhisperProcessor, WhisperTokenizer

from egrecho_inner.errors import ModelError
from egrecho_inner.text.labels import CONTROL

PUBLISHED = {51864: "the English-only models", 51865: "tiny to large-v2", 51866: "large-v3 and turbo"}
"""Vocabulary sizes of OpenAI's models; other sizes may hold rows that only round the matrix up."""
EXTRACTOR = {"sampling_rate": 16000, "n_fft": 400, "hop_length": 160}
"""What Whisper's features are, and ours (data/audio/features.py)."""
REMEDY = "copy the file from where the model comes from"


def check_tokenizer_files(folder: Path) -> None:
    """Refuse a folder whose tokenizer has its settings but no tokens: Transformers makes an empty one of it.

    Raises:
        ModelError: Naming the missing file.
    """
    if (folder / "tokenizer.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        return
    missing = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} has a tokenizer_config.json but no tokenizer.json; {REMEDY}")


def check_agreement(
    path: str, config: PretrainedConfig, generation: GenerationConfig | None, processor: WhisperProcessor
) -> None:
    """Refuse a tokenizer or feature extractor that belongs to another model.

    Args:
        path: Folder or hub id, for the message.
        config: Of the model.
        generation: Of the model; None where it has none of its own.
        processor: Tokenizer and feature extractor.

    Raises:
        ModelError: With the file, the token and both ids.
    """
    tokenizer = processor.tokenizer
    check_sizes(path, config.vocab_size, len(tokenizer))
    check_text(path, tokenizer)
    vocabulary = tokenizer.get_vocab()
    differing = [
        f"{token} is {there} by {file} and {vocabulary.get(token, 'no token')} in the tokenizer"
        for file, token, there in [*named_ids(config, generation), *timestamp_ids(vocabulary)]
        if vocabulary.get(token) != there
    ]
    if differing:
        more = f", and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise ModelError(f"{path}: {differing[0]}{more}; the tokenizer (tokenizer.json) is another model's: {REMEDY}")
    check_extractor(path, config, processor)


def check_sizes(path: str, rows: int, tokens: int) -> None:
    """Refuse a tokenizer with more tokens than the model has rows, or of another published size."""
    if tokens > rows:
        raise ModelError(
            f"{path}: the tokenizer has {tokens} tokens, the model {rows}; after adding tokens, resize the model "
            "(resize_token_embeddings) and save both"
        )
    if tokens != rows and {tokens, rows} <= PUBLISHED.keys():
        raise ModelError(
            f"{path}: the tokenizer has {tokens} tokens as {PUBLISHED[tokens]}, the model {rows} as "
            f"{PUBLISHED[rows]} (vocab_size in config.json); {REMEDY}: tokenizer.json"
        )


def check_text(path: str, tokenizer: WhisperTokenizer) -> None:
    """Refuse a tokenizer that does not give back the text it was given, or lacks a token that labels are made of."""
    text = " a word, 1"
    if tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), clean_up_tokenization_spaces=False) != text:
        raise ModelError(f"{path}: the tokenizer (tokenizer.json) does not give back the text {text!r}; {REMEDY}")
    vocabulary = tokenizer.get_vocab()
    needed = ["<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>", "<|startofprev|>"]
    if "<|nocaptions|>" not in vocabulary:  # its name in the first Whispers
        needed.append("<|nospeech|>")
    for token in needed:
        if token not in vocabulary:
            raise ModelError(f"{path}: the tokenizer (tokenizer.json) has no {token}; {REMEDY}")


def named_ids(config: PretrainedConfig, generation: GenerationConfig | None) -> Iterator[tuple[str, str, int]]:
    """Yield the file, the token and the id wherever a config names the id of a token."""
    sources: list[tuple[str, PretrainedConfig | GenerationConfig]] = [("config.json", config)]
    if generation is not None:
        sources.insert(0, ("generation_config.json", generation))
        named = {"<|notimestamps|>": "no_timestamps_token_id", "<|startofprev|>": "prev_sot_token_id"}
        for token, key in named.items():
            if (there := getattr(generation, key, None)) is not None:
                yield "generation_config.json", token, there
        tasks = {f"<|{task}|>": there for task, there in (getattr(generation, "task_to_id", None) or {}).items()}
        languages = getattr(generation, "lang_to_id", None) or {}
        tokens = {token: there for token, there in languages.items() if CONTROL.fullmatch(token)}
        names = {there: token for token, there in tokens.items()}
        for key, there in languages.items():  # an added language is there under its code and its name, too
            if key not in tokens:
                tokens[names.get(there, f"<|{key}|>")] = there
        for token, there in (tasks | tokens).items():
            yield "generation_config.json", token, there
    for file, source in sources:
        if source.decoder_start_token_id is not None:
            yield file, "<|startoftranscript|>", source.decoder_start_token_id
        if isinstance(source.eos_token_id, int):
            yield file, "<|endoftext|>", source.eos_token_id


def timestamp_ids(vocabulary: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yield where timestamps are, for programs count them from `<|notimestamps|>` on; old tokenizers have none."""
    if "<|0.00|>" in vocabulary:
        first = vocabulary["<|notimestamps|>"] + 1
        yield "its place after <|notimestamps|>", "<|0.00|>", first
        yield "its place after <|notimestamps|>", "<|30.00|>", first + 1500


def check_shapes(
    path: str, config: PretrainedConfig, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Refuse weights of other shapes than the config's.

    Args:
        path: Folder or hub id, for the message.
        config: Of the model.
        mismatched: Name of each such weight, its shape, and the shape the config wants.

    Raises:
        ModelError: With both shapes and what to do.
    """
    rows = sorted(mismatched, key=lambda each: each[0])
    if not rows:
        return
    name, shape, wanted = rows[0]
    remedy = "config.json is another model's: copy it from where the weights come from"
    if len(rows) == 1 and name.endswith("embed_tokens.weight"):
        remedy = f"set vocab_size to {shape[0]}, or resize the model (resize_token_embeddings) and save both"
    raise ModelError(
        f"{path}: the shape of {len(rows)} weights is not what config.json makes it: {name} is {tuple(shape)}, by "
        f"config.json (vocab_size {config.vocab_size}, d_model {config.d_model}, num_mel_bins "
        f"{config.num_mel_bins}) {tuple(wanted)}; {remedy}"
    )


def check_extractor(path: str, config: PretrainedConfig, processor: WhisperProcessor) -> None:
    """Refuse a feature extractor of another model, or one that is not Whisper's."""
    extractor = processor.feature_extractor
    if extractor.feature_size != config.num_mel_bins:
        raise ModelError(
            f"{path}: the feature extractor makes {extractor.feature_size} mel bins, the model takes "
            f"{config.num_mel_bins} (preprocessor_config.json, config.json); {REMEDY}"
        )
    for name, value in EXTRACTOR.items():
        if getattr(extractor, name, value) != value:
            raise ModelError(
                f"{path}: preprocessor_config.json has {name} {getattr(extractor, name)}, Whisper has {value}; {REMEDY}"
            )
