#!/usr/bin/env python3
"""Write Kaldi data directories for the Free Spoken Digit Dataset, with the corpus's own split.

    prepare_fsdd.py free-spoken-digit-dataset/recordings data/fsdd

A recording is named {digit}_{speaker}_{take}.wav. By the corpus's rule takes 0 to 4 of every digit and speaker are the
test set and the rest is for training, of which takes 5 to 7 are kept here as val. So all six speakers are in every
part: the numbers say how well known speakers' digits are recognised. OUT/{train,val,test} get wav.scp, text, utt2lang
and utt2spk; the audio stays where it is and is not opened.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from egrecho_inner.config import run
from egrecho_inner.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[A-Za-z]+)_(?P<take>\d+)\.wav")


class Recording(NamedTuple):
    """One spoken digit."""

    path: Path
    digit: int
    speaker: str
    take: int

    @property
    def id(self) -> str:
        """Utterance id; begins with the speaker, as Kaldi wants it."""
        return f"{self.speaker}-{self.digit}-{self.take:02d}"

    @property
    def split(self) -> str:
        """Where the recording belongs."""
        return "test" if self.take < 5 else "val" if self.take < 8 else "train"


def prepare_fsdd(recordings: str, out: str) -> None:
    """Write Kaldi data directories for the Free Spoken Digit Dataset.

    Args:
        recordings: the corpus's folder `recordings`.
        out: folder that gets train, val and test.
    """
    found = find_recordings(Path(recordings).resolve())
    for split in ("train", "val", "test"):
        part = sorted(
            (recording for recording in found if recording.split == split), key=lambda recording: recording.id
        )
        if not part:
            raise DataError(
                f"{recordings}: no takes for {split} (test 0-4, val 5-7, train from 8); is the corpus whole?"
            )
        write_kaldi_dir(Path(out) / split, part)
        print(f"{out}/{split}: {len(part)} recordings of {len({recording.speaker for recording in part})} speakers")


def find_recordings(folder: Path) -> list[Recording]:
    """Find all recordings and read what their names say."""
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise DataError(f"{folder}: no .wav files; give the folder `recordings` of the cloned corpus")
    found = []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise DataError(f"{path}: expected a name like 7_jackson_32.wav; move it out of the folder")
        found.append(Recording(path, int(name["digit"]), name["speaker"], int(name["take"])))
    return found


def write_kaldi_dir(directory: Path, recordings: list[Recording]) -> None:
    """Write the four files of one split; `text` last, so a directory with it is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, values in {
        "wav.scp": [str(recording.path) for recording in recordings],
        "utt2lang": ["en"] * len(recordings),
        "utt2spk": [recording.speaker for recording in recordings],
        "text": [DIGITS[recording.digit] for recording in recordings],
    }.items():
        lines = [f"{recording.id} {value}\n" for recording, value in zip(recordings, values, strict=True)]
        temporary = directory / f"{name}.tmp"
        temporary.write_text("".join(lines), encoding="utf-8")
        os.replace(temporary, directory / name)


prepare_fsdd.positional = ["recordings", "out"]

if __name__ == "__main__":
    run(prepare_fsdd)
