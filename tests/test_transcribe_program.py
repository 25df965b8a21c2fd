"""`egrecho transcribe`: files, folders, standard input; formats; what does not read is named, with an exit code."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import save_tiny, tones

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.subtitles import parse
from egrecho_inner.text.transcripts import Passage, TimedTranscript, Word, cues_of, to_srt, to_vtt, wrap
from egrecho_inner.transcribe import transcribe


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model") / "m", ending=2.0, seed=3))


def recording(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = tones(["one", "two", "three"], seconds, np.random.default_rng(0))[:: 16000 // rate]
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)
    return path


QUICK = ["--decode.language", "en", "--decode.max_new_tokens", "8", "--fallback", "false", "--no_speech", "null"]


def test_a_folder_becomes_files_and_what_is_broken_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    recording(tmp_path / "in" / "long.wav", 70.0)
    recording(tmp_path / "in" / "deep" / "stereo.flac", 2.0, 8000, 2)
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF nothing")
    argv = [str(tmp_path / "in"), "--model", model, "--out", str(tmp_path / "out"), *QUICK]
    with pytest.raises(SystemExit) as left:
        run(transcribe, [*argv, "--formats", "[txt, srt, json]", "--decode.max_part_seconds", "20"])
    assert left.value.code == DataError.exit_code
    assert "1 of 3 recordings could not be read" in capsys.readouterr().err
    made = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert made == [f"{name}.{form}" for name in ("deep/stereo", "long") for form in ("json", "srt", "txt")]
    found = json.loads((tmp_path / "out" / "long.json").read_text())
    assert len(found["segments"]) > 3 and found["language"] == "en"
    assert all(0 <= s["start"] <= s["end"] <= 70.0 for s in found["segments"])
    assert all(s["words"] for s in found["segments"])  # subtitles without timestamps ask for them
    starts = [w["start"] for s in found["segments"] for w in s["words"]]
    assert starts == sorted(starts)
    assert len(parse((tmp_path / "out" / "long.srt").read_text(), "srt")) >= len(found["segments"])


def test_standard_input_goes_to_standard_output(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = recording(tmp_path / "a.wav", 2.0).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wave)))
    run(transcribe, ["-", "--model", model, "--formats", "tsv", *QUICK])
    assert capsys.readouterr().out.startswith("start\tend\ttext\n0\t")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(DataError, match="standard input is empty"):
        transcribe(["-"], model)
    with pytest.raises(ConfigError, match="one format"):
        transcribe(["-"], model, formats=["txt", "srt"])
    with pytest.raises(ConfigError, match="one of several"):
        transcribe(["-", "x.wav"], model)
    with pytest.raises(DataError, match="no such file"):
        transcribe([str(tmp_path / "gone.wav")], model)


def transcript(text: str, seconds: float, language: str = "en") -> TimedTranscript:
    words = text.split()
    step = seconds / len(words)
    timed = tuple(Word(f" {w}", round(i * step, 2), round((i + 1) * step, 2), 1) for i, w in enumerate(words))
    return TimedTranscript([Passage(0.0, seconds, text, words=timed)], language, seconds)


def test_subtitles_fit_a_screen() -> None:
    text = " ".join(f"word{n}" for n in range(60))
    cues = list(cues_of(transcript(text, 40.0)))
    assert all(len(line) <= 48 for cue in cues for line in cue.text.split("\n"))
    assert all(cue.end - cue.start <= 7.0 for cue in cues)
    assert " ".join(cue.text.replace("\n", " ") for cue in cues) == text
    again = parse(to_srt(transcript(text, 40.0)), "srt")
    assert [(cue.start, cue.text) for cue in again] == [(cue.start, cue.text) for cue in cues]
    assert parse(to_vtt(transcript("a <b> & c", 4.0)), "vtt")[0].text == "a <b> & c"
    late = TimedTranscript([Passage(3661.5, 3662.0, "x")], "en", 3700.0)
    assert "01:01:01,500 --> 01:01:02,000" in to_srt(late)
    assert wrap("字" * 60, False).split("\n") == ["字" * 30, "字" * 30]
