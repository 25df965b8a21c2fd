#!/usr/bin/env python3
"""Make a speech corpus from nothing: Kaldi data directories with synthetic English and its exact transcripts.

    make_corpus.py --out data/mini --group target --train 1000 --val 100 --test 200
    make_corpus.py --out data/pretrain --group source --train 14000 --val 300 --acoustics varied

writes OUT/{train,val,test}/{wav.scp,text,utt2lang,utt2spk} and OUT/{split}/audio/*.flac (16 kHz, 16 bit). The voices
of the two groups share neither accent nor timbre, and no text of one split is ever in another (`sentences.py`).

The same arguments give the same bytes, with any number of jobs: eSpeak's state leaks from one utterance to the next, so
work is cut into shards of fixed content and each runs in a process of its own. A finished corpus is left alone; after a
kill the finished shards are kept.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from acoustics import SAMPLING_RATE, Acoustics, record
from espeak import synthesize
from sentences import DIGITS, draw

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, DataError, MachineError

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # at a shard whose process is killed from outside
SHARD_SIZE = 200  # utterances; part of the corpus's identity
RECIPE = 2  # raise it when the same arguments are meant to give other audio or other ids

SOURCE_ACCENTS = ("en-us", "en-us-nyc", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
TARGET_ACCENTS = ("de",)  # English read with German letter-to-sound rules: consistent, and far from every source accent
# eSpeak's voice variants but the ones made to sound like machines or demons
_NAMES = """
Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Reed
RicishayMax RicishayMax2 RicishayMax3 Storm adam anika announcer antonio aunty belinda benjamin boris caleb david ed
edward edward2 f1 f2 f3 f4 f5 grandma grandpa gustave ian iven iven2 iven3 iven4 john kaukovalta klatt klatt2 klatt3
klatt4 klatt5 klatt6 linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob
robert sandro shelby steph steph2 steph3 travis victor whisper whisperf zac
"""
VARIANTS = _NAMES.split()
TARGET_VARIANTS = VARIANTS[::5]
SOURCE_VARIANTS = [name for name in VARIANTS if name not in TARGET_VARIANTS]


@dataclass(frozen=True)
class Plan:
    """Everything the content of a corpus depends on."""

    group: str
    accents: tuple[str, ...]
    sizes: dict[str, int]  # split -> utterances
    digits: float
    words: float
    acoustics: Acoustics
    seed: int
    recipe: int = RECIPE

    def shards(self) -> list[tuple[str, int, int]]:
        """Return (split, first utterance, one past the last) of every shard."""
        return [
            (split, start, min(start + SHARD_SIZE, size))
            for split, size in self.sizes.items()
            for start in range(0, size, SHARD_SIZE)
        ]


def make_corpus(
    out: str,
    group: Literal["source", "target"] = "target",
    train: int = 1000,
    val: int = 100,
    test: int = 200,
    digits: float = 0.5,
    words: float = 0.0,
    acoustics: Acoustics = "clean",
    accents: str = "",
    seed: int = 1,
    jobs: int = 2,
) -> None:
    """Make a synthetic speech corpus as Kaldi data directories.

    Args:
        out: folder for the corpus; a finished one with the same arguments is left alone.
        group: `source` voices (for pretraining) or `target` voices (to adapt to).
        train: utterances in train.
        val: utterances in val.
        test: utterances in test.
        digits: share of digit strings; half of them are a single digit.
        words: share of strings of words in any order; the rest are sentences.
        acoustics: `clean`, or `varied` (rooms, channels, noise).
        accents: eSpeak voices separated by commas, instead of the group's.
        seed: another seed, another corpus.
        jobs: processes; the result does not depend on it.
    """
    if min(digits, words) < 0 or digits + words > 1 or min(train, val, test) < 0 or train + val + test == 0 or jobs < 1:
        raise ConfigError(
            "wanted: digits and words not below 0, together at most 1; train, val, test not below 0 and one above; "
            "jobs 1 or more"
        )
    default = TARGET_ACCENTS if group == "target" else SOURCE_ACCENTS
    sizes = {split: size for split, size in (("train", train), ("val", val), ("test", test)) if size}
    plan = Plan(group, tuple(accents.split(",")) if accents else default, sizes, digits, words, acoustics, seed)
    folder = Path(out).resolve()
    for accent in plan.accents:  # the wheel and the voices, before anything is written
        synthesize("one", accent)
    if not _open_folder(folder, plan):
        print(f"{folder}: finished before, nothing to do")
        return
    started = time.monotonic()
    _run_shards(folder, plan, jobs)
    seconds = sum(_write_kaldi_dir(folder, split) for split in sizes)
    (folder / "_STARTED").replace(folder / "_COMPLETE")
    wall = time.monotonic() - started
    print(f"{folder}: {sum(sizes.values())} utterances, {seconds / 3600:.2f} h of audio in {wall:.0f} s")


def _open_folder(folder: Path, plan: Plan) -> bool:
    """Make the folder ready for the plan; False when it already holds the finished corpus."""
    wanted = json.dumps({"folder": str(folder), **asdict(plan)}, sort_keys=True)  # wav.scp holds absolute paths
    marks = [mark for mark in ("_COMPLETE", "_STARTED") if (folder / mark).exists()]
    if not marks and folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: not empty and not made by make_corpus.py; give another --out")
    if marks and (folder / marks[0]).read_text() == wanted:
        return marks[0] != "_COMPLETE"
    if marks:  # another corpus of ours
        logger.info("%s holds a corpus with other arguments: replaced", folder)
        shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.replaced")))
    folder.mkdir(parents=True, exist_ok=True)
    _write_atomically(folder / "_STARTED", wanted)
    return True


def _run_shards(folder: Path, plan: Plan, jobs: int) -> None:
    """Make all shards that are not there yet, each in a process that never spoke before; a killed one gets a second.

    One thread starts and awaits them all: with several, one reads the exit status that belongs to another, and
    multiprocessing then takes a process that ended well for one that ended with 255.

    Raises:
        MachineError: A process was killed twice at the same shard, or ended with an error, which it has printed.
    """
    context = multiprocessing.get_context("forkserver")
    waiting = [(shard, 1) for shard in plan.shards()]
    running: dict[int, tuple[BaseProcess, tuple[str, int, int], int]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            shard, attempt = waiting.pop(0)
            process = context.Process(target=_make_shard, args=(folder, plan, *shard), daemon=True)
            process.start()
            running[process.sentinel] = process, shard, attempt
        for sentinel in connection.wait(list(running)):
            process, shard, attempt = running.pop(sentinel)
            process.join()
            if process.exitcode == 0:
                continue
            reason = _reason(process.exitcode)
            if reason is None or attempt == ATTEMPTS:
                raise MachineError(
                    f"shard {shard[1]} of {folder / shard[0]}: "
                    + (f"its process {reason}, {ATTEMPTS} times" if reason else "the reason is above")
                    + "; the same command continues"
                )
            logger.warning("shard %d of %s: its process %s; once more", shard[1], folder / shard[0], reason)
            waiting.insert(0, (shard, attempt + 1))


def _reason(code: int) -> str | None:
    """Return what ended a process from outside; None where it printed an error of its own."""
    if code == 255:  # what multiprocessing says when the process that forks the others is gone, too
        return "ended together with multiprocessing's fork server"
    if code >= 0:
        return None
    hint = ", often because memory was full (fewer --jobs)" if -code == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def _make_shard(folder: Path, plan: Plan, split: str, start: int, stop: int) -> None:
    done = folder / split / "shards" / f"{start:06d}.json"
    if done.exists():
        return
    (folder / split / "audio").mkdir(parents=True, exist_ok=True)
    done.parent.mkdir(parents=True, exist_ok=True)
    rows = [_make_utterance(folder / split, plan, split, index) for index in range(start, stop)]
    _write_atomically(done, json.dumps(rows))


def _make_utterance(directory: Path, plan: Plan, split: str, index: int) -> dict:
    """Speak and store one utterance; everything about it follows from (seed, group, split, index)."""
    key = hashlib.sha256(f"{plan.seed} {plan.group} {split} {index}".encode()).digest()
    rng = random.Random(key)
    text = draw(rng, split, plan.digits, plan.words)
    accent, variant = rng.choice(plan.accents), rng.choice(_variants(plan.group))
    samples, rate = synthesize(
        _spoken(text, rng),
        voice=f"{accent}+{variant}",
        rate=rng.randint(110, 240),
        pitch=rng.randint(20, 80),
        pitch_range=rng.randint(20, 80),
    )
    wave = record(samples, rate, plan.acoustics, np.random.default_rng(list(key)))
    speaker = f"{accent}-{variant}".replace(" ", "-").lower()
    utterance = f"{speaker}-{plan.seed:02d}-{split}-{index:06d}"  # unique over splits and over corpora of other seeds
    path = directory / "audio" / f"{utterance}.flac"
    temporary = path.with_name(path.name + ".tmp")
    soundfile.write(temporary, wave, SAMPLING_RATE, subtype="PCM_16", format="FLAC")
    temporary.replace(path)
    return {"id": utterance, "speaker": speaker, "text": text, "seconds": len(wave) / SAMPLING_RATE}


def _variants(group: str) -> list[str]:
    return TARGET_VARIANTS if group == "target" else SOURCE_VARIANTS


def _spoken(text: str, rng: random.Random) -> str:
    """Return the text with the pauses a speaker may make: digits are read in a row or one by one."""
    words = text.split()
    if len(words) > 1 and set(words) <= set(DIGITS) and rng.random() < 0.4:
        return ", ".join(words)
    return text


def _write_kaldi_dir(folder: Path, split: str) -> float:
    """Write the four Kaldi files of a split from its shards, sorted by utterance; return the seconds of audio."""
    directory = folder / split
    rows = [row for shard in sorted((directory / "shards").glob("*.json")) for row in json.loads(shard.read_text())]
    rows.sort(key=lambda row: row["id"])
    columns = {
        "wav.scp": lambda row: str(directory / "audio" / f"{row['id']}.flac"),
        "text": lambda row: row["text"],
        "utt2lang": lambda row: "en",
        "utt2spk": lambda row: row["speaker"],
    }
    for name, column in columns.items():
        _write_atomically(directory / name, "".join(f"{row['id']} {column(row)}\n" for row in rows))
    return sum(row["seconds"] for row in rows)


def _write_atomically(path: Path, content: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    run(make_corpus)
