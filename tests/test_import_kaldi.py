"""import-kaldi end to end: exact manifests from good directories, options, commands and names."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from kaldi_dirs import RATE, edit, failed, imported, make_dir, tone, write

from egrecho_inner.config import run
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.options import PackOptions
from egrecho_inner.data.cuts.make import read_cuts
from egrecho_inner.data.cuts.packing import pack
from egrecho_inner.import_kaldi import import_kaldi


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


def test_a_relative_path_to_a_fifo_is_named_as_one(tmp_path: Path) -> None:
    path = make_dir(tmp_path / "d", 2)
    os.mkfifo(path / "fifo.wav")
    edit("wav.scp", f"{path}/wav/u1.wav", "fifo.wav")(path)
    _, _, skips = imported(path, max_skip_ratio=0.5)
    assert (skips[0]["reason"], skips[0]["value"]) == ("audio is a FIFO, not an audio file", f"{path}/fifo.wav")


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


def test_no_window_goes_across_an_utterance_that_the_import_left_out(tmp_path: Path) -> None:
    # cuts are numbered without a hole, and 0.6 s without a text are no gap: its words were in the window all the same
    path = make_dir(tmp_path / "d", 1)
    soundfile.write(path / "wav" / "u0.wav", tone(6.0), RATE)
    write(path, "segments", "a u0 0 2", "b u0 2 2.6", "c u0 2.6 4", "d u0 4 6")
    write(path, "text", "a một", "b", "c hai", "d ba")
    write(path, "utt2lang", "a vi", "b vi", "c vi", "d vi")
    _, supervisions, skips = imported(path, max_skip_ratio=0.5)
    assert [skip["id"] for skip in skips] == ["b"]
    assert [each.get("custom") for each in supervisions] == [None, {"gap_before": True}, None]
    cuts = read_cuts(path / "out" / "x_recordings_train.jsonl", path / "out" / "x_supervisions_train.jsonl")
    assert [cut.supervisions[0].text for cut in pack(cuts, PackOptions(max_gap=1.0))] == ["một", "hai ba"]


def test_a_language_that_whisper_lacks_is_imported_by_its_code_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = make_dir(tmp_path / "d", 2)
    write(path, "utt2lang", "u0 mdw", "u1 MDW-CG")
    _, supervisions, _ = imported(path)
    assert [row["language"] for row in supervisions] == ["mdw", "mdw"]
    assert "language that no published Whisper has" in capsys.readouterr().out
    misspelt = make_dir(tmp_path / "misspelt", 2)
    write(misspelt, "utt2lang", "u0 englsh", "u1 mdw")
    code, message = failed(misspelt, capsys)
    assert code == 3 and "u0 englsh; nearest: en (english)" in message
