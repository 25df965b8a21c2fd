"""import-kaldi and what is broken: one clear error, or a skip that is counted, as in the fault table."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kaldi_dirs import RATE, edit, edit_bytes, failed, imported, make_dir, tone, write

from egrecho_inner.config import run
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.cuts.make import read_cuts
from egrecho_inner.import_kaldi import import_kaldi

# Faults of the tables: exit 3, file and line, what to do. (row of the fault table, change, parts of the message)
TABLE_FAULTS = [
    ("1", lambda p: (p / "text").unlink(), ["d/text: missing file", "optional are segments"]),
    ("1", lambda p: (p / "wav.scp").unlink(), ["d/wav.scp: missing file"]),
    ("1", lambda p: (p / "text").write_bytes(b""), ["d/text: empty file"]),
    ("2", edit("wav.scp", "u2 ", "u1 "), ["wav.scp:3: u1", "line 2", "id twice with different values"]),
    ("2", edit("text", "u2 Từ số 2.", "u1 Từ số 1."), ["text:3: u1 (as line 2)", "line twice"]),
    ("3", edit("text", "u2 ", "u1 "), ["text:3: u1 'Từ số 2.', but line 2: 'Từ số 1.'"]),
    ("4", edit("text", "u2 Từ số 2.\n", ""), ["wav.scp:3: u2: id in wav.scp but not in text", "--fix true"]),
    (
        "4",
        edit("wav.scp", "u2 ", "v2 "),
        ["wav.scp but not in text (1)", "text but not in wav.scp (1)"],
    ),
    ("5", edit("text", "u2 ", "\nu2 "), ["text:3: blank line"]),
    ("5", edit("utt2lang", "u2 vi", "u2"), ["utt2lang:3: u2: one field only"]),
    ("5", edit("wav.scp", "u0 ", "u0\nu9 "), ["wav.scp:1: u0: one field only"]),
    (
        "7",
        edit_bytes("text", "Từ số 1".encode(), "été".encode("latin-1")),
        ["text:2: byte 0xe9 at column 4, looks like ISO-8859-1: u1 été", "iconv -f ISO-8859-1 -t UTF-8"],
    ),
    ("7", edit_bytes("text", "Từ số 1".encode(), "привет как дела".encode("cp1251")), ["looks like CP1251: u1 привет"]),
    ("7", lambda p: (p / "text").write_text("u0 a\n", encoding="utf-16"), ["UTF-16, not UTF-8", "iconv -f UTF-16"]),
    ("9", edit("text", "số 1", "s\0 1"), ["text:2: U+0000", "control character"]),
    ("9", edit("text", "số 1", "s\x1b[1m"), ["text:2: U+001B"]),
    ("9", edit("text", "số 1", "s\ufffd"), ["text:2:", "decoded wrongly"]),
    ("10", edit("text", "số 1", "<|endoftext|>"), ["text:2: u1 has <|endoftext|>", "special token"]),
    ("10", edit("text", "số 1", "<|0.00|> x"), ["text:2: u1 has <|0.00|>"]),
    ("10", edit("text", "số 1", "</s>"), ["text:2: u1 has </s>"]),
    ("10", edit("text", "số 1.", "#0"), ["text:2: u1 has #0"]),
    ("15", lambda p: write(p, "utt2spk", "u0 a", "u1 a", "u3 a"), ["text:3: u2: id in text but not in utt2spk"]),
    ("15", lambda p: write(p, "utt2spk", "u0 a b", "u1 a", "u2 a", "u3 a"), ["utt2spk:1: u0 a b", "2 fields"]),
    ("16", lambda p: (p / "utt2lang").unlink(), ["d/utt2lang: missing file", "--language"]),
    (
        "16",
        edit("utt2lang", "u1 vi", "u1 zzz"),
        ["utt2lang:2: u1 zzz", "not a language of Whisper", " vi yi yo yue"],
    ),
    ("16", edit("utt2lang", "u1 vi", "u1 vietnamse"), ["u1 vietnamse; nearest: vi (vietnamese)"]),
    ("17", edit("wav.scp", "u1 /", "u1 ~/"), ["wav.scp:2: u1 ~/", "no shell expands it"]),
    ("17", edit("wav.scp", "u1.wav", "u1.ark:17"), ["wav.scp:2:", "Kaldi archive"]),
    ("17", edit("wav.scp", "u1 /", "u1 http://x/"), ["wav.scp:2:", "URL, not a file"]),
    ("34", edit("wav.scp", "u1.wav", "u1.wav; touch PWNED |"), ["wav.scp:2: u1", "is not run", "--allow_pipes true"]),
    ("36", edit("wav.scp", "u1 ", "../../evil "), ["wav.scp:2: ../../evil: id that could leave a folder"]),
]


@pytest.mark.parametrize(("row", "change", "parts"), TABLE_FAULTS)
def test_faults_of_the_tables_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture, row: str, change: Callable[[Path], object], parts: list[str]
) -> None:
    path = make_dir(tmp_path / "d")
    change(path)
    code, message = failed(path, capsys)
    assert code == 3 and message.startswith("error: ")
    for part in parts:
        assert part in message
    assert "Traceback" not in message and not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("s1 u1 0.5 0.2", "segment that ends before it starts"),
        ("s1 u1 0.5 0.5", "segment that ends before it starts"),
        ("s1 u1 -0.5 0.5", "segment times that are not seconds"),
        ("s1 u1 nan 0.5", "segment times that are not seconds"),
        ("s1 u1 0 1e999", "segment times that are not seconds"),
        ("s1 u1 0 0.5 A", "segments line without 4 fields"),
        ("s1 u1 0.5", "segments line without 4 fields"),
        ("s1 rX 0.1 0.5", "segment of a recording that is not in wav.scp"),
    ],
)
def test_bad_segments_are_errors_with_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, line: str, part: str
) -> None:  # rows 12, 14
    path = make_dir(tmp_path / "d", 2)
    write(path, "segments", "s0 u0 0 0.9", line)
    write(path, "text", "s0 a", "s1 b")
    write(path, "utt2lang", "s0 en", "s1 en")
    code, message = failed(path, capsys)
    assert code == 3 and "segments:2: s1" in message and part in message


def test_all_faults_are_told_in_one_pass_with_counts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "d", 20)
    write(path, "utt2lang", *(f"u{index} qqq" for index in sorted(range(20), key=str)))
    edit("text", "u3 ", "v3 ")(path)
    edit("text", "số 4", "<s>")(path)
    code, message = failed(path, capsys)
    assert code == 3 and "errors)" in message.splitlines()[0]
    assert "not a language of Whisper (20)" in message and "... and 15 more" in message
    assert "id in text but not in wav.scp (1)" in message and "special token in the transcript (1)" in message


@pytest.mark.parametrize(
    ("row", "change"),
    [
        ("6", lambda p: write(p, "text", "u3 Từ số 3.", "u1 Từ số 1.", "u0 Từ số 0.", "u2 Từ số 2.")),
        ("6", lambda p: (p / "text").write_bytes((p / "text").read_bytes().rstrip(b"\n"))),
        ("8", lambda p: (p / "text").write_bytes(b"\xef\xbb\xbf" + (p / "text").read_bytes())),
        ("9", lambda p: (p / "text").write_bytes((p / "text").read_bytes().replace(b"\n", b"\r\n"))),
        ("9", edit("text", "u1 Từ số", "u1\tTừ\xa0số")),
        ("9", edit("text", "u1 Từ", "u1  \ufeffTừ")),
        ("9", edit("text", "số 1.", "số 1. ")),
        ("15", lambda p: write(p, "spk2utt", "a u0 u1", "b u2 u3")),
    ],
)
def test_what_can_be_repaired_is_repaired_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture, row: str, change: Callable[[Path], object]
) -> None:
    path = make_dir(tmp_path / "d")
    _, clean, _ = imported(path)
    capsys.readouterr()
    change(path)
    _, supervisions, _ = imported(path)
    assert [row["text"] for row in supervisions] == [row["text"] for row in clean]
    assert "warning: " in capsys.readouterr().out


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nan_inside(path: Path) -> None:
    samples = tone()
    samples[5000] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def torn_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80000), RATE, format="FLAC")
    half(path)


def far_too_loud(path: Path) -> None:
    samples = tone()
    samples[5000] = 1e30
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


AUDIO_FAULTS = [
    ("18", lambda f: f.unlink(), "audio: no such file"),
    ("19", lambda f: f.write_bytes(b""), "audio is empty (0 bytes)"),
    ("20", lambda f: soundfile.write(f, np.zeros(0), RATE), "audio holds 0 samples"),
    ("21", half, "audio is truncated"),
    ("22", torn_flac, "audio is truncated or corrupt"),
    ("22", lambda f: f.write_bytes(b"<html>404 Not Found</html>"), "audio looks like HTML"),
    ("22", lambda f: f.write_bytes(os.urandom(4000)), "audio is not audio that libsndfile can read"),
    ("26", nan_inside, "NaN or infinite samples"),
    ("26", far_too_loud, "samples beyond 100 times full scale"),
    ("37", fifo, "audio is a FIFO, not an audio file"),
    ("27", lambda f: soundfile.write(f, np.zeros(RATE), RATE), "digital silence with a transcript"),
    ("28", lambda f: soundfile.write(f, tone(200 / RATE), RATE), "shorter than 0.1 s"),
    ("29", lambda f: soundfile.write(f, tone(31), RATE), "longer than 30 s"),
]


@pytest.mark.parametrize(("row", "damage", "reason"), AUDIO_FAULTS)
def test_bad_audio_is_skipped_counted_and_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture, row: str, damage: Callable[[Path], object], reason: str
) -> None:
    path = make_dir(tmp_path / "d")
    damage(path / "wav" / "u2.wav")
    code, message = failed(path, capsys)
    assert code == 3 and reason in message and "1 of 4 would be left out, more than the limit of 1 %" in message
    assert "first: u2 (" in message and "--max_skip_ratio 0.25" in message
    recordings, supervisions, skips = imported(path, max_skip_ratio=0.25)
    assert [row["id"] for row in supervisions] == [row["id"] for row in recordings] == ["u0", "u1", "u3"]
    assert [(skip["id"], skip["stage"]) for skip in skips] == [("u2", "import x train")]
    assert skips[0]["reason"].startswith(reason)
    assert f"kept 3 of 4 utterances (75.0 %): 1 {reason}" in capsys.readouterr().out


def test_test_sets_keep_what_is_long_empty_or_silent_and_lose_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:  # rows 11, 27, 29
    path = make_dir(tmp_path / "d")
    soundfile.write(path / "wav" / "u1.wav", tone(31), RATE)
    soundfile.write(path / "wav" / "u2.wav", np.zeros(RATE), RATE)
    edit("text", "u3 Từ số 3.", "u3")(path)
    _, supervisions, _ = imported(path, split="test")
    assert [row["id"] for row in supervisions] == ["u0", "u1", "u2", "u3"]
    (path / "out" / "x_supervisions_test.jsonl").unlink()  # its ids are free again
    code, message = failed_train(path, capsys)
    assert code == 3 and "3 of 4 would be left out" in message
    _, supervisions, skips = imported(path, max_skip_ratio=1.0)
    assert [row["id"] for row in supervisions] == ["u0"]
    assert [skip["reason"] for skip in skips] == [
        "longer than 30 s",
        "digital silence with a transcript",
        "empty transcript",
    ]
    (path / "wav" / "u0.wav").unlink()
    with pytest.raises(SystemExit) as caught:
        run(import_kaldi, [str(path), "--prefix", "y", "--split", "test", "--out", str(path / "out")])
    assert caught.value.code == 3 and "more than the limit of 0 %" in capsys.readouterr().err


def failed_train(path: Path, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        run(import_kaldi, [str(path), "--prefix", "x", "--split", "train", "--out", str(path / "out")])
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("end", "kept"), [(1.4, True), (1.6, False), (9.5, False)])
def test_a_segment_past_the_end_is_trimmed_or_skipped(tmp_path: Path, end: float, kept: bool) -> None:  # row 13
    path = make_dir(tmp_path / "d", 2)
    write(path, "segments", "s0 u0 0 0.9", f"s1 u1 0.25 {end}")
    write(path, "text", "s0 a", "s1 b")
    _, supervisions, skips = imported(path, language="en", max_skip_ratio=0.5)
    assert [(row["id"], row["duration"]) for row in supervisions][1:] == ([("s1", 0.75)] if kept else [])
    assert [skip["reason"] for skip in skips] == ([] if kept else ["segment past the end of its recording"])


def test_a_trimmed_segment_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # row 13
    path = make_dir(tmp_path / "d", 2)
    write(path, "segments", "s0 u0 0 1.005", "s1 u1 0.25 1.35", "s2 u1 0.5 1.0")
    write(path, "text", "s0 a", "s1 b", "s2 c")
    imported(path, language="en")
    out = capsys.readouterr().out
    assert "warning: segment trimmed to its recording's end (1); its last words may be missing" in out
    assert "segments:2: s1 ends at 1.35 s, its recording at 1.000" in out and "s0" not in out


def test_a_recording_that_lacks_milliseconds_is_used_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "d")
    for name, lost in (("u1", 726), ("u2", 3000)):
        os.truncate(path / "wav" / f"{name}.wav", (path / "wav" / f"{name}.wav").stat().st_size - lost)
    recordings, supervisions, _ = imported(path)
    assert [row["num_samples"] for row in recordings] == [16000, 16000 - 363, 16000 - 1500, 16000]
    assert supervisions[1]["duration"] == (16000 - 363) / 16000
    out = capsys.readouterr().out
    assert "warning: audio shorter than its header announces (2); used as long as it is" in out
    assert "u1.wav lacks 0.023 s at its end" in out
    cuts = list(read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl"))
    assert [len(load_audio(cut)) for cut in cuts] == [16000, 16000 - 363, 16000 - 1500, 16000]


def test_not_a_number_costs_only_the_segment_it_is_in(tmp_path: Path) -> None:  # row 26
    path = make_dir(tmp_path / "d", 1)
    samples = tone(6.0)
    samples[int(4.5 * RATE)] = np.inf
    soundfile.write(path / "wav" / "u0.wav", samples, RATE, subtype="FLOAT")
    write(path, "segments", "s0 u0 0 3.5", "s1 u0 3.5 5.5", "s2 u0 5.1 6")
    write(path, "text", "s0 a", "s1 b", "s2 c")
    _, supervisions, _ = imported(path, language="en", max_skip_ratio=0.5)
    assert [row["id"] for row in supervisions] == ["s0", "s2"]


def test_reported_durations_are_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # row 31
    path = make_dir(tmp_path / "d", 2)
    write(path, "reco2dur", "u0 1.0", "u1 1.4")
    recordings, _, _ = imported(path)
    assert recordings[1]["duration"] == 1.0
    assert "reco2dur:2: u1 says 1.4 s, the audio has 1.000 s" in capsys.readouterr().out


def test_low_rates_are_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # row 23
    path = make_dir(tmp_path / "d", 2)
    soundfile.write(path / "wav" / "u1.wav", tone(2.0, 8000), 8000)
    recordings, _, _ = imported(path)
    assert (recordings[1]["sampling_rate"], recordings[1]["duration"]) == (8000, 2.0)
    assert "upsampled to 16000 Hz (1)" in capsys.readouterr().out
