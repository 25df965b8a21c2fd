"""Validation and fixing on directories nobody would write by hand: they agree with each other and with the import."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from egrecho_inner.data.sources.kaldi_fix import fix_data_dir
from egrecho_inner.data.sources.manifests import Rules
from egrecho_inner.data.sources.validation import Looking, check_overlap, validate
from egrecho_inner.errors import DataError
from egrecho_inner.text.normalize import fold_text

IDS = st.sampled_from(["u1", "u2", "u3", "ü4", "a-5", "../x", "-"])
WORDS = st.sampled_from(["một", "hai ba", "", " ", "<s>", "a\u3000b", "\ufeffa", "x\x01", "a\tb", "ok "])
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", "\n\n", ""])


def lines(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Make the content of a file; mostly without ids given twice, so that many directories can be fixed."""
    row = st.tuples(IDS, st.sampled_from([" ", " ", "\t", "  "]), values, ENDS)
    unique = st.lists(row, min_size=2, max_size=6, unique_by=lambda row: row[0])
    rows = st.one_of(unique, unique, unique, unique, st.lists(row, max_size=6))
    return rows.map(lambda rows: "".join(part for row in rows for part in row))


SEGMENTS = st.tuples(
    IDS, st.sampled_from(["0", "0.5", "-1", "x"]), st.sampled_from(["0.9", "-1", "0.2", "nan", "0.9 A"])
)
DIRS = st.fixed_dictionaries(
    {"wav.scp": lines(st.sampled_from(["good.wav", "bad.wav", "none.wav", "~/x", "cat x |"])), "text": lines(WORDS)},
    optional={
        "utt2lang": lines(st.sampled_from(["vi", "vie", "zzz", ""])),
        "utt2spk": lines(st.sampled_from(["s1", "s2", "s1 s2"])),
        "spk2utt": lines(st.sampled_from(["u1", "u1 u2"])),
        "segments": lines(SEGMENTS.map(" ".join)),
        "utt2dur": lines(st.sampled_from(["1", "-1", "x"])),
        "spk2gender": lines(st.sampled_from(["m", "x"])),
    },
)


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waves")
    soundfile.write(folder / "good.wav", np.sin(np.arange(16000) / 9), 16000)
    (folder / "bad.wav").write_bytes(b"<html>")
    return folder


@given(files=DIRS)
@settings(max_examples=60, deadline=None)
def test_nothing_breaks_and_fixing_is_idempotent(waves: Path, files: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "d"
        shutil.copytree(waves, path)
        for name, content in files.items():
            (path / name).write_bytes(content.encode())
        before = validate(path, Rules(), looking=Looking(audio=False))
        try:
            fix = fix_data_dir(path)
        except DataError:
            # refused: nothing may have been touched
            assert not (path / ".backup").exists()
            assert all((path / name).read_bytes() == content.encode() for name, content in files.items())
            return
        content = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        again = fix_data_dir(path)
        assert again.changed == () and (again.kept, again.total) == (fix.kept, fix.kept)
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == content
        after = validate(path, Rules())
        kinds = {group.kind for group in after.findings.of("error", "warning")}
        assert not {kind for kind in kinds if " but not in " in kind and "gender" not in kind}
        mended = {"line twice", "blank line", "tab", "CRLF line end", "blanks around the line", "not sorted (LC_ALL=C)"}
        assert not kinds & mended
        assert after.findings.count("error") <= before.findings.count("error")
        if not after.findings.count("error"):
            assert len(after.manifests.supervisions) + after.findings.count("skip") == len(after.data.utterances)


def make_dir(path: Path, pitches: dict[str, int], speaker: str) -> Path:
    path.mkdir(parents=True)
    for id, pitch in pitches.items():
        soundfile.write(path / f"{id}.flac", 0.3 * np.sin(np.arange(8000) * pitch / 9000), 8000)
    for name, value in (("wav.scp", "{}.flac"), ("text", "word {}"), ("utt2lang", "en"), ("utt2spk", speaker)):
        (path / name).write_text("".join(f"{id} {value.format(id)}\n" for id in sorted(pitches)))
    return path


def test_test_audio_in_train_is_an_error_and_its_speaker_a_warning(tmp_path: Path) -> None:  # row 33
    train = validate(make_dir(tmp_path / "train", {"a": 300, "b": 400, "c": 500}, "ann"), Rules())
    test = validate(make_dir(tmp_path / "test", {"x": 400, "y": 600, "c": 700}, "ann"), Rules())
    check_overlap(test, train)
    errors = {group.kind: group.first for group in test.findings.of("error")}
    assert list(errors) == ["audio that is also in train"] and len(errors["audio that is also in train"]) == 1
    assert errors["audio that is also in train"][0].endswith(f"test/wav.scp:2: x is b of {tmp_path}/train")
    found = {group.kind: group.first for group in test.findings.of("warning", "note")}
    assert found["speaker who is also in train"] == ["ann"]
    assert found["recording id that is also in train"] == [f"{tmp_path}/test/wav.scp:1: c"]
    assert "1 of 3, as c: word c" in found["transcripts that are also in train"][0]


def test_a_clean_test_set_shares_nothing(tmp_path: Path) -> None:
    train = validate(make_dir(tmp_path / "train", {"a": 300, "b": 400}, "ann"), Rules())
    test = validate(make_dir(tmp_path / "test", {"x": 500, "y": 600}, "bob"), Rules())
    check_overlap(test, train)
    assert {group.kind for group in test.findings.of()} == {"upsampled to 16000 Hz", "one speaker only", "no spk2utt"}


def test_transcripts_are_compared_by_their_words() -> None:
    assert fold_text("Xin  CHÀO, bạn!") == fold_text("xin chào bạn") != fold_text("xin chao ban")


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        (np.clip(3 * np.sin(np.arange(16000) / 9), -1, 1), "clipped audio"),
        (1e-4 * np.sin(np.arange(16000) / 9), "silent audio"),
        (0.2 * np.sin(np.arange(16000) / 9) + 0.3, "DC offset"),
    ],
)
def test_what_a_listener_would_mind_is_a_warning(tmp_path: Path, samples: np.ndarray, kind: str) -> None:  # row 27
    path = make_dir(tmp_path / "d", {"a": 300, "b": 400}, "ann")
    soundfile.write(path / "b.flac", samples, 16000)
    found = validate(path, Rules())
    assert kind in {group.kind for group in found.findings.of("warning")}
    assert not found.findings.count("error") and not found.findings.count("skip")


