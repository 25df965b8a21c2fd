"""validate-data as a user runs it: Kaldi's checks, exit codes, --fix and --json."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.config import run
from egrecho_inner.validate_data import validate_data

UTTERANCES = ("ann-1", "ann-2", "bob-1")


def write(path: Path, name: str, *lines: str) -> None:
    (path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def make_dir(path: Path) -> Path:
    """Write a full Kaldi directory with segments: two recordings, two speakers, three utterances."""
    path.mkdir(parents=True)
    for index, recording in enumerate(("rec1", "rec2")):
        soundfile.write(path / f"{recording}.wav", 0.3 * np.sin(np.arange(48000) / (9 + index)), 16000)
    write(path, "wav.scp", f"rec1 {path}/rec1.wav", f"rec2 {path}/rec2.wav")
    write(path, "segments", "ann-1 rec1 0 1.5", "ann-2 rec1 1.5 3", "bob-1 rec2 0.5 -1")
    write(path, "text", "ann-1 một", "ann-2 hai", "bob-1 ba")
    write(path, "utt2lang", *(f"{id} vi" for id in UTTERANCES))
    write(path, "utt2spk", "ann-1 ann", "ann-2 ann", "bob-1 bob")
    write(path, "spk2utt", "ann ann-1 ann-2", "bob bob-1")
    write(path, "spk2gender", "ann f", "bob m")
    for name, value in (("feats.scp", "x.ark:1"), ("vad.scp", "y.ark:1"), ("utt2uniq", "q"), ("utt2dur", "1.5")):
        write(path, name, *(f"{id} {value}" for id in UTTERANCES))
    for name, value in (("utt2num_frames", "150"), ("utt2warp", "1.1")):
        write(path, name, *(f"{id} {value}" for id in UTTERANCES))
    for name, value in (("cmvn.scp", "z.ark:1"), ("spk2warp", "0.9")):
        write(path, name, f"ann {value}", f"bob {value}")
    write(path, "reco2dur", "rec1 3.0", "rec2 3.0")
    write(path, "reco2file_and_channel", "rec1 f1 A", "rec2 f2 B")
    return path


def validated(path: Path, capsys: pytest.CaptureFixture, *options: str) -> tuple[int, str, str]:
    """Run the program and return exit code, stdout and stderr."""
    code = 0
    try:
        run(validate_data, [str(path), *options])
    except SystemExit as left:
        code = left.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = (path / name).read_text(encoding="utf-8")
        assert old in content
        (path / name).write_text(content.replace(old, new, 1), encoding="utf-8")

    return change


def test_a_complete_directory_passes_without_a_word_of_blame(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = validated(make_dir(tmp_path / "train"), capsys)
    assert (code, err) == (0, "") and out.endswith("0 errors, 0 left out, 0 warnings\n")
    assert "3 utterances in 2 recordings" in out and "speakers 2; languages vi 3" in out and "0.00 h; 2 at 16000" in out


# Kaldi's check (its number in validate_data_dir.sh), change, exit code, what is said
CHECKS = [
    (2, lambda p: (p / "utt2spk").unlink(), 0, "note: no utt2spk"),
    (2, lambda p: (p / "spk2utt").unlink(), 0, "note: no spk2utt"),
    (3, lambda p: (p / "utt2spk").write_text(""), 3, "utt2spk"),
    (4, edit("utt2spk", "ann-2 ann", "ann-2 ann x"), 3, "utt2spk:2: ann-2 ann x"),
    (5, lambda p: write(p, "utt2spk", *(f"{id} ann" for id in UTTERANCES)), 3, "one speaker only"),
    (6, lambda p: (p / "text").write_bytes((p / "text").read_bytes()[:-1]), 0, "no newline at the end"),
    (7, lambda p: write(p, "utt2dur", "bob-1 1", "ann-1 1", "ann-2 1"), 0, "utt2dur:2: ann-1 after bob-1"),
    (7, edit("utt2dur", "ann-2 ", "ann-1 "), 3, "utt2dur:2: ann-1 (as line 1)"),
    (8, lambda p: write(p, "utt2spk", "ann-1 zed", "ann-2 ann", "bob-1 bob"), 3, "sorted by utterance, not by speaker"),
    (9, edit("spk2utt", "ann ann-1 ann-2", "ann ann-1"), 0, "spk2utt is not the inverse of utt2spk"),
    (10, lambda p: (p / "text").unlink(), 3, "text\n"),
    (11, edit("text", "hai", "h\x07i"), 3, "text:2: U+0007"),
    (12, edit("text", "hai", "hai\u2003hai"), 0, "odd white space"),
    (13, edit("text", "hai", "</s>"), 3, "text:2: ann-2 has </s>"),
    (14, edit("text", "ann-2 hai\n", ""), 3, "utt2spk:2: ann-2"),
    (15, lambda p: (p / "wav.scp").unlink(), 3, "wav.scp\n"),
    (17, lambda p: edit("wav.scp", f"rec1 {p}", "rec1 ~")(p), 3, "wav.scp:1: rec1 ~"),
    (18, edit("segments", "1.5 3", "1.5 3 A"), 3, "segments:2: ann-2 rec1 1.5 3 A"),
    (18, edit("segments", "1.5 3", "1.5 1"), 3, "segments:2: ann-2 rec1 1.5 1"),
    (19, edit("segments", "ann-2 rec1 1.5 3\n", ""), 3, "utterance in text but not in segments"),
    (20, edit("segments", "rec2", "recX"), 3, "segments:3: bob-1 recX"),
    (20, edit("segments", "rec2", "rec1"), 0, "wav.scp:2: rec2"),
    (25, edit("spk2gender", "bob m", "bob x"), 3, "spk2gender:2: bob x"),
    (25, edit("spk2gender", "bob m\n", ""), 3, "speaker in utt2spk but not in spk2gender"),
    (28, edit("utt2lang", "ann-2 vi\n", ""), 3, "id in text but not in utt2lang"),
    (29, edit("utt2dur", "1.5", "0"), 3, "utt2dur:1: ann-1 0"),
    (31, edit("reco2dur", "3.0", "-3.0"), 3, "reco2dur:1: rec1 -3.0"),
    (31, edit("reco2dur", "3.0", "3.4"), 0, "rec1 says 3.4 s, the audio has 3.000 s"),
]


@pytest.mark.parametrize(("check", "change", "expected", "said"), CHECKS)
def test_every_check_of_kaldi(
    tmp_path: Path, capsys: pytest.CaptureFixture, check: int, change: Callable, expected: int, said: str
) -> None:
    path = make_dir(tmp_path / "train")
    change(path)
    code, out, err = validated(path, capsys)
    assert (code, err[:7]) == (expected, "error: " if expected else "") and said in out


def test_files_that_nothing_reads_are_not_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "train")
    for name in ("feats.scp", "vad.scp", "cmvn.scp", "utt2uniq", "utt2num_frames", "reco2file_and_channel"):
        (path / name).write_bytes(b"\xff nothing of ours\n")
    assert validated(path, capsys)[0] == 0


def test_without_segments_recordings_are_utterances(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # check 22
    path = make_dir(tmp_path / "train")
    (path / "segments").unlink()
    code, out, _ = validated(path, capsys)
    assert code == 3 and "id in wav.scp but not in text (2)" in out and "id in text but not in wav.scp (3)" in out


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # check 1
    assert validated(tmp_path / "no", capsys) == (3, "", f"error: {tmp_path}/no: no such folder; give a Kaldi data "
                                                  "directory (wav.scp, text, utt2lang)\n")  # fmt: skip


def test_what_an_import_leaves_out_is_a_failure_up_to_a_limit(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "train")
    (path / "rec2.wav").unlink()
    edit("text", "ann-1 một", "ann-1")(path)
    code, out, err = validated(path, capsys)
    assert code == 3 and "2 of 3 utterances would be left out (0 % allowed)" in err
    assert err.endswith("; fix them, or allow it with --max_skip_ratio 0.667\n")
    assert "LEFT OUT: audio: no such file (1)" in out and "LEFT OUT: empty transcript (1)" in out
    assert validated(path, capsys, "--max_skip_ratio", "0.7")[0] == 0
    assert "empty transcript" not in validated(path, capsys, "--train", "false")[1]
    code, out, _ = validated(path, capsys, "--audio", "false")
    assert code == 0 and "no such file" not in out


def test_fix_repairs_keeps_a_backup_and_is_idempotent(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "train")
    before = (path / "text").read_bytes()
    (path / "text").write_bytes(b"\xef\xbb\xbfbob-1\tba\r\n\nann-2 hai \nann-1 m\nann-1 m\nzed-1 x")
    broken = (path / "text").read_bytes()
    edit("feats.scp", "ann-2 x.ark:1\n", "")(path)
    assert validated(path, capsys)[0] == 3
    code, out, _ = validated(path, capsys, "--fix", "true")
    assert code == 0 and "kept 2 utterances out of 4" in out
    assert (path / "text").read_text() == "ann-1 m\nbob-1 ba\n" and (path / "segments").read_text().count("\n") == 2
    assert (path / "spk2utt").read_text() == "ann ann-1\nbob bob-1\n"
    assert (path / ".backup" / "text").read_bytes() == broken != before
    content = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    code, out, _ = validated(path, capsys, "--fix", "true")
    assert code == 0 and "rewrote nothing" in out
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit("text", "ann-2", "ann-1"), "text:2: ann-1 'hai', but line 1: 'một'"),
        (lambda p: (p / "text").write_bytes("ann-1 été\n".encode("latin-1")), "looks like ISO-8859-1"),
        (lambda p: write(p, "text", "other words"), "fixing would leave nothing"),
        (lambda p: (p / "text").unlink(), "text: missing file; nothing can make it up"),
    ],
)
def test_fix_refuses_what_needs_a_person(
    tmp_path: Path, capsys: pytest.CaptureFixture, change: Callable, said: str
) -> None:
    path = make_dir(tmp_path / "train")
    change(path)
    content = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    code, _, err = validated(path, capsys, "--fix", "true")
    assert code == 3 and said in err
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == content


def test_json_is_all_of_stdout(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dir(tmp_path / "train")
    code, out, _ = validated(path, capsys, "--json", "true")
    report = json.loads(out)
    assert code == 0 and report["ok"] and report["utterances"] == report["kept"] == 3
    assert (report["errors"], report["skips"], report["warnings"], report["findings"]) == (0, 0, 0, [])
    (path / "rec2.wav").write_bytes(b"<html>")
    edit("utt2lang", "ann-1 vi", "ann-1 zzz")(path)
    code, out, _ = validated(path, capsys, "--json", "true", "--fix", "true")
    report = json.loads(out)
    assert code == 3 and not report["ok"] and report["fixed"]["kept"] == 3
    assert [(f["level"], f["kind"], f["count"]) for f in report["findings"]] == [
        ("error", "not a language of Whisper", 1),
        ("skip", "audio looks like HTML (a failed download?)", 1),
    ]
    assert report["findings"][0]["first"] == [f"{path}/utt2lang:1: ann-1 zzz"]


def test_commands_are_refused_or_only_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # row 34
    path = make_dir(tmp_path / "train")
    edit("wav.scp", f"rec1 {path}/rec1.wav", f"rec1 touch {path}/PWNED; cat {path}/rec1.wav |")(path)
    code, out, _ = validated(path, capsys)
    assert code == 3 and "command in wav.scp is not run" in out
    code, out, _ = validated(path, capsys, "--allow_pipes", "true")
    assert code == 3 and "'touch' is not one of sox, sph2pipe, flac, ffmpeg" in out
    edit("wav.scp", f"touch {path}/PWNED; cat", "flac -c -d -s")(path)
    code, out, _ = validated(path, capsys, "--allow_pipes", "true")
    assert code == 0 and "commands whose audio is not checked (1)" in out
    assert not (path / "PWNED").exists() and not list(path.glob("*.flac"))


def test_overlap_with_train_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:  # row 33
    train, test = make_dir(tmp_path / "train"), make_dir(tmp_path / "test")
    code, out, _ = validated(test, capsys, "--train_dir", str(train))
    assert code == 3 and "audio that is also in train (2)" in out and f"rec1 is rec1 of {train}" in out
    assert "speaker who is also in train (2)" in out
