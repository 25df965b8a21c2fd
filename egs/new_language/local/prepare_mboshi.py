#!/usr/bin/env python3
"""Write Kaldi data directories for Mboshi, with its French translations as a second set of texts.

    prepare_mboshi.py data/mboshi_corpus data/mboshi

The corpus's folder has utterances.tsv (columns split, utterance, speaker, mboshi, french) and audio/UTTERANCE.flac or
.wav. OUT/mboshi and OUT/french each get train and test (the corpus's dev), with the same audio; the language of both is
mdw, for it is what is spoken. There is no val: the learning rate falls to zero and the last weights are taken, so that
nothing is chosen on what is reported.
"""

import csv
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import write_text

COLUMNS = ("split", "utterance", "speaker", "mboshi", "french")
SPLITS = {"train": "train", "dev": "test"}
CODE = "mdw"


def prepare_mboshi(corpus: str, out: str) -> None:
    """Write Kaldi data directories for Mboshi, with its French translations as a second set of texts.

    Args:
        corpus: Folder with utterances.tsv and audio/.
        out: Folder that gets mboshi/{train,test} and french/{train,test}.
    """
    rows = read_table(Path(corpus).resolve() / "utterances.tsv")
    for split, name in SPLITS.items():
        part = sorted((row for row in rows if row["split"] == split), key=lambda row: row["utterance"])
        if not part:
            raise DataError(f"{corpus}/utterances.tsv has no utterance of the split {split}; expected train and dev")
        audio = [find_audio(Path(corpus).resolve() / "audio", row["utterance"]) for row in part]
        for target in ("mboshi", "french"):
            write_kaldi_dir(Path(out) / target / name, part, audio, target)
        print(f"{out}: {len(part)} utterances of {len({row['speaker'] for row in part})} speakers in {name}")


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the table of utterances."""
    try:
        with open(path, encoding="utf-8", newline="") as table:
            rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the corpus's folder, with utterances.tsv and audio/") from error
    if not rows or (missing := [name for name in COLUMNS if rows[0].get(name) is None]):
        raise DataError(f"{path}: no rows, or no column {' '.join(missing) if rows else ''}; expected {COLUMNS}")
    return rows


def find_audio(folder: Path, utterance: str) -> Path:
    """Return the recording of an utterance."""
    for ending in (".flac", ".wav"):
        if (path := folder / f"{utterance}{ending}").is_file():
            return path
    raise DataError(f"{folder} has no {utterance}.flac or .wav; is the corpus complete?")


def write_kaldi_dir(directory: Path, rows: list[dict[str, str]], audio: list[Path], target: str) -> None:
    """Write the four files of one split; `text` last, so a directory with it is complete."""
    for name, values in {
        "wav.scp": [str(path) for path in audio],
        "utt2lang": [CODE] * len(rows),
        "utt2spk": [row["speaker"] for row in rows],
        "text": [row[target] for row in rows],
    }.items():
        lines = (f"{row['utterance']} {value}\n" for row, value in zip(rows, values, strict=True))
        write_text(directory / name, "".join(lines))


prepare_mboshi.positional = ["corpus", "out"]

if __name__ == "__main__":
    run(prepare_mboshi)
