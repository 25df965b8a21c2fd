"""Tags and conditions: each definition on hand-made captions; a filter never passes what it has not looked at."""

from pathlib import Path

import pytest
import yaml

from egrecho_inner.data.cuts import tags
from egrecho_inner.data.cuts.conditions import Condition, first_failure, read_conditions
from egrecho_inner.data.cuts.tags import TAGS, Captions, compute, load_tags
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.cues import Cue

MACHINE = {"audio_language", "edit_distance"}
"""Tags that want a recogniser's text."""


def captions(*texts: str, seconds: float | None = None) -> Captions:
    """Make captions of one cue of 2 s for each text, 1 s apart."""
    cues = [Cue(3.0 * n, 3.0 * n + 2, text) for n, text in enumerate(texts)]
    return Captions(cues, seconds or 3.0 * len(texts))


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Hello there", "Yes we can"], "mixed"),
        (["HELLO", "YES", "no"], "upper"),
        (["hello", "yes", "123", "ok", "Bob"], "lower"),
        (["hello", "yes", "no", "Bob", "Ann"], "mixed"),  # 2 mixed to 3 lower: over 0.6
        (["Bob", "Ann", "Eve", "NO", "YES"], "upper"),
        (["Bob", "NO"], "upper"),
        (["HELLO", "yes"], "upper"),  # a tie, without mixed ones
        ([], "mixed"),
    ],
)
def test_casing(texts: list[str], expected: str) -> None:
    assert compute(captions(*texts), ["casing"]) == {"casing": expected}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["we went to", "we went to\nthe old house"], True),
        (["We went to,", "we went to"], True),
        (["no", "no", "no, no"], False),
        (["we went to", "and we went to the sea"], False),
        (["we went", "later", "we went"], False),
    ],
)
def test_repeating_lines(texts: list[str], expected: bool) -> None:
    assert compute(captions(*texts), ["repeating_lines"]) == {"repeating_lines": expected}


def test_counts_and_rates() -> None:
    found = compute(captions("Well, yes.", "then no", seconds=10), sorted(TAGS.keys() - MACHINE))
    assert found == {
        "captioned_share": 0.4,
        "casing": "mixed",
        "characters_per_second": 3.75,
        "distinct_words": 1.0,
        "has_comma_period": True,
        "has_proper_cap_after_punct_line": False,
        "longest_cue": 2.0,
        "music_cues": 0.0,
        "num_words": 4,
        "repeating_lines": False,
        "text_language": "en",
    }
    assert compute(captions(), ["characters_per_second", "captioned_share", "distinct_words"]) == {
        "characters_per_second": 0.0,
        "captioned_share": 0.0,
        "distinct_words": 1.0,
    }


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Wir fahren morgen mit dem Zug nach Berlin", "de"),
        ("Nous allons à la gare demain matin", "fr"),
        ("Vi kommer hjem i morgen tidlig, sa hun", "no"),
        ("今日は天気がいいですね", "ja"),
        ("123 ...", "und"),
    ],
)
def test_text_language(text: str, code: str) -> None:
    assert compute(captions(text), ["text_language"]) == {"text_language": code}


def test_the_edit_distance_is_that_of_normalised_texts() -> None:
    said = Captions(captions("It's FOUR o'clock,", "my friend.").cues, 6.0, "en", "its four o'clock friend", "en")
    assert compute(said, ["audio_language", "edit_distance"]) == {"audio_language": "en", "edit_distance": 0.5}
    for name in MACHINE:
        with pytest.raises(DataError, match="egrecho pseudo-label"):
            compute(captions("one"), [name])


def test_music_cues() -> None:
    found = compute(captions("[Music]", "♪ la la ♪", "(soft music playing)", "no music here"), ["music_cues"])
    assert found == {"music_cues": 0.75}


def test_a_users_file_adds_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "TAGS", dict(TAGS))
    file = tmp_path / "mine.py"
    file.write_text(
        "from egrecho_inner.data.cuts.tags import Captions, tag\n\n"
        '@tag("questions")\ndef questions(captions: Captions) -> int:\n    return captions.text.count("?")\n'
    )
    assert load_tags(str(file)) == ["questions"]
    assert compute(captions("what?", "why?"), ["questions"]) == {"questions": 2}
    with pytest.raises(ConfigError, match="'questions' is there already"):
        load_tags(str(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("x = 1", "adds no tag"), ("1 / 0", "fails: ZeroDivisionError")],
)
def test_a_users_file_that_does_not_work_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_tags(str(file))


def test_an_unknown_tag_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"unknown tag 'case'; known are .*casing"):
        compute(captions("a"), ["case"])


