#!/usr/bin/env python3
"""Time how training starts on manifests of a thousand to a million cuts, and what memory its processes hold.

    python benchmarks/scaling.py --cuts 1000 1000000 --processes 1 2

`full.py` is run as a user runs it, with random weights of nano's dimensions, until its first step is in the log. Time
counts from the start of the command, imports, reading the manifest for the first time and the first step included;
`again` is the same command when the manifest's index is there. Memory is each process's own plus its share of what is
shared (PSS); what the same training holds on the smallest manifest is the model, the libraries and one batch, and what
comes on top is the data's. The peer for memory is Lhotse's eager manifest, in a process that does nothing else.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from manifest_speed import SENTENCE
from speech import machine, make_processor, quiet
from tabulate import tabulate

from egrecho_inner.data.cuts.index import CutIndex

ROOT = Path(__file__).resolve().parent.parent
FILES = 50  # different recordings; the cuts of a large manifest share them
LIMIT = 600.0  # seconds after which a run is given up


@dataclass(frozen=True)
class Start:
    """What one run took to its first step."""

    seconds: float
    busy: float
    """CPU seconds of the busiest process by then: what an idle machine would take at least."""
    main: float
    """MB of the largest training process."""
    worker: float
    """MB of the largest loader process."""


def main() -> None:
    """Make manifests, start trainings, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, nargs="+", default=[1_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--lhotse", action="store_true", help="also load each manifest with lhotse, eagerly")
    options = parser.parse_args()
    quiet()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_waves(folder)
        write_manifest(folder / "some.jsonl", FILES, folder)
        make_processor(list(CutIndex(folder / "some.jsonl"))).save_pretrained(folder / "model")
        for count in options.cuts:
            manifest = folder / f"cuts{count}.jsonl"
            write_manifest(manifest, count, folder)
            rows += [
                [f"{count:,}", processes, *measure(manifest, processes, folder)] for processes in options.processes
            ]
            if options.lhotse:
                seconds, held = eager(manifest)
                rows.append([f"{count:,}", "Lhotse, eager", "", f"{seconds:.1f}", f"{held:.0f}", ""])
            manifest.unlink()
    headers = ["cuts", "processes", "first start, s (CPU s)", "again, s (CPU s)", "MB each", "MB each worker"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    print(f"\n{machine()}")


def measure(manifest: Path, processes: int, folder: Path) -> list[str]:
    """Start training twice, or once if the manifest was read before; return a line of the table."""
    is_new = not manifest.with_name(f".{manifest.name}.index").exists()
    first = start(manifest, processes, folder) if is_new else None
    again = start(manifest, processes, folder)
    times = ["" if each is None else f"{each.seconds:.1f} ({each.busy:.1f})" for each in (first, again)]
    return [*times, f"{again.main:.0f}", f"{again.worker:.0f}"]


def write_waves(folder: Path) -> None:
    """Write recordings of noise: here nothing is learned."""
    draw = np.random.default_rng(0)
    for number in range(FILES):
        samples = int(16000 * np.clip(draw.gamma(8, 0.7125), 0.5, 30))
        soundfile.write(folder / f"{number}.wav", draw.normal(0, 0.05, samples).astype(np.float32), 16000)


def write_manifest(path: Path, count: int, folder: Path) -> None:
    """Write cuts that share the recordings, about as many bytes each as real ones have."""
    with open(path, "w", encoding="utf-8") as out:
        out.writelines(manifest_lines(count, folder))


def manifest_lines(count: int, folder: Path) -> Iterator[str]:
    """Yield cuts as JSON."""
    samples = [soundfile.info(folder / f"{number}.wav").frames for number in range(FILES)]
    for i in range(count):
        number, name = i % FILES, f"utterance{i:07d}"
        span = {"start": 0, "duration": samples[number] / 16000}
        supervision = {"id": name, "recording_id": name, **span, "channel": 0, "text": SENTENCE, "language": "vi"}
        source = {"type": "file", "channels": [0], "source": str(folder / f"{number}.wav")}
        recording = {"id": name, "sources": [source], "sampling_rate": 16000, "num_samples": samples[number]}
        recording |= {"duration": span["duration"], "channel_ids": [0]}
        cut = {"id": f"{name}-0", **span, "channel": 0, "supervisions": [supervision], "recording": recording}
        yield json.dumps(cut | {"type": "MonoCut"}, ensure_ascii=False) + "\n"


def start(manifest: Path, processes: int, folder: Path) -> Start:
    """Train until the first step is in the log, and look at the processes then."""
    with tempfile.TemporaryDirectory(dir=folder) as outdir:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        arguments = {
            "model.path": folder / "model", "model.size": "nano", "data.train": manifest, "out": Path(outdir, "run"),
            "batch.max_duration": 60, "train.max_steps": 10_000, "train.workers": 1, "train.rehearse": "false",
        }  # fmt: skip
        command = [sys.executable, *(launcher if processes > 1 else []), str(ROOT / "egrecho_inner/full.py")]
        command += [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        log = Path(outdir, "run", "metrics.jsonl")
        with open(Path(outdir, "console"), "w+") as console:
            began = time.perf_counter()
            run = subprocess.Popen(command, stdout=console, stderr=console, env=environment(), cwd=ROOT)
            try:
                while not log.is_file() or not log.read_text():
                    if run.poll() is not None or time.perf_counter() - began > LIMIT:
                        console.seek(0)
                        raise SystemExit(f"no first step: {' '.join(command)}\n{console.read()[-2000:]}")
                    time.sleep(0.05)
                seconds = time.perf_counter() - began
                found = look(run.pid)
                if not found:
                    console.seek(0)
                    raise SystemExit(f"ended at its first step: {' '.join(command)}\n{console.read()[-2000:]}")
            finally:
                for pid in family(run.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                run.wait()
    held = sorted((megabytes for megabytes, _ in found), reverse=True)
    busy = max(spent for _, spent in found)
    return Start(seconds, busy, held[0], max(held[processes:], default=0.0))


def environment() -> dict[str, str]:
    """Return what a user's shell has, one thread for each process."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def look(launcher: int) -> list[tuple[float, float]]:
    """Return MB and CPU seconds of the processes below one that train or load data."""
    found = []
    for folder in (Path(f"/proc/{pid}") for pid in family(launcher)):
        try:
            words = (folder / "cmdline").read_text()
            if "full.py" in words and "torch.distributed.run" not in words:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                ticks = int(fields[11]) + int(fields[12])
                found.append((pss(folder), ticks / os.sysconf("SC_CLK_TCK")))
        except (OSError, IndexError):
            continue  # it has just ended
    return found


def family(pid: int) -> list[int]:
    """Return a process and all below it; torchrun gives each of its own a session, so a group would not do."""
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/children"))
        children = [int(word) for file in files for word in file.read_text().split()]
    except OSError:
        children = []
    return [pid, *(each for child in children for each in family(child))]


def pss(folder: Path) -> float:
    """Return the MB a process holds, with its share of what several hold together."""
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def eager(manifest: Path) -> tuple[float, float]:
    """Return seconds and MB of Lhotse's loading everything."""
    code = (
        "import sys, time; from pathlib import Path; import lhotse; begin = time.perf_counter();"
        "cuts = lhotse.load_manifest(sys.argv[1]); print(time.perf_counter() - begin);"
        "print(next(l.split()[1] for l in Path('/proc/self/smaps_rollup').read_text().splitlines() if l[:4] == 'Pss:'))"
    )
    out = subprocess.run([sys.executable, "-c", code, str(manifest)], capture_output=True, text=True, check=True).stdout
    seconds, kilobytes = out.split()
    return float(seconds), int(kilobytes) / 1024


if __name__ == "__main__":
    main()
