"""A language that a Whisper has no token for: a token at the end of the vocabulary, its row, and what points at them.

In: a model, its processor, a code of ISO 639. Out: the same two with one token more. No id moves, so that what was made
with the base (labels, adapters, cached teacher tokens, lists of ids) stays right. CTranslate2 takes any id behind
`<|notimestamps|>` in a prefix for text; for its form alone `among_languages` numbers the tokens anew.
"""

import copy
import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, WhisperProcessor, WhisperTokenizer

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.loading import generation_config, is_multilingual
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.text.labels import LabelEncoder, languages_of

MEAN = "mean"
"""Begins the row as the mean of all languages' rows."""


def add_language(model: Whisper, processor: WhisperProcessor, code: str, begin: str = MEAN, name: str = "") -> int:
    """Give a model and its tokenizer a language, in place.

    Args:
        model: The model.
        processor: Its tokenizer and feature extractor.
        code: Of the language, as ISO 639 has it.
        begin: Code of the language whose embedding row the new one begins as, or `MEAN`.
        name: In words, for programs that ask for a language by name.

    Returns:
        The id of the token.

    Raises:
        ConfigError: The model knows English only, has the language already, or another one under the name.
        ModelError: It has no token for `begin`.
    """
    labels = LabelEncoder(processor.tokenizer, multilingual=is_multilingual(model))
    if not labels.multilingual:
        raise ConfigError(
            f"the model knows English only, its prefix names no language; {code} needs a multilingual one"
        )
    if labels.has_token(code):
        raise ConfigError(f"the model has <|{code}|> already (token {labels.languages[code]}); nothing to add")
    if begin != MEAN and not labels.has_token(begin):
        legal = " ".join(sorted(labels.languages))
        raise ModelError(f"init_from {begin}: this model has no token for it; legal are {MEAN} and {legal}")
    rows = list(labels.languages.values()) if begin == MEAN else [labels.languages[begin]]
    index = append_token(processor.tokenizer, f"<|{code}|>")
    append_row(model, index, rows)
    if getattr(model.generation_config, "lang_to_id", None) is None:  # of an old folder without the file
        model.generation_config = generation_config(processor)
    register(model.generation_config, code, index, name)
    return index


def append_token(tokenizer: WhisperTokenizer, token: str) -> int:
    """Append a special token and return its id.

    In the list of special tokens it stands before the last one, `<|notimestamps|>`: Transformers counts timestamps from
    the last of that list on (`WhisperTokenizer._compute_offsets`), whatever its id.
    """
    listed = list(tokenizer.extra_special_tokens)
    last = listed.index("<|notimestamps|>") if "<|notimestamps|>" in listed else len(listed)
    tokenizer.add_special_tokens({"extra_special_tokens": [*listed[:last], token, *listed[last:]]})
    return int(tokenizer.convert_tokens_to_ids(token))


def append_row(model: Whisper, index: int, rows: Sequence[int]) -> None:
    """Fill the row of a new token with the mean of others' rows, making place for it where there is none."""
    if index >= model.config.vocab_size:  # else one of the rows that only round the matrix up
        model.resize_token_embeddings(index + 1, mean_resizing=False)
    tables = [model.get_input_embeddings().weight]
    if not model.config.tie_word_embeddings:
        tables.append(model.get_output_embeddings().weight)
    with torch.no_grad():
        for table in tables:
            table[index] = table[list(rows)].mean(dim=0)


def register(generation: GenerationConfig, code: str, index: int, name: str = "") -> None:
    """Enter a language in a generation config.

    The code itself and the name are keys beside the token: Transformers takes a language it does not know by a key of
    this table alone. The token is suppressed in texts, where it would count as a timestamp behind the last one; in
    front, because Transformers reads `<|startofprev|>` of older configs from the end of the list.
    """
    table: dict[str, Any] = dict(generation.lang_to_id)
    for alias in filter(None, (code, name.strip().lower())):
        if alias in table:
            raise ConfigError(f"the model has a language under {alias!r} already; give another --name")
        table[alias] = index
    generation.lang_to_id = table | {f"<|{code}|>": index}
    generation.suppress_tokens = [index, *(generation.suppress_tokens or [])]


def added_languages(tokenizer: WhisperTokenizer) -> list[int]:
    """Return the ids of the languages that stand behind the timestamps."""
    tokens = tokenizer.get_added_vocab()
    return sorted(index for index in languages_of(tokens).values() if index > tokens["<|notimestamps|>"])


def among_languages(model: Whisper, processor: WhisperProcessor) -> tuple[Whisper, WhisperProcessor]:
    """Return copies whose added languages stand behind Whisper's own, every token behind those numbered higher.

    That is how large-v3 got its hundredth language. Programs that ask for ids by name give the same text with both.
    """
    tokens = processor.tokenizer.get_added_vocab()
    moved = added_languages(processor.tokenizer)
    place = 1 + max(index for index in languages_of(tokens).values() if index not in moved)
    rest = [index for index in range(place, model.config.vocab_size) if index not in moved]
    order = [*range(place), *moved, *rest]  # the old id of each new one
    new = {old: index for index, old in enumerate(order)}
    model, processor = copy.deepcopy(model), copy.deepcopy(processor)
    with torch.no_grad():
        for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
            table.copy_(table[order])
    generation = model.generation_config
    for key, value in generation.to_dict().items():
        if key.endswith(("_token_id", "_tokens", "_to_id")):
            setattr(generation, key, renumbered(value, new))
    content = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token["id"] = new[token["id"]]
    content["added_tokens"].sort(key=lambda token: token["id"])
    processor.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    return model, processor


def renumbered(value: Any, new: dict[int, int]) -> Any:
    """Return an id, a list of ids or a table of ids with other numbers."""
    if isinstance(value, dict):
        return {key: new[index] for key, index in value.items()}
    if isinstance(value, list):
        return [new[index] for index in value]
    return new.get(value, value)