PIPELINE = [
    Condition("text_language", equals="en"),
    Condition("casing", one_of=["mixed", "lower"]),
    Condition("repeating_lines", equals=False),
    Condition("edit_distance", at_most=0.5),
    Condition("num_words", at_least=1, at_most=100),
    Condition("speaker", not_in=["robot"]),
]
GOOD = {
    "text_language": "en",
    "casing": "mixed",
    "repeating_lines": False,
    "edit_distance": 0.5,
    "num_words": 100,
    "speaker": "a",
}


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({}, None),
        ({"text_language": "de", "casing": "upper"}, "text_language = en"),
        ({"casing": "upper"}, "casing in [mixed, lower]"),
        ({"repeating_lines": True}, "repeating_lines = false"),
        ({"edit_distance": 0.500001}, "edit_distance <= 0.5"),
        ({"edit_distance": float("nan")}, "edit_distance <= 0.5"),
        ({"num_words": 0}, "1 <= num_words <= 100"),
        ({"speaker": "robot"}, "speaker not in [robot]"),
    ],
)
def test_the_first_condition_that_fails_is_named(change: dict, failed: str | None) -> None:
    found = first_failure(GOOD | change, PIPELINE, "window w1")
    assert (None if found is None else str(found)) == failed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"casing": None}, "window w1 has no value for tag 'casing'"),
        ({"edit_distance": "0.3"}, "window w1: tag 'edit_distance' is '0.3', no number"),
        ({"edit_distance": True}, "no number"),
        ({"repeating_lines": 0}, "is 0, a int, but it is compared with False"),
        ({"text_language": True}, "compared with 'en'"),
    ],
)
def test_nothing_passes_because_nobody_looked(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        first_failure(GOOD | change, PIPELINE, "window w1")
    missing = {name: value for name, value in GOOD.items() if name != "casing"}
    with pytest.raises(DataError, match=r"has no tag 'casing'.*egrecho tag --tags casing"):
        first_failure(missing, PIPELINE, "window w1")


@pytest.mark.parametrize(
    "fields", [{}, {"one_of": []}, {"equals": 1, "at_most": 2}, {"one_of": ["a"], "not_in": ["b"]}]
)
def test_a_condition_tests_one_thing(fields: dict) -> None:
    with pytest.raises(ConfigError, match="the condition on 'x'"):
        Condition("x", **fields)


WHEN = {"tag": "speech_share", "at_least": 0.1, "when": {"tag": "num_words", "at_least": 1}}


@pytest.mark.parametrize(("words", "share", "failed"), [(1, 0.05, True), (1, 0.1, False), (0, 0.05, False)])
def test_a_condition_is_asked_where_another_one_holds(words: int, share: float, failed: bool) -> None:
    (condition,) = read_conditions([WHEN])
    found = first_failure({"num_words": words, "speech_share": share}, [condition], "window w1")
    assert (found is condition) == failed and str(condition) == "speech_share >= 0.1 when num_words >= 1"


@pytest.mark.parametrize("tags", [{"num_words": 0}, {"speech_share": 0.5}, {"speech_share": 0.5, "num_words": "no"}])
def test_both_tags_of_such_a_condition_must_be_there(tags: dict) -> None:
    with pytest.raises(DataError, match=r"window w1(: tag 'num_words' is 'no', no number| has no tag)"):
        first_failure(tags, read_conditions([WHEN]), "window w1")


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("num_words", "when of 'speech_share' is 'num_words'; expected a condition"),
        ({"tag": "num_words"}, "the condition on 'num_words' tests nothing"),
        ({"tag": "num_words", "at_lest": 1}, "unknown key 'at_lest'"),
        (WHEN, "has a 'when' with another one in it"),
    ],
)
def test_a_condition_that_is_asked_at_times_is_checked_too(when: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_conditions([WHEN | {"when": when}])


def test_the_filter_for_english_wants_speech_where_there_is_text() -> None:
    file = Path(__file__).parents[3] / "config/pretrain/english.yaml"
    text = file.read_text(encoding="utf-8")
    conditions = read_conditions(yaml.safe_load(text)["conditions"])
    tags = {f"document.{name}": value for name, value in GOOD.items()} | {"document.audio_language": "en"}
    tags |= {"window.edit_distance": 0.0, "window.characters_per_second": 15.0}
    for words, share, failed in ((9, 0.5, None), (9, 0.0, "at_least"), (0, 0.5, "at_most"), (0, 0.0, None)):
        found = first_failure(tags | {"window.num_words": words, "window.speech_share": share}, conditions, "w")
        assert (found is None) if failed is None else getattr(found, failed) is not None
    head = "".join(line for line in text.splitlines() if line.startswith("#"))
    assert all(name.partition(".")[2] in head for condition in conditions for name in condition.tags)


@pytest.mark.parametrize(("line", "repeats"), [(">> nine", False), ("[Music] nine", False), (">> nine ten", True)])
def test_a_speakers_name_makes_no_line_of_one_word(line: str, repeats: bool) -> None:
    assert compute(captions(line, line), ["repeating_lines"]) == {"repeating_lines": repeats}
