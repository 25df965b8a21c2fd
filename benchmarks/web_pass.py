#!/usr/bin/env python3
"""Passes over a million windows without audio: time and memory of each stage; what three million hours would cost.

    benchmarks/web_pass.py --windows 1000000 --jobs 2
    benchmarks/web_pass.py --web data/web_mini/web      # the stages that read audio, on recordings with captions

Windows of 24 s with three captions each, made up; every stage is the program itself in a process of its own, whose
largest memory is that of the kernel's account. Prints a Markdown table. Hours are those of audio: a stage that needs
none of it is measured all the same in hours of audio that a core gets through in an hour.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import MachineError
from egrecho_inner.runtime.files import read_lines, to_line, write_jsonl

WINDOW = 24.0  # seconds
POOL_HOURS = 3e6
WORDS = "the of and to in is that it was for on are with as his they at be this from have or by one had not but"
TAGS = "[casing, repeating_lines, text_language, num_words]"
STAGES = {
    "tag": ["tag", "{0}/windows.jsonl", "{0}/tagged.jsonl", "--tags", TAGS],
    "filter": ["filter", "{0}/tagged.jsonl", "{0}/kept.jsonl", "--conditions", "[{tag: num_words, at_least: 20}]"],
    "dedup": ["dedup", "--cuts", "[{0}/kept.jsonl]", "--out", "{0}/unique.jsonl"],
    "decontaminate": ["decontaminate", "{0}/unique.jsonl", "{0}/clean.jsonl", "--against", "[{0}/test.jsonl]"],
}
AUDIO_STAGES = {
    "import-web": ["import-web", "{1}", "{0}/documents.jsonl.gz", "--audio", "{0}/audio"],
    "segment": ["segment", "{0}/documents.jsonl.gz", "{0}/windows.jsonl.gz"],
    "tag (loudness, music)": ["tag", "{0}/windows.jsonl.gz", "{0}/loud.jsonl.gz", "--tags", "[loudness, music]"],
    "tag (speech_share)": ["tag", "{0}/windows.jsonl.gz", "{0}/voiced.jsonl.gz", "--tags", "[speech_share]"],
    "to-shar": ["to-shar", "{0}/windows.jsonl.gz", "{0}/shar"],
}
PARALLEL = ("tag", "dedup", "decontaminate")


def web_pass(windows: PositiveInt = 1_000_000, jobs: PositiveInt = 2, web: str = "") -> None:
    """Measure the stages that read manifests, or those that read audio.

    Args:
        windows: How many.
        jobs: Processes of the stages that have them.
        web: Folder of recordings with captions, whose audio is read; without it windows are made up.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        if not web:
            write_jsonl(Path(name) / "windows.jsonl", made(windows, 0))
            write_jsonl(Path(name) / "test.jsonl", made(1000, 1))
        hours = windows * WINDOW / 3600
        for stage, words in (AUDIO_STAGES if web else STAGES).items():
            options = [word.replace("{0}", name).replace("{1}", web) for word in words]
            options += ["--jobs", str(jobs)] if stage in PARALLEL else []
            wall, cpu, memory = measure([sys.executable, "-m", "egrecho_inner.cli", *options])
            if stage == "import-web":
                hours = sum(json.loads(line)["duration"] for line in read_lines(f"{name}/documents.jsonl.gz")) / 3600
            speed = hours / (cpu / 3600)
            seconds, size = (f"{wall:.0f} s", f"{cpu:.0f} s"), f"{memory:.0f} MB"
            rows.append([stage, *seconds, size, f"{speed:,.0f}", f"{POOL_HOURS / speed:,.1f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    print(f"{web}, {hours:.2f} h\n" if web else f"{windows:,} windows, {hours:,.0f} h, {jobs} processes\n")
    heads = ["stage", "wall", "CPU", "largest process", "audio-h per core-h", "core-h for 3 M h"]
    print(tabulate(rows, heads, tablefmt="github", disable_numparse=True))


def made(count: int, seed: int) -> Iterator[str]:
    """Yield windows of made-up words."""
    rng, words = random.Random(seed), WORDS.split()
    for number in range(count):
        texts = [" ".join(rng.choices(words, k=18)) for _ in range(3)]
        segments = [[8.0 * place, 8.0 * place + 7.5, text] for place, text in enumerate(texts)]
        document = f"{seed}-{number // 100:07d}"
        supervision = {
            "id": f"{document}-{number % 100:05d}",
            "recording_id": document,
            "start": 0.0,
            "duration": WINDOW,
            "channel": 0,
            "text": " ".join(texts),
            "custom": {"segments": segments, "tags": {}},
        }
        recording = {
            "id": document,
            "sources": [],
            "sampling_rate": 16000,
            "num_samples": 38_400_000,
            "duration": 2400.0,
        }
        yield to_line({
            "id": supervision["id"], "start": WINDOW * (number % 100), "duration": WINDOW, "channel": 0,
            "supervisions": [supervision], "recording": recording, "custom": {"document": {}}, "type": "MonoCut",
        })  # fmt: skip


def measure(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its wall seconds, CPU seconds with its workers', and its largest process in MB.

    Raises:
        MachineError: It fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    timed = [sys.executable, "-c", LARGEST, *command]  # RUSAGE_CHILDREN keeps the largest of all stages so far
    done = subprocess.run(timed, capture_output=True, text=True)
    if done.returncode:
        raise MachineError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - began, cpu, float(done.stdout.splitlines()[-1]) / 1024


LARGEST = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""

if __name__ == "__main__":
    run(web_pass)
