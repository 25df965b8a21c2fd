"""egs/new_language/local/prepare_mboshi.py: both texts of the same audio, and no part of one split in the other."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "egs/new_language/local/prepare_mboshi.py"
ROWS = ["split\tutterance\tspeaker\tmboshi\tfrench", "train\tb_1\tb\tngá bó\tje \"bois", "dev\ta_2\ta\tyá\toui",
        "train\ta_1\ta\tmósώ\tbon"]  # fmt: skip


def corpus(folder: Path) -> Path:
    (folder / "audio").mkdir(parents=True)
    (folder / "utterances.tsv").write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    for name in ("b_1.wav", "a_1.flac", "a_2.flac"):
        (folder / "audio" / name).touch()
    return folder


def prepared(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True)


def test_both_texts_of_each_split_in_the_order_of_ids(tmp_path: Path) -> None:
    place = corpus(tmp_path / "c")
    assert prepared(place, tmp_path / "out").returncode == 0
    read = lambda name: (tmp_path / "out" / name).read_text(encoding="utf-8")  # noqa: E731
    assert read("mboshi/train/text") == "a_1 mósώ\nb_1 ngá bó\n"
    assert read("french/train/text") == 'a_1 bon\nb_1 je "bois\n'
    assert read("french/test/text") == "a_2 oui\n" and read("mboshi/test/utt2lang") == "a_2 mdw\n"
    assert read("mboshi/train/wav.scp") == f"a_1 {place}/audio/a_1.flac\nb_1 {place}/audio/b_1.wav\n"


@pytest.mark.parametrize(
    ("missing", "message"), [("utterances.tsv", "does not exist"), ("audio/a_2.flac", "has no a_2")]
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, message: str) -> None:
    place = corpus(tmp_path / "c")
    (place / missing).unlink()
    done = prepared(place, tmp_path / "out")
    assert done.returncode == 3 and message in done.stderr
