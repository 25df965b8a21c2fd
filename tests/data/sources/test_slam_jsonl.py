"""SLAM-LLM's JSONL and cuts: a round trip, and everything a line may have wrong."""

import json
from pathlib import Path

import pytest
import soundfile
from tiny import RATE, tones

from egrecho_inner.config import run
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.errors import DataError
from egrecho_inner.export_jsonl import export_jsonl
from egrecho_inner.import_jsonl import import_jsonl

TARGET = "1 little recks the laborer. How near his work is holding him to God, only or found only."


def wave(path: Path, seconds: float = 1.0) -> str:
    import numpy as np

    soundfile.write(path, tones(["one"], seconds, np.random.default_rng(0)), RATE)
    return str(path)


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_round_trip_keeps_every_line(tmp_path: Path) -> None:
    rows = [
        {"key": "1001-0_ASR", "source": wave(tmp_path / "a.wav"), "target": TARGET},
        {"key": "b", "source": wave(tmp_path / "long.wav", 31), "target": "", "task": "asr"},
        {"key": "c", "source": wave(tmp_path / "c.wav"), "target": "Ünı", "task": "hotword", "hotword": "Recks, God"},
        {"key": "d", "target": "text alone", "tokens": [5, 7, 7]},
    ]
    source = write(tmp_path / "in.jsonl", *rows)
    import_jsonl(source, str(tmp_path / "cuts.jsonl.gz"), language="en")
    cuts = CutIndex(tmp_path / "cuts.jsonl.gz")
    assert [cut.id for cut in cuts] == ["1001-0_ASR", "b", "c", "d"]
    assert cuts[0].supervisions[0].text == TARGET
    assert cuts[1].duration == 31
    assert not cuts[3].has_recording
    export_jsonl(str(tmp_path / "cuts.jsonl.gz"), str(tmp_path / "out.jsonl"))
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows


def test_keys_that_come_twice_are_named_with_their_lines(tmp_path: Path) -> None:
    row = {"key": "same", "source": wave(tmp_path / "a.wav"), "target": "x"}
    with pytest.raises(DataError, match="same in lines 1 and 3"):
        import_jsonl(write(tmp_path / "in.jsonl", row, {**row, "key": "b"}, row), str(tmp_path / "cuts.jsonl"))
    assert not (tmp_path / "cuts.jsonl").exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"key": "a", "source": "touch HACKED |", "target": "x"}, "is a command"),
        ({"key": "a", "source": "https://host/a.wav", "target": "x"}, "URL"),
        ({"key": "a", "source": "feats.ark:123", "target": "x"}, "Kaldi archive"),
        ({"key": "a", "source": "a.wav"}, "in.jsonl:1: expected JSON with key"),
        ({"key": 3, "source": "a.wav", "target": "x"}, "strings"),
        ("{torn", "in.jsonl:1"),
        ("", "has no lines"),
    ],
)
def test_a_line_that_is_wrong_is_refused(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        import_jsonl(write(tmp_path / "in.jsonl", row), str(tmp_path / "cuts.jsonl"))
    assert not Path("HACKED").exists()


def test_audio_that_is_not_there_is_counted_and_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"key": "a", "source": wave(tmp_path / "a.wav"), "target": "x"},
        {"key": "b", "source": "no.wav", "target": "y"},
    ]
    source, out = write(tmp_path / "in.jsonl", *rows), str(tmp_path / "cuts.jsonl")
    with pytest.raises(SystemExit) as stopped:
        run(import_jsonl, [source, out])
    assert stopped.value.code == 3
    run(import_jsonl, [source, out, "--max_skip_ratio", "0.5"])
    assert "kept 1 of 2 lines" in capsys.readouterr().out
    assert json.loads((tmp_path / "skipped.jsonl").read_text())["id"] == "b"
