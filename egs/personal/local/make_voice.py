#!/usr/bin/env python3
"""Make a folder of recordings as `egrecho personal` takes it, with synthetic speech of one voice or of several.

    make_voice.py data/personal_mini/voice --voices de+Andy --train 166 --dev 74 --test 49
    make_voice.py data/personal_mini/others --voices en-us+Alex,en-gb-scotland+Linda --test 120

Writes UID.flac and UID.txt for each phrase of three to six words, and the CSV files of the splits. No sentence of one
split is in another. The same arguments give the same bytes; a finished folder is left as it is.
"""

import csv
import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mini" / "local"))

from acoustics import SAMPLING_RATE, record
from espeak import synthesize
from sentences import draw

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError

SPLITS = {"train": "train", "dev": "val", "test": "test"}
"""Ours, and the split of the sentences' generator."""
WORDS = range(3, 7)
MADE = ".made.json"


def make_voice(out: str, voices: str = "de+Andy", train: int = 0, dev: int = 0, test: int = 0, seed: int = 1) -> None:
    """Make a folder of synthetic recordings.

    Args:
        out: The folder.
        voices: eSpeak voices, with commas between them.
        train: Phrases to learn.
        dev: Phrases that choose the best checkpoint.
        test: Phrases that nothing is chosen by.
        seed: Another seed, other phrases.
    """
    counts = {"train": train, "dev": dev, "test": test}
    if min(counts.values()) < 0 or not sum(counts.values()):
        raise ConfigError(f"train, dev, test are {train}, {dev}, {test}; expected 0 or more, one above 0")
    folder, plan = Path(out), {"voices": voices, "seed": seed, **counts}
    if (folder / MADE).is_file() and json.loads((folder / MADE).read_text(encoding="utf-8")) == plan:
        print(f"{out}: finished before, nothing to do")
        return
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        rows = []
        for number, text in enumerate(phrases(split, count, seed)):
            uid = f"{split}{number:03d}"
            speak(folder / f"{uid}.flac", text, voices.split(","), f"{seed} {uid}")
            (folder / f"{uid}.txt").write_text(f"{text}\n", encoding="utf-8")
            rows.append((uid, f"{uid}.flac", text))
        if rows:
            with open(folder / f"{split}_files.csv", "w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("uid", "file_name", "text"), *rows])
    (folder / MADE).write_text(json.dumps(plan), encoding="utf-8")
    print(f"{out}: {', '.join(f'{split} {count}' for split, count in counts.items() if count)}")


make_voice.positional = ["out"]


def phrases(split: str, count: int, seed: int) -> list[str]:
    """Draw different phrases of three to six words."""
    rng = random.Random(hashlib.sha256(f"{seed} {split}".encode()).digest())
    found: dict[str, None] = {}
    while len(found) < count:
        text = draw(rng, SPLITS[split], 0.0)
        if len(text.split()) in WORDS:
            found[text] = None
    return list(found)


def speak(path: Path, text: str, voices: list[str], key: str) -> None:
    """Speak one phrase, at a rate and pitch that vary a little from phrase to phrase."""
    draw_key = hashlib.sha256(key.encode()).digest()
    rng = random.Random(draw_key)
    samples, rate = synthesize(
        text, voice=rng.choice(voices), rate=rng.randint(140, 180), pitch=rng.randint(40, 55), pitch_range=50
    )
    wave = record(samples, rate, "clean", np.random.default_rng(list(draw_key)))
    soundfile.write(path, wave, SAMPLING_RATE, subtype="PCM_16", format="FLAC")


if __name__ == "__main__":
    run(make_voice)
