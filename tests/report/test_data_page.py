"""The data page: whatever the data hold, the page is inert, complete, small and works from a disk."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from pages import HOSTILE, Outline, check_inert

from egrecho_inner.config_names import name_manifests
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.report.charts import Mark, histogram
from egrecho_inner.report.clips import encode_clip
from egrecho_inner.report.page import Html, page, table, tag
from egrecho_inner.report.survey import survey_cuts
from egrecho_inner.report_data import report_data


def write_cuts(path: Path, cuts: list[tuple[str, str, str, str]]) -> str:
    lines = []
    for number, (id, text, language, speaker) in enumerate(cuts):
        audio = path.with_name(f"{path.stem}-{number}.wav")
        soundfile.write(audio, np.random.default_rng([number, len(path.stem)]).uniform(-0.1, 0.1, 16000), 16000)
        speech = dict(id=id, recording_id=id, start=0.0, duration=1.0, channel=0, text=text)
        recording = dict(id=id, sources=[dict(type="file", channels=[0], source=str(audio))], sampling_rate=16000)
        recording |= dict(num_samples=16000, duration=1.0, channel_ids=[0])
        cut = dict(id=id, start=0, duration=1.0, channel=0, recording=recording, type="MonoCut")
        lines.append(json.dumps(cut | {"supervisions": [speech | dict(language=language, speaker=speaker)]}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, str]:
    train = [(f"u{n}", "a plain sentence of some words", "en", "s1") for n in range(25)]
    train += [
        (HOSTILE, HOSTILE, HOSTILE, HOSTILE),
        ("ar", "مرحبا بالعالم", "en", "s1"),
        ("short", "\ud800", "en", "s2"),
    ]
    test = [("t1", "今天天气很好我们去公园", "zh", "s1"), ("t2", "something else was said", "en", "s2")]
    paths = {"train": write_cuts(tmp_path / "train.jsonl", train), "test": write_cuts(tmp_path / "test.jsonl", test)}
    shutil.copy(tmp_path / "train-3.wav", tmp_path / "test-1.wav")  # a leak
    return paths


def test_hostile_data_stay_text(splits: dict[str, str], tmp_path: Path) -> None:
    ledger = tmp_path / "skipped.jsonl"
    row = dict(id=HOSTILE, stage=HOSTILE, reason=HOSTILE, value=HOSTILE, seconds=3600.0)
    ledger.write_text(json.dumps(row) + "\n")
    report_data(splits, str(tmp_path / "page.html"), skipped=str(ledger))
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    outline = check_inert(content, scripts=0)
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    assert outline.text.count(shown) >= 6  # id, text, language, speaker, ledger
    assert "مرحبا بالعالم" in outline.text
    assert {a.get("dir") for name, a in outline.elements if a.get("class") == "said"} == {"auto"}


def test_the_page_says_what_was_found_and_lets_one_hear_it(
    splits: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report_data(splits, str(tmp_path / "page.html"))
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    outline = Outline(content)
    assert "Test utterance that is in train" in outline.text
    assert "Not checked: characters per second, which take 20 utterances of a language: " in outline.text
    assert re.search(r"error +1  Test utterance that is in train\n", capsys.readouterr().out)
    for _, attributes in outline.elements:  # every link leads somewhere
        if (attributes.get("href") or "").startswith("#"):
            assert f'id="{attributes["href"][1:]}"' in content
    sounds = [a["src"] for name, a in outline.elements if name == "audio"]
    assert len(sounds) == len(set(sounds)) + 1 > 2  # each cut once, however often shown; the leak is two cuts


def test_copies_at_another_speed_are_no_utterances(tmp_path: Path) -> None:
    path = tmp_path / "corpus_train.jsonl"
    write_cuts(path, [("a", "one", "en", "s1"), ("b", "two", "en", "s1")])
    cuts = CutSet.from_file(path).to_eager()
    CutSet.from_cuts([*cuts, *cuts.perturb_speed(0.9), *cuts.perturb_speed(1.1)]).to_file(path)
    test = write_cuts(tmp_path / "corpus_test.jsonl", [("c", "one", "en", "s1")])
    report_data({"train": str(path), "test": test}, str(tmp_path / "page.html"))
    outline = Outline((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Audio3.0 s3 utterances" in outline.text and "Every transcript" in outline.text
    assert "counted nowhere here: train 4 (4.0 s)." in outline.text
    assert "corpus · Data report" in outline.text  # of the window: several pages are open at once
    assert "Evaluation speakers that are also in training data" in outline.text
    survey = survey_cuts({"train": str(path)})
    assert len(survey) == 2 and [cut.id for _, cut in survey.read([0, 1])] == ["a", "b"]
    CutSet.from_cuts(cuts.perturb_speed(0.9)).to_file(path)
    assert len(survey_cuts({"train": str(path)})) == 2, "where there is nothing else, copies are the data"


def test_players_keep_to_their_number_and_size(splits: dict[str, str], tmp_path: Path) -> None:
    def players(**limits: float) -> int:
        report_data(splits, str(tmp_path / "page.html"), **limits)
        return (tmp_path / "page.html").read_text().count("<audio")

    assert players(audio=2) == 2
    assert players(audio_mb=0.001) == 1  # the last one may overrun, none follows it
    assert players(audio=0) == 0


def test_the_same_data_give_the_same_page(splits: dict[str, str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        report_data(splits, str(tmp_path / f"{name}.html"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_names_of_splits() -> None:
    assert name_manifests(["data/dev.jsonl.gz", "test=x/y=z.jsonl"]) == {
        "dev": "data/dev.jsonl.gz",
        "test": "x/y=z.jsonl",
    }
    with pytest.raises(ConfigError):
        name_manifests(["a/cuts.jsonl", "b/cuts.jsonl"])
    with pytest.raises(DataError, match="no such ledger"):
        report_data({"a": "b"}, skipped="absent.jsonl")


def test_every_value_is_in_one_bar_of_the_histogram() -> None:
    values = np.concatenate([np.random.default_rng(0).gamma(4, 1.3, 5000), [0.0, 29.99, 30.0, 95.0]])
    chart = histogram({"train": values, "none": np.array([])}, "seconds", Mark(30, "limit"))
    counts = [int(count.replace(",", "")) for count in re.findall(r"seconds: ([\d,]+) \(", chart)]
    assert sum(counts) == len(values)
    assert "30.5 or more seconds: 1 (" in chart
    assert len(chart) < 20_000
    assert "no values" in histogram({}, "seconds")
    assert "<svg" in histogram({"one": np.zeros(3)}, "seconds")


def test_a_child_is_escaped_unless_it_is_html() -> None:
    assert tag("p", "<b>", Html("<i></i>"), 3, None, ["&", Html("")], title='"') == (
        '<p title="&quot;">&lt;b&gt;<i></i>3&amp;</p>'
    )
    assert table(["<"], [[Html("<b></b>")]]).count("&lt;") == 1


def test_the_policy_names_the_script_it_allows() -> None:
    content = page("t", "s", script="let a = 1 < 2;")
    assert "script-src 'sha256-" in Outline(content).elements[3][1]["content"]
    assert "let a = 1 < 2;</script>" in content


def test_a_clip_is_small_and_its_beginning() -> None:
    wave = np.sin(np.arange(40 * 16000) / 20).astype(np.float32)
    clip = encode_clip(wave)
    assert clip.cut_off and clip.seconds == 20 and len(clip.data) < 20 * 6000
    assert not encode_clip(wave[:16000]).cut_off
