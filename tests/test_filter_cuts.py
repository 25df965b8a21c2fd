"""egrecho filter: judges as a listener would in every script, passes nothing unseen, writes down every drop."""

import json
from pathlib import Path
from typing import Any

import pytest

from egrecho_inner.config import parse
from egrecho_inner.data.batches.options import RuleOptions
from egrecho_inner.data.cuts.rules import Survival, error_rate, make_rules, read_labelled
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.filter_cuts import filter_cuts
from egrecho_inner.runtime.files import to_line, write_jsonl
from egrecho_inner.runtime.ledger import read_ledger

GOOD = {"avg_logprob": -0.2, "compression_ratio": 1.0, "no_speech": 0.0, "truncated": False, "looped": False}
GOOD |= {"tokens": 1}


def row(name: str, reference: str | None, heard: str, seconds: float = 2.0, language: str = "en", **marks: Any) -> dict:
    teacher = {**GOOD, "language": language, "text": heard, **marks}
    spoken = {"id": name, "recording_id": name, "start": 0.0, "duration": seconds, "channel": 0, "text": reference}
    spoken |= {"language": language, "custom": {"teacher": teacher}}
    return {"id": name, "start": 0, "duration": seconds, "channel": 0, "supervisions": [spoken], "type": "MonoCut"}


def write(folder: Path, rows: list[dict]) -> str:
    write_jsonl(folder / "in.jsonl", map(to_line, rows))
    return str(folder / "in.jsonl")


def kept(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "out.jsonl").read_text().splitlines()]


def run(folder: Path, rows: list[dict], **options: Any) -> list[str]:
    filter_cuts(write(folder, rows), str(folder / "out.jsonl"), RuleOptions(**options))
    return kept(folder)


def test_ten_percent_of_the_words_may_differ(tmp_path: Path) -> None:
    said = "a b c d e f g h i j"
    rows = [row("same", said, said), row("one", said, said.replace("j", "x")), row("two", said, "x x c d e f g h i j")]
    assert run(tmp_path, rows, normalizer="whisper-basic") == ["same", "one"]
    (skip,) = read_ledger(tmp_path / "skipped.jsonl")
    assert (skip.id, skip.stage, skip.reason) == ("two", "filter out.jsonl", "error_rate")
    assert (skip.value, skip.seconds) == (0.2, 2.0)


def test_text_without_spaces_is_judged_by_character() -> None:
    # by words one wrong character makes the whole sentence wrong: published filters kept a tenth of Japanese
    reference, heard = "今日はとても良い天気ですね。", "今日はとても良い天気ですよ。"
    rate, metric = error_rate(reference, heard, "ja", RuleOptions())
    assert (metric, rate) == ("cer", pytest.approx(1 / 13))
    assert error_rate(reference, heard, "ja", RuleOptions(metric="wer", normalizer="whisper-basic")) == (1.0, "wer")
    assert error_rate("one two", "one too", "en", RuleOptions())[1] == "wer"


@pytest.mark.parametrize("language", ["ja", "Japanese", "ja-JP", "jpn"])
def test_a_language_is_the_same_whatever_a_corpus_calls_it(tmp_path: Path, language: str) -> None:
    reference, heard = "今日はとても良い天気ですね。", "今日はとても良い天気ですよ。"
    rows = [row("a", reference, heard, language=language)]
    assert run(tmp_path, rows, languages=["Japanese"]) == ["a"]
    out = json.loads((tmp_path / "out.jsonl").read_text())
    assert out["supervisions"][0]["custom"]["teacher"]["metric"] == "cer"
    assert list(json.loads((tmp_path / "out.jsonl.json").read_text())["normalizers"]) == ["ja"]


def test_the_reference_is_all_that_is_spoken_in_the_order_of_time(tmp_path: Path) -> None:
    whole = row("a", "two", "one two")
    whole["supervisions"].append({**whole["supervisions"][0], "id": "b", "text": "one", "start": -0.1, "custom": None})
    assert run(tmp_path, [whole], max_error_rate=0.0) == ["a"]
    whole["supervisions"][1]["text"] = None
    with pytest.raises(DataError, match="cut a has no reference"):
        run(tmp_path, [whole], max_error_rate=0.0)


def test_punctuation_and_case_are_no_errors_and_marks_are_letters() -> None:
    assert error_rate("Hello, world!", "hello world", "en", RuleOptions())[0] == 0.0
    assert error_rate("คน", "คน", "th", RuleOptions())[0] == 0.0
    # the basic normaliser drops vowel signs: two different Hindi words would be equal
    assert error_rate("की", "का", "hi", RuleOptions())[0] == 1.0


def test_silence_passes_where_both_are_silent(tmp_path: Path) -> None:
    rows = [row("silent", "", ""), row("invented", "", "thanks for watching"), row("deaf", "hello", "")]
    assert run(tmp_path, rows) == ["silent"]
    assert {skip.id: skip.value for skip in read_ledger(tmp_path / "skipped.jsonl")} == {"invented": 9.99, "deaf": 1.0}


