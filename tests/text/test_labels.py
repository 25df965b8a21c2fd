"""Labels: one start, ids by name, nothing lost in the text, nothing learned that is given."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_processor
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.text.constants import IGNORED, MAX_PROMPT_TOKENS, MAX_TOKENS
from egrecho_inner.text.labels import LabelEncoder, Labels, Segment, pad_labels
from egrecho_inner.text.languages import NO_SPACE_LANGUAGES

TOKENIZER = tiny_processor().tokenizer
ID = {**TOKENIZER.get_added_vocab(), "<|endoftext|>": TOKENIZER.eos_token_id}
LABELS = LabelEncoder(TOKENIZER, language="en")
# any text a JSON file can hold but for lone surrogates, which are no text
TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
SPEECH = TEXTS.filter(lambda text: text.strip() and "<|" not in text)
CODES = st.sampled_from(sorted(LANGUAGES))


def names(ids: list[int]) -> list[str]:
    return TOKENIZER.convert_ids_to_tokens(ids)


def normalised(text: str) -> str:
    return " ".join(text.split())


@settings(max_examples=200)
@given(SPEECH, st.none() | CODES, st.sampled_from([None, "transcribe", "translate"]), st.none() | SPEECH)
def test_the_sequence_is_whispers_and_targets_are_inputs_one_place_on(text, language, task, prompt) -> None:
    labels = LABELS.encode(text, language, task, prompt=prompt)
    assert len(labels.inputs) == len(labels.targets)
    assert labels.inputs.count(ID["<|startoftranscript|>"]) == 1
    start = labels.inputs.index(ID["<|startoftranscript|>"])
    prefix = [f"<|{language or 'en'}|>", f"<|{task or 'transcribe'}|>", "<|notimestamps|>"]
    assert names(labels.inputs[start + 1 : start + 4]) == prefix
    assert labels.targets[start:-1] == labels.inputs[start + 1 :]
    assert labels.targets[-1] == ID["<|endoftext|>"] and ID["<|endoftext|>"] not in labels.inputs
    assert labels.targets[:start] == [IGNORED] * start and IGNORED not in labels.targets[start:]
    assert (start > 0) == (prompt is not None)
    if prompt:
        assert labels.inputs[0] == ID["<|startofprev|>"]
        assert normalised(prompt).endswith(LABELS.decode(labels.inputs[1:start]).lstrip("\ufffd"))


@settings(max_examples=300)
@given(SPEECH, CODES)
def test_text_is_read_back_as_it_was_but_for_runs_of_spaces(text: str, language: str) -> None:
    labels = LABELS.encode(text, language)
    assert LABELS.decode(labels.targets) == normalised(text)
    assert LABELS.decode(labels.inputs) == normalised(text)


@given(SPEECH, CODES)
def test_text_begins_with_a_space_where_words_have_spaces(text: str, language: str) -> None:
    first = names(LABELS.text_ids(text, language))[0]
    assert (first == "Ġ") == (language not in NO_SPACE_LANGUAGES)


def test_language_and_task_of_the_cut_win_over_those_of_the_configuration() -> None:
    labels = LabelEncoder(TOKENIZER, language="Vietnamese", task="translate")
    assert names(labels.prefix())[1:3] == ["<|vi|>", "<|translate|>"]
    assert names(labels.prefix("French", "transcribe"))[1:3] == ["<|fr|>", "<|transcribe|>"]
    assert labels.prefix("") == labels.prefix() == labels.prefix(None)


def test_a_text_that_is_null_is_refused_and_not_taken_for_silence() -> None:
    with pytest.raises(DataError, match="no transcript: a text is null"):
        LABELS.encode(None, "en")


def test_a_language_that_the_model_has_no_token_for_is_a_fault_of_the_cut() -> None:
    class Older:  # large-v2 and before
        def __getattr__(self, name: str) -> object:
            return getattr(TOKENIZER, name)

        def get_added_vocab(self) -> dict[str, int]:
            return {name: number for name, number in TOKENIZER.get_added_vocab().items() if name != "<|yue|>"}

    labels = LabelEncoder(Older())
    assert labels.language_fault("zh-HK") == "in yue, which this model has no token for"
    assert labels.language_fault("mdw") == "in mdw, which this model has no token for"
    assert labels.language_fault("zzz") == "in 'zzz', which is no language of Whisper's"
    assert labels.language_fault(None) == "without a language (set data.language)"
    assert labels.language_fault("zh") is LABELS.language_fault("zh-HK") is LABELS.language_fault(None) is None
    assert LabelEncoder(Older(), multilingual=False).language_fault("yue") is None
    with pytest.raises(DataError, match=r"language yue: this model has no token.*--language"):
        labels.encode("a", "cantonese")


def test_a_cut_without_language_or_of_an_unknown_one_is_at_fault_itself() -> None:
    with pytest.raises(DataError, match=r"no language.*--data.language"):
        LabelEncoder(TOKENIZER).encode("hello")
    with pytest.raises(DataError, match="language 'Klingon' is not Whisper's"):
        LABELS.encode("hello", "Klingon")
    with pytest.raises(ConfigError, match="language 'Klingon' is not Whisper's"):
        LabelEncoder(TOKENIZER, language="Klingon")


def test_every_language_whisper_knows_has_its_token_by_any_of_its_names() -> None:
    for name, code in TO_LANGUAGE_CODE.items():
        assert names(LABELS.prefix(name))[1] == f"<|{code}|>"


def test_an_english_only_model_has_neither_language_nor_task() -> None:
    labels = LabelEncoder(TOKENIZER, multilingual=False).encode("a")
    assert names(labels.inputs) == ["<|startoftranscript|>", "<|notimestamps|>", "Ġ", "a"]


@pytest.mark.parametrize("text", ["", "  ", "\n\u3000"])
def test_no_text_is_no_speech_and_then_the_end(text: str) -> None:
    labels = LABELS.encode(text, "en")
    assert names(labels.inputs) == ["<|startoftranscript|>", "<|nospeech|>"]
    assert names(labels.targets) == ["<|nospeech|>", "<|endoftext|>"]


def test_ids_come_from_the_tokenizer_whatever_their_order() -> None:
    """Version 2 and 3 differ in every id after the languages; the name of no-speech differs too."""

    class Renamed:
        unk_token = unk_token_id = None

        def get_added_vocab(self) -> dict[str, int]:
            others = [name for name in ID if name not in ("<|nospeech|>", "<|yue|>")]
            return {name: 5000 - 3 * place for place, name in enumerate([*others, "<|nocaptions|>"])}

        def convert_tokens_to_ids(self, token: str) -> int | None:
            return None

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [ord(letter) for letter in text]

    tokenizer = Renamed()
    labels, known = LabelEncoder(tokenizer, "en"), tokenizer.get_added_vocab()
    prefix = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
    assert labels.encode("a").inputs == [*(known[name] for name in prefix), ord(" "), ord("a")]
    assert labels.encode("").inputs[-1] == known["<|nocaptions|>"]
    assert labels.timestamp(1.0) == known["<|1.00|>"]
    with pytest.raises(ModelError, match=r"no <\|yue\|>"):
        labels.prefix("cantonese")


@pytest.mark.parametrize("name", ["<|endoftext|>", "<|vi|>", "<|startoftranscript|>", "<|0.00|>", "<|nospeech|>"])
def test_no_special_token_comes_from_text(name: str) -> None:
    for text in (name, f"he said {name} twice"):
        with pytest.raises(DataError, match="special token inside a transcript"):
            LABELS.encode(text, "en")
        with pytest.raises(DataError):
            LABELS.encode("a", "en", prompt=text)
        with pytest.raises(DataError):
            LABELS.encode("", "en", segments=[Segment(0, 1, text)])


@given(TEXTS)
def test_text_gives_text_tokens_or_is_refused(text: str) -> None:
    try:
        ids = LABELS.text_ids(text)
    except DataError:
        assert "<|" in text
    else:
        assert set(ids).isdisjoint(ID.values())


def test_tokens_added_for_a_new_alphabet_are_text() -> None:
    tokenizer = tiny_processor.__wrapped__().tokenizer
    tokenizer.add_tokens(["ꞓ", "ɓolm"])
    labels = LabelEncoder(tokenizer, "en")
    found = labels.encode("ꞓa ɓolm")
    assert tokenizer.convert_tokens_to_ids("ɓolm") in found.inputs
    assert labels.decode(found.targets) == "ꞓa ɓolm"


@settings(max_examples=40)
@given(st.integers(425, 460), st.sampled_from(["a", "é", "語", "a b "]), st.sampled_from(["en", "zh"]))
def test_fits_tells_whether_the_decoder_has_room(letters: int, letter: str, language: str) -> None:
    text = (letter * letters)[:letters]
    assert LABELS.length(text, language) == len(LABELS.encode(text, language).inputs)
    assert LABELS.fits(text, language) == (LABELS.length(text, language) <= MAX_TOKENS)


def test_448_positions_are_filled_to_the_last() -> None:
    # <|startoftranscript|> <|en|> <|transcribe|> <|notimestamps|> and a space before 443 letters
    assert LABELS.fits("a" * 443, "en") and not LABELS.fits("a" * 444, "en")


@settings(max_examples=40)
@given(st.integers(0, 500), st.integers(1, 443))
def test_a_prompt_keeps_its_end_and_never_takes_the_transcripts_place(before: int, letters: int) -> None:
    plain, given = LABELS.encode("a" * letters, "en"), LABELS.encode("a" * letters, "en", prompt="b" * before)
    kept = len(given.inputs) - len(plain.inputs)
    assert given.inputs[kept:] == plain.inputs and given.targets[kept:] == plain.targets
    assert len(given.inputs) <= MAX_TOKENS and kept <= MAX_PROMPT_TOKENS + 1
    if kept:
        assert set(names(given.inputs[1:kept])) <= {"b", "Ġ"}
        assert kept == min(before + 2, MAX_PROMPT_TOKENS + 1, MAX_TOKENS - len(plain.inputs))


def test_a_blank_prompt_is_none() -> None:
    assert LABELS.encode("a", prompt=" ") == LABELS.encode("a", prompt="") == LABELS.encode("a")


@given(st.floats(-1, 31))
def test_a_timestamp_is_the_nearest_of_1501(seconds: float) -> None:
    name = names([LABELS.timestamp(seconds)])[0]
    assert abs(float(name[2:-2]) - min(max(seconds, 0), 30)) <= 0.01 + 1e-9


@given(st.lists(st.floats(0, 30), min_size=2, max_size=20).map(sorted))
def test_timestamps_of_later_times_are_not_earlier(times: list[float]) -> None:
    ids = [LABELS.timestamp(time) for time in times]
    assert ids == sorted(ids)


def test_a_segment_that_the_window_cuts_has_its_start_only() -> None:
    parts = [Segment(0.0, 1.0, "a"), Segment(28.5, None, "b")]
    found = names(LABELS.encode("not used", "en", segments=parts).inputs)
    whole = names(LABELS.encode("not used", "en", segments=[parts[0], Segment(28.5, 30.0, "b")]).inputs)
    assert found == whole[:-1] and "<|28.50|>" in found and "<|30.00|>" not in found


def test_segments_are_text_between_their_timestamps() -> None:
    parts = [Segment(0.0, 1.234, "one two"), Segment(1.5, 2.0, ""), Segment(2.0, 29.999, "語")]
    found = names(LABELS.encode("not used", "en", segments=parts).inputs)
    assert found[:3] == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>"]
    assert found[3:14] == ["<|0.00|>", "Ġ", *"one", "Ġ", *"two", "<|1.24|>", "<|1.50|>"]
    assert found[14:17] == ["<|2.00|>", "<|2.00|>", "Ġ"] and found[-1] == "<|30.00|>"


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5))
def test_padding_of_a_batch_costs_no_loss(sizes: list[tuple[int, int]]) -> None:
    labels = [Labels([7] * (a + b), [IGNORED] * a + [8] * b) for a, b in sizes]
    inputs, targets = pad_labels(labels, 9)
    assert {len(row) for row in [*inputs, *targets]} == {max(a + b for a, b in sizes)}
    for row, target, label in zip(inputs, targets, labels, strict=True):
        own = len(label.inputs)
        assert row[:own] == label.inputs and set(row[own:]) <= {9}
        assert target[:own] == label.targets and set(target[own:]) <= {IGNORED}


def test_a_tokenizer_that_is_not_whispers_is_refused() -> None:
    class Foreign:
        unk_token, unk_token_id = "<unk>", 0

        def get_added_vocab(self) -> dict[str, int]:
            return {}

        def convert_tokens_to_ids(self, token: str) -> int:
            return 0

    with pytest.raises(ModelError, match="is it Whisper's"):
        LabelEncoder(Foreign())
