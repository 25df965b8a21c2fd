"""egs/fsdd/local/prepare_fsdd.py: the corpus's own split, complete and without overlap."""

import subprocess
import sys
from itertools import product
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "egs/fsdd/local/prepare_fsdd.py"
SPEAKERS = ("george", "jackson")


def make_recordings(folder: Path, takes: int = 10) -> None:
    folder.mkdir()
    for digit, speaker, take in product(range(10), SPEAKERS, range(takes)):
        (folder / f"{digit}_{speaker}_{take}.wav").touch()  # the script reads names, not audio


def prepare(recordings: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), str(recordings), str(out)], capture_output=True, text=True)


def read(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def test_every_recording_is_in_the_split_its_take_says(tmp_path):
    make_recordings(tmp_path / "recordings")
    done = prepare(tmp_path / "recordings", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    seen, ids = [], []
    for split, takes in (("test", range(5)), ("val", range(5, 8)), ("train", range(8, 10))):
        waves = read(tmp_path / "out" / split / "wav.scp")
        names = {Path(path).stem for path in waves.values()}
        assert names == {f"{d}_{s}_{t}" for d, s, t in product(range(10), SPEAKERS, takes)}
        seen += names
        ids += waves
    assert len(seen) == len(set(seen)) == len(set(ids)) == 200


def test_the_four_files_agree_and_are_sorted(tmp_path):
    make_recordings(tmp_path / "recordings")
    prepare(tmp_path / "recordings", tmp_path / "out")
    directory = tmp_path / "out" / "train"
    files = {path.name: read(path) for path in directory.iterdir()}
    assert set(files) == {"wav.scp", "text", "utt2lang", "utt2spk"}
    ids = list(files["text"])
    assert ids == sorted(ids) and all(list(content) == ids for content in files.values())
    assert files["text"]["george-7-08"] == "seven" and files["wav.scp"]["george-7-08"].endswith("/7_george_8.wav")
    assert files["utt2spk"]["george-7-08"] == "george" and set(files["utt2lang"].values()) == {"en"}


def test_a_folder_that_is_not_the_corpus_is_refused_in_one_line(tmp_path):
    empty = prepare(tmp_path, tmp_path / "out")
    assert empty.returncode == 3 and "no .wav files" in empty.stderr and len(empty.stderr.splitlines()) == 1
    make_recordings(tmp_path / "recordings")
    (tmp_path / "recordings" / "hello.wav").touch()
    strange = prepare(tmp_path / "recordings", tmp_path / "out")
    assert strange.returncode == 3 and "hello.wav" in strange.stderr
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_corpus_is_refused(tmp_path):
    make_recordings(tmp_path / "recordings", takes=5)
    done = prepare(tmp_path / "recordings", tmp_path / "out")
    assert done.returncode == 3 and "no takes for train" in done.stderr