@pytest.mark.parametrize(
    ("marks", "options", "reason"),
    [
        ({"truncated": True}, {}, "truncated"),
        ({"looped": True}, {}, "looped"),
        ({"avg_logprob": -1.2}, {"min_avg_logprob": -1.0}, "avg_logprob"),
        ({"tokens": 129}, {"max_tokens": 128}, "tokens"),
        ({"compression_ratio": 2.5}, {"max_compression_ratio": 2.4}, "compression_ratio"),
        ({"no_speech": 0.9}, {"max_no_speech": 0.6}, "no_speech"),
        ({"language": "de"}, {"languages": ["en"]}, "language"),
        ({"seconds": 30.01}, {}, "duration"),
        ({"seconds": 0.2}, {"min_duration": 0.5}, "duration low"),
        ({"heard": "x" * 99}, {"max_characters_per_second": 30.0}, "characters_per_second"),
        (
            {"heard": "x"},
            {"min_characters_per_second": 1.0, "max_characters_per_second": 30.0},
            "characters_per_second low",
        ),
        ({"heard": " "}, {"empty": False}, "empty"),
    ],
)  # fmt: skip
def test_each_rule_without_a_reference(tmp_path: Path, marks: dict, options: dict, reason: str) -> None:
    bad = row("bad", None, **{"heard": "hello there", **marks})
    if marks.get("language"):
        bad["supervisions"][0]["custom"]["teacher"]["language"] = marks["language"]
    assert run(tmp_path, [row("good", None, "hello there"), bad], max_error_rate=None, **options) == ["good"]
    assert [skip.reason for skip in read_ledger(tmp_path / "skipped.jsonl")] == [reason]


def test_thirty_seconds_exactly_are_kept(tmp_path: Path) -> None:
    assert run(tmp_path, [row("full", "hello", "hello", 30.0)]) == ["full"]  # a strict bound threw full windows away


def test_what_follows_a_drop_in_its_recording_is_marked(tmp_path: Path) -> None:
    # so that no window of `egrecho pack` goes across the words that were dropped
    rows = [row(name, "hello", heard) for name, heard in [("a", "hello"), ("b", "x"), ("c", "hello"), ("d", "hello")]]
    for each, recording in zip(rows, ["one", "one", "two", "one"], strict=True):
        each["recording"] = {"id": recording}
    run(tmp_path, rows)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {each["id"]: "gap_before" in each["supervisions"][0]["custom"] for each in lines} == {
        "a": False, "c": False, "d": True,
    }  # fmt: skip


def test_an_unknown_rule_is_an_error(tmp_path: Path) -> None:
    # a published filter passed everything: its YAML key was not the function's, and the error was swallowed
    (tmp_path / "rules.yaml").write_text("rules: {max_eror_rate: 0.1}\n")
    with pytest.raises(ConfigError, match=r"rules\.max_error_rate"):
        parse(filter_cuts, ["in", "out", "-c", str(tmp_path / "rules.yaml")])


def test_a_missing_field_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    rows = [row("a", "hello", "hello"), row("b", "hello", "hello")]
    del rows[1]["supervisions"][0]["custom"]["teacher"]["avg_logprob"]
    with pytest.raises(DataError, match="cut b: the teacher's 'avg_logprob' is missing"):
        run(tmp_path, rows, min_avg_logprob=-1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    with pytest.raises(DataError, match="max_error_rate null"):
        run(tmp_path, [row("c", None, "hello")])
    del rows[1]["supervisions"][0]["custom"]
    with pytest.raises(DataError, match=r"in\.jsonl:2: cut b has no teacher's text"):
        run(tmp_path, rows)


@pytest.mark.parametrize("options", [{"max_error_rate": 10.0}, {"max_error_rate": -1.0}, {"normalizer": "english"}])
def test_a_threshold_in_percent_or_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_rules(RuleOptions(**options))


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 1 cuts passes"):
        run(tmp_path, [row("a", "hello", "goodbye")])
    assert not (tmp_path / "out.jsonl").exists()


def test_explain_adds_up_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [row(f"good{n}", "hello", "hello", 3600.0 / 100) for n in range(6)]
    for each in rows:
        each["duration"] = 20.0
    rows += [row("loop", "hello", "hello hello", 20.0, looped=True), row("wrong", "hello", "goodbye", 20.0)]
    filter_cuts(write(tmp_path, rows), str(tmp_path / "out.jsonl"), RuleOptions(), explain=True)
    said = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    assert "whisper-english" in said
    assert "reference  hello" in said
    assert "teacher    goodbye" in said
    survival = Survival(make_rules(RuleOptions()))
    for each in rows:
        survival.evaluate(read_labelled(each, RuleOptions(), "x"))
    alone = {line[0]: (line[2], line[3], line[4]) for line in survival.table()}
    assert alone["looped"] == ("1", "1", "7")
    assert alone["error_rate"] == ("2", "1", "6")  # the loop is wrong too, but was dropped before
    assert survival.kept == 6


def test_kept_cuts_say_how_they_passed_and_a_second_pass_drops_nothing(tmp_path: Path) -> None:
    said = "a b c d e f g h i j"
    rows = [row("one", said, said.replace("j", "x")), row("bad", said, "x")]
    assert run(tmp_path, rows, normalizer="none") == ["one"]
    teacher = json.loads((tmp_path / "out.jsonl").read_text())["supervisions"][0]["custom"]["teacher"]
    assert (teacher["error_rate"], teacher["metric"]) == (0.1, "wer")
    facts = json.loads((tmp_path / "out.jsonl.json").read_text())
    assert (facts["cuts"], facts["kept"], facts["normalizers"]) == (2, 1, {"en": "none (1)"})
    again = tmp_path / "again.jsonl"
    filter_cuts(str(tmp_path / "out.jsonl"), str(again), RuleOptions(normalizer="none"))
    assert again.read_bytes() == (tmp_path / "out.jsonl").read_bytes()