def test_the_same_audio_twice_is_a_warning(tmp_path: Path) -> None:
    path = make_dir(tmp_path / "d", {"a": 300, "b": 400}, "ann")
    soundfile.write(path / "b.flac", soundfile.read(path / "a.flac", dtype="int16")[0], 8000, format="WAV")
    groups = {group.kind: group.first for group in validate(path, Rules()).findings.of("warning")}
    assert groups["same audio under several ids"] == [f"{path}/wav.scp:2: b is the same as a"]


def test_what_of_train_was_not_compared_is_no_proof(tmp_path: Path) -> None:
    """A leak check that looked at nothing must not pass."""
    pitches = {"a": 300, "b": 400}
    test = make_dir(tmp_path / "test", {"x": 400}, "bob")

    def found(train: Path, **looking: bool) -> dict[str, list[str]]:
        result = validate(test, Rules(), looking=Looking(**looking))
        check_overlap(result, validate(train, Rules(), looking=Looking(**looking)))
        return {f"{group.level} {group.kind}": group.first for group in result.findings.of("error", "warning")}

    train = make_dir(tmp_path / "train", pitches, "ann")
    assert "error audio that is also in train" in found(train)
    assert found(train, audio=False)["warning audio not compared with train"] == [str(train)]
    (train / "b.flac").write_bytes(b"<html>")
    groups = found(train)
    assert groups["warning training audio that was not compared"] == [f"{train}/wav.scp: b"]
    (train / "wav.scp").write_text(f"a a.flac\nb flac -c -d -s {tmp_path}/test/x.flac |\n")
    groups = found(train, allow_pipes=True)
    assert groups["warning training audio that was not compared"] == [f"{train}/wav.scp: b"]
    whole = "fault of the training data, which is not compared as a whole: "
    assert f"error {whole}command in wav.scp is not run" in found(train)
    (train / "text").unlink()
    assert found(train)[f"error {whole}missing file"] == [f"{train}/text"]


def test_silences_of_one_length_are_no_leak(tmp_path: Path) -> None:
    dirs = [make_dir(tmp_path / name, {f"{name}-a": 300, f"{name}-b": 500}, name) for name in ("train", "test")]
    for path in dirs:
        soundfile.write(path / f"{path.name}-b.flac", np.zeros(8000), 8000)
    keeping = Rules(keep_empty=True)
    test, train = (validate(path, keeping) for path in reversed(dirs))
    check_overlap(test, train)
    assert test.findings.count("error") == 1  # the two tones of one pitch
