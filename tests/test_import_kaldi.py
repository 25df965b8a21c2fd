"""import-kaldi end to end: exact manifests from good directories, one clear error or a counted skip from bad ones."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.config import run
from egrecho_inner.data.audio import load_audio
from egrecho_inner.data.cuts import read_cuts
from egrecho_inner.import_kaldi import import_kaldi

RATE = 16000


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1, pitch: float = 300) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * pitch * (c + 1) * time) for c in range(channels)], axis=1).astype("f4")


def make_dir(path: Path, count: int = 4) -> Path:
    """Write the spec's three-file directory: utterances u0, u1, ... of 1 s."""
    (path / "wav").mkdir(parents=True)
    for index in range(count):
        soundfile.write(path / "wav" / f"u{index}.wav", tone(pitch=200 + 10 * index), RATE)
    write(path, "wav.scp", *(f"u{index} {path}/wav/u{index}.wav" for index in range(count)))
    write(path, "text", *(f"u{index} Từ số {index}." for index in range(count)))
    write(path, "utt2lang", *(f"u{index} vi" for index in range(count)))
    return path


def write(path: Path, name: str, *lines: str) -> None:
    (path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = (path / name).read_text(encoding="utf-8")
        assert old in content
        (path / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def edit_bytes(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes().replace(old, new, 1))


def imported(path: Path, split: str = "train", **options: object) -> tuple[list[dict], list[dict], list[dict]]:
    """Import into `{path}/out` and return recordings, supervisions and skips."""
    import_kaldi(str(path), "x", split, out=str(path / "out"), jobs=1, **options)
    return tuple(rows(path, name) for name in (f"x_recordings_{split}", f"x_supervisions_{split}", "skipped"))


def rows(path: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (path / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def failed(path: Path, capsys: pytest.CaptureFixture, *options: str, split: str = "train") -> tuple[int, str]:
    """Run as a user would and return exit code and message; no manifest may be left behind."""
    with pytest.raises(SystemExit) as caught:
        run(import_kaldi, [str(path), "--prefix", "x", "--split", split, "--out", str(path / "out"), *options])
    assert not list((path / "out").glob("x_*"))
    return caught.value.code, capsys.readouterr().err


def test_three_files_give_the_lines_of_the_spec(tmp_path: Path) -> None:
    path = make_dir(tmp_path / "d", 1)
    soundfile.write(path / "wav" / "u0.wav", tone(96938 / RATE), RATE)
    recordings, supervisions, skips = imported(path)
    assert recordings == [
        {
            "id": "u0",
            "sources": [{"type": "file", "channels": [0], "source": f"{path}/wav/u0.wav"}],
            "sampling_rate": 16000,
            "num_samples": 96938,
            "duration": 6.058625,
            "channel_ids": [0],
        }
    ]
    expected = {"id": "u0", "recording_id": "u0", "start": 0.0, "duration": 6.058625, "channel": 0}
    assert supervisions == [{**expected, "text": "Từ số 0.", "language": "vi"}]
    assert list(supervisions[0]) == ["id", "recording_id", "start", "duration", "channel", "text", "language"]
    assert skips == []


def test_a_repeated_import_writes_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    path = make_dir(tmp_path / "d")
    imported(path)
    before = {file.name: file.read_bytes() for file in (path / "out").iterdir()}
    for name in ("wav.scp", "text", "utt2lang"):
        lines = (path / name).read_text(encoding="utf-8").splitlines()
        write(path, name, *reversed(lines))
    imported(path)
    assert {file.name: file.read_bytes() for file in (path / "out").iterdir()} == before


def test_speaker_gender_and_segments_are_used(tmp_path: Path) -> None:
    path = make_dir(tmp_path / "d", 2)
    soundfile.write(path / "wav" / "u1.wav", tone(3.21, 8000), 8000)
    write(path, "segments", "b-0 u1 0.50 1.75", "a-1 u1 1.75 -1", "c-0 u0 0.2 0.9")
    write(path, "text", "a-1 một", "b-0 hai ba", "c-0 bốn")
    write(path, "utt2lang", "a-1 vie", "b-0 Vietnamese", "c-0 vi-VN")
    write(path, "utt2spk", "a-1 a", "b-0 b", "c-0 c")
    write(path, "spk2gender", "a f", "b M")
    _, supervisions, _ = imported(path)
    assert [(s["id"], s["recording_id"], s["start"], s["duration"]) for s in supervisions] == [
        ("c-0", "u0", 0.2, 0.7),
        ("b-0", "u1", 0.5, 1.25),
        ("a-1", "u1", 1.75, 1.46),
    ]
    assert [(s.get("speaker"), s.get("gender"), s["language"]) for s in supervisions] == [
        ("c", None, "vi"),
        ("b", "m", "vi"),
        ("a", "f", "vi"),
    ]
    cuts = list(read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl"))
    assert [(cut.id, load_audio(cut).shape) for cut in cuts] == [
        ("u0-0", (11200,)),
        ("u1-0", (20000,)),
        ("u1-1", (23360,)),
    ]


@pytest.mark.parametrize(
    ("name", "rate", "subtype", "format"),
    [
        ("a.flac", 16000, "PCM_24", "FLAC"),
        ("a.mp3", 44100, None, "MP3"),
        ("a.ogg", 22050, None, "OGG"),
        ("a.wav", 48000, "FLOAT", "WAV"),
        ("a b.wav", 8000, "ULAW", "WAV"),  # a blank in the path
        ("mp3 inside.wav", 16000, None, "MP3"),
        ("a.sph", 8000, None, "NIST"),
    ],
)
def test_formats_rates_and_paths(tmp_path: Path, name: str, rate: int, subtype: str | None, format: str) -> None:
    path = make_dir(tmp_path / "d", 2)
    soundfile.write(path / "wav" / name, tone(1.5, rate), rate, subtype=subtype, format=format)
    edit("wav.scp", f"{path}/wav/u1.wav", f"{path}/wav/{name}")(path)
    recordings, supervisions, _ = imported(path)
    assert recordings[1]["sampling_rate"] == rate
    assert recordings[1]["num_samples"] == pytest.approx(1.5 * rate, abs=2000 if format == "MP3" else 0)
    assert supervisions[1]["duration"] == recordings[1]["num_samples"] / rate
    cuts = list(read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl"))
    assert load_audio(cuts[1]).shape == (cuts[1].num_samples,)


@pytest.mark.parametrize("channel", ["mix", "0", "1"])
def test_stereo_is_chosen_by_an_option(tmp_path: Path, channel: str) -> None:
    path = make_dir(tmp_path / "d", 2)
    stereo = tone(1.0, 8000, channels=2)
    soundfile.write(path / "wav" / "u1.wav", stereo, 8000)
    imported(path, channel=channel)
    cuts = list(read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl"))
    wanted = {"mix": stereo.mean(axis=1), "0": stereo[:, 0], "1": stereo[:, 1]}[channel]
    soundfile.write(path / "wav" / "wanted.wav", wanted, 8000)
    edit("wav.scp", f"{path}/wav/u1.wav", f"{path}/wav/wanted.wav")(path)
    imported(path)
    mono = list(read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl"))
    np.testing.assert_allclose(load_audio(cuts[1]), load_audio(mono[1]), atol=1e-4)


def test_stereo_without_the_option_is_an_error_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "d", 2)
    soundfile.write(path / "wav" / "u1.wav", tone(channels=2), RATE)
    code, message = failed(path, capsys)
    assert code == 3 and "wav.scp:2: u1: 2 channels" in message and "--channel mix, 0 or 1" in message


def test_relative_paths_are_found_beside_the_caller_or_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = make_dir(tmp_path / "d", 2)
    write(path, "wav.scp", "u0 d/wav/u0.wav", "u1 wav/u1.wav")
    monkeypatch.chdir(tmp_path)
    recordings, _, _ = imported(path)
    assert [r["sources"][0]["source"] for r in recordings] == [f"{path}/wav/u0.wav", f"{path}/wav/u1.wav"]
    write(path, "wav.scp", "u0 d/wav/u0.wav", "u1 nowhere/u1.wav")
    (path / "out" / "x_recordings_train.jsonl").unlink()
    (path / "out" / "x_supervisions_train.jsonl").unlink()
    code, message = failed(path, capsys)
    assert code == 3 and f"tried {tmp_path}/nowhere/u1.wav and {path}/nowhere/u1.wav" in message


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


AUDIO_FAULTS = [
    ("18", lambda f: f.unlink(), "audio: no such file"),
    ("19", lambda f: f.write_bytes(b""), "audio is empty (0 bytes)"),
    ("20", lambda f: soundfile.write(f, np.zeros(0), RATE), "audio holds 0 samples"),
    ("21", half, "audio is truncated"),
    ("22", torn_flac, "audio is truncated or corrupt"),
    ("22", lambda f: f.write_bytes(b"<html>404 Not Found</html>"), "audio looks like HTML"),
    ("22", lambda f: f.write_bytes(os.urandom(4000)), "audio is not audio that libsndfile can read"),
    ("26", nan_inside, "NaN or infinite samples"),
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


def test_an_unknown_language_can_be_overridden(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "d", 2)
    write(path, "utt2lang", "u0 mdw", "u1 mdw")
    _, supervisions, _ = imported(path, language="Lingala")
    assert [row["language"] for row in supervisions] == ["ln", "ln"]
    (path / "out" / "x_recordings_train.jsonl").unlink()
    (path / "out" / "x_supervisions_train.jsonl").unlink()
    code, message = failed(path, capsys, "--language", "klingon")
    assert code == 3 and "--language klingon: not a language of Whisper" in message


FAKE_FLAC = """#!{python}
import sys
assert sys.argv[1:4] == ["-c", "-d", "-s"] and len(sys.argv) == 5, sys.argv
data = open(sys.argv[4], "rb").read()
sys.stdout.buffer.write(data)
open("{log}", "a").write(sys.argv[4] + "\\n")
sys.exit(3 if data.startswith(b"bad") else 0)
"""


@pytest.fixture
def fake_flac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program `flac` on PATH that copies its input and logs the call; returns the log."""
    (tmp_path / "bin").mkdir()
    program, log = tmp_path / "bin" / "flac", tmp_path / "calls"
    program.write_text(FAKE_FLAC.format(python=sys.executable, log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    return log


def test_allowed_commands_run_once_without_a_shell(tmp_path: Path, fake_flac: Path) -> None:  # row 34
    path = make_dir(tmp_path / "d", 2)
    edit("wav.scp", f"u1 {path}/wav/u1.wav", "u1 flac -c -d -s wav/u1.wav |")(path)
    recordings, _, _ = imported(path, allow_pipes=True)
    source = Path(recordings[1]["sources"][0]["source"])
    assert source.parent == path / "out" / "x_transcoded_train" and source.suffix == ".flac"
    assert (recordings[1]["num_samples"], recordings[1]["sampling_rate"]) == (16000, 16000)
    np.testing.assert_array_equal(soundfile.read(source)[0], soundfile.read(path / "wav" / "u1.wav")[0])
    imported(path, allow_pipes=True)
    assert fake_flac.read_text().splitlines() == [f"{path}/wav/u1.wav"]


def test_a_failing_command_is_a_counted_skip(tmp_path: Path, fake_flac: Path) -> None:
    path = make_dir(tmp_path / "d", 2)
    (path / "wav" / "u1.wav").write_bytes(b"bad")
    edit("wav.scp", f"u1 {path}/wav/u1.wav", f"u1 flac -c -d -s {path}/wav/u1.wav |")(path)
    _, _, skips = imported(path, allow_pipes=True, max_skip_ratio=0.5)
    assert skips[0]["reason"] == "audio: command failed" and "status 3" in skips[0]["value"]


def test_a_missing_program_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, fake_flac: Path) -> None:
    path = make_dir(tmp_path / "d", 2)
    edit("wav.scp", f"u1 {path}/wav/u1.wav", f"u1 sph2pipe -f wav {path}/wav/u1.wav |")(path)
    code, message = failed(path, capsys, "--allow_pipes", "true")
    assert code == 5 and "sph2pipe, which is not on PATH" in message


@pytest.mark.parametrize("prefix", ["../x", "", ".x", "a/b"])
def test_names_cannot_leave_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture, prefix: str) -> None:
    path = make_dir(tmp_path / "d", 1)
    with pytest.raises(SystemExit) as caught:
        run(import_kaldi, [str(path), "--prefix", prefix, "--split", "train", "--out", str(path / "out")])
    assert caught.value.code == 2 and "--prefix" in capsys.readouterr().err


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, message = failed(tmp_path / "nowhere", capsys)
    assert code == 3 and "nowhere: no such folder" in message


def test_audio_elsewhere_is_read_and_on_record_and_what_is_no_audio_is_named(tmp_path: Path) -> None:  # row 37
    path = make_dir(tmp_path / "d", 3)
    elsewhere = tmp_path / "elsewhere.wav"
    (path / "wav/u0.wav").rename(elsewhere)
    (path / "wav/u0.wav").symlink_to(elsewhere)
    (path / "wav/u1.wav").unlink()
    (path / "wav/u1.wav").symlink_to("/etc/passwd")
    recordings, _, skips = imported(path, max_skip_ratio=0.5)
    assert [(each["id"], each["sources"][0]["source"]) for each in recordings] == [
        ("u0", f"{path}/wav/u0.wav"), ("u2", f"{path}/wav/u2.wav")
    ]  # fmt: skip
    assert [each["id"] for each in skips] == ["u1"]
    assert "root:" not in json.dumps(skips), "nothing of the file is shown"
