#!/usr/bin/env python3
"""Make folders of the Free Spoken Digit Dataset for one held-out speaker.

    fsdd_folders.py RECORDINGS data/personal_mini/jackson --speaker jackson

OUT/base     the other speakers: takes 0 to 19 to learn, 20 to 24 as dev, for the base
OUT/others   the other speakers: takes 45 to 49, for what is forgotten
OUT/n50, OUT/n100, OUT/n200   the held-out speaker: so many recordings to learn, 50 as dev, 250 as test, the same in all
"""

import csv
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<take>\d+)\.wav")
SIZES = (50, 100, 200)


def fsdd_folders(recordings: str, out: str, speaker: str) -> None:
    """Make the folders of one held-out speaker.

    Args:
        recordings: The corpus's folder `recordings`.
        out: Where the folders go.
        speaker: The one that is held out.
    """
    found = [match for path in sorted(Path(recordings).glob("*.wav")) if (match := NAME.fullmatch(path.name))]
    speakers = sorted({match["speaker"] for match in found})
    if speaker not in speakers:
        raise DataError(f"{recordings}: no recordings of {speaker}; speakers are {', '.join(speakers)}")
    own = [match for match in found if match["speaker"] == speaker]
    rest = [match for match in found if match["speaker"] != speaker]
    parts = {"base": {"train": takes(rest, 0, 20), "dev": takes(rest, 20, 25)}, "others": {"test": takes(rest, 45, 50)}}
    for size in SIZES:
        parts[f"n{size}"] = {
            "train": takes(own, 0, size // 10), "dev": takes(own, 20, 25), "test": takes(own, 25, 50),
        }  # fmt: skip
    for name, splits in parts.items():
        for split, matches in splits.items():
            write(Path(recordings), Path(out) / name, split, matches)
        print(f"{out}/{name}: " + ", ".join(f"{split} {len(matches)}" for split, matches in splits.items()))


fsdd_folders.positional = ["recordings", "out"]


def takes(matches: Iterable[re.Match[str]], first: int, end: int) -> list[re.Match[str]]:
    """Return the recordings of some takes."""
    return [match for match in matches if first <= int(match["take"]) < end]


def write(recordings: Path, folder: Path, split: str, matches: list[re.Match[str]]) -> None:
    """Copy the recordings of one split, with transcripts and the CSV file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("uid", "file_name", "text")]
    for match in matches:
        uid, text = match[0].removesuffix(".wav"), DIGITS[int(match["digit"])]
        shutil.copyfile(recordings / match[0], folder / match[0])
        (folder / f"{uid}.txt").write_text(f"{text}\n", encoding="utf-8")
        rows.append((uid, match[0], text))
    with open(folder / f"{split}_files.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    run(fsdd_folders)
