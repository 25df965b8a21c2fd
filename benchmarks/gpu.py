#!/usr/bin/env python3
"""Time what a GPU is for, in one table: training by size and method, sharded training, decoding, beside the peers.

    bash benchmarks/gpu.sh                  # makes the environment if need be, and runs the tests marked gpu, too
    python benchmarks/gpu.py --smoke        # the same on a CPU with the smallest model: only that it works

Every job is a process of its own (`train_speed.py`, `decode_speed.py`), so one that fails or finds no memory costs its
own rows and no others. Models have random weights; the utterances are noise of the lengths of speech where no --data is
given. Jobs that the time does not suffice for are named.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from speech import machine, made_cuts
from tabulate import tabulate

HERE = Path(__file__).resolve().parent
PEERS = ("Seq2SeqTrainer", "generate()")
COLUMNS = ("MFU %", "peak GB", "waits %")


@dataclass(frozen=True)
class Job:
    """One process of the benchmark."""

    title: str
    words: list[str]
    """Of its command line, behind the program's name."""
    program: str = "train_speed.py"
    sharded: bool = False
    """Started by torchrun, as DeepSpeed and FSDP want it."""

    def command(self, shared: list[str]) -> list[str]:
        """Return the command line."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"] if self.sharded else []
        return [sys.executable, *launcher, str(HERE / self.program), *self.words, *shared]


def main() -> int:
    """Run every job, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="manifest of cuts, or Kaldi directory; noise if not given")
    parser.add_argument("--out", default="exp/gpu", metavar="DIR", help="gets gpu.md and rows.jsonl")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="after which no further job begins")
    parser.add_argument("--smoke", action="store_true", help="the smallest model, one step: on a CPU, to see it work")
    options = parser.parse_args()
    if not (options.smoke or torch.cuda.is_available()):
        print("error: no GPU is visible; --smoke runs the smallest model on the CPU", file=sys.stderr)
        return 5
    out = Path(options.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows, ends = out / "rows.jsonl", time.monotonic() + 60 * options.minutes
    rows.unlink(missing_ok=True)
    scratch = out / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    data = options.data or made_cuts(scratch, 256)
    shared = ["--data", str(data), "--models", str(scratch / "models"), "--json", str(rows)]
    faults = {}
    for job in smoke_jobs() if options.smoke else jobs():
        left = ends - time.monotonic()
        print(f"{max(left, 0):4.0f} s left: {job.title}", flush=True)
        log = out / f"{job.title.replace(', ', '-').replace(' ', '-')}.log"
        fault = "no time was left" if left <= 0 else run(job, shared, left, log)
        if fault:
            faults[job.title] = fault
    shutil.rmtree(scratch, ignore_errors=True)
    table = describe(rows, faults)
    (out / "gpu.md").write_text(table, encoding="utf-8")
    print(table)
    return 1 if not rows.is_file() else 0


def jobs() -> Iterator[Job]:
    """Yield what is timed on a GPU, the most telling first."""
    train = ["--precision", "bf16", "--rounds", "1", "--seconds", "8", "--max_duration", "240"]
    decode = ["--rounds", "1", "--cuts", "64", "--batch", "16", "--ways", "peer", "ours", "faster-whisper"]
    sizes = ("large-v3", "small", "medium")
    yield from (Job(f"train {size}", ["--size", size, *train, "--ways", "full", "lora", "peer"]) for size in sizes)
    yield from (
        Job(f"decode {size}", ["--size", size, *decode], "decode_speed.py") for size in ("large-v3", "large-v3-turbo")
    )
    for way in ("zero2", "fsdp", "zero3"):
        yield Job(f"train large-v3, {way}", ["--size", "large-v3", *train, "--ways", way], sharded=True)
    yield Job("train small, compiled", ["--size", "small", *train, "--ways", "compiled"])


def smoke_jobs() -> Iterator[Job]:
    """Yield one job of each kind, as small as they can be."""
    train = ["--size", "nano", "--cuts", "16", "--rounds", "1", "--seconds", "0", "--max_duration", "20"]
    yield Job("train nano", [*train, "--ways", "full", "lora", "peer"])
    yield Job("train nano, fsdp", [*train, "--ways", "fsdp"], sharded=True)
    few = ["--size", "nano", "--cuts", "2", "--rounds", "1", "--tokens", "2", "--beams", "1"]
    yield Job("decode nano", [*few, "--ways", "peer", "ours"], "decode_speed.py")


def run(job: Job, shared: list[str], seconds: float, log: Path) -> str | None:
    """Run one job, its output in a file; why it failed, None where it did not.

    Args:
        job: What.
        shared: Options of every job.
        seconds: After which it is ended.
        log: Gets its output.
    """
    with open(log, "w", encoding="utf-8") as console:
        process = subprocess.Popen(job.command(shared), stdout=console, stderr=console, cwd=HERE.parent)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun takes its processes along, which killing it would leave on the GPU
            process.wait(timeout=60)
            return f"not done when the time was over; see {log.name}"
    return None if process.returncode == 0 else f"{reason(log.read_text(encoding='utf-8'))}; see {log.name}"


def reason(text: str) -> str:
    """Return the line of a failed job's output that says why it failed."""
    lines = [line.split("]: ", 1)[-1].strip() for line in text.splitlines()]
    named = [line for line in lines if "Error: " in line or line.startswith("error:")]
    named = [line for line in named if "ChildFailedError" not in line]
    return " ".join((named or lines or ["no output"])[-1].split())[:160]


def describe(rows: Path, faults: dict[str, str]) -> str:
    """Return the table, what failed, and the machine."""
    found: list[dict[str, Any]] = []
    if rows.is_file():
        found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    peers = {row["task"]: statistics.median(row["speeds"]) for row in found if row["way"].startswith(PEERS)}
    lines = []
    for row in sorted(found, key=lambda row: [row["task"] for row in found].index(row["task"])):
        speed, peer = statistics.median(row["speeds"]), peers.get(row["task"], math.nan)
        shown = "out of memory" if math.isnan(speed) else f"{speed:.1f}"
        times = "" if math.isnan(speed / peer) else f"{speed / peer:.1f}"
        lines.append([row["task"], row["way"], shown, times, *(row.get(column, "") for column in COLUMNS)])
    heads = ["task", "way", "audio s/s", "times the peer", *COLUMNS]
    parts = [tabulate(lines, headers=heads, tablefmt="github", disable_numparse=True)]
    parts += [f"{title}: {fault}" for title, fault in faults.items()]
    parts.append(machine("accelerate", "deepspeed", "faster-whisper", "ctranslate2"))
    return "\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
