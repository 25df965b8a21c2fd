#!/usr/bin/env python3
"""Time the statistics of a cut manifest: ours beside `lhotse cut describe`, on one file, in one run.

Makes a manifest of N cuts in the form that prepare.sh writes (about 900 bytes a line), runs both commands as a user
would, one after the other, and prints time and peak memory as ratios, and whether both tables show the same numbers.

    python benchmarks/manifest_speed.py --cuts 100000
"""

import argparse
import gzip
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
ROWS = 12  # of the table that both print
SENTENCE = "Sự xuất hiện của phiên bản hybrid sẽ giúp củng cố vị thế trong phân khúc sedan cỡ D tại Việt Nam"


@dataclass(frozen=True)
class Run:
    """One finished command."""

    seconds: float
    peak_mb: float
    cells: list[tuple[str, str]]
    """Name and value of the table's first rows."""


def main() -> None:
    """Make the manifest, run both commands, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1_000_000, metavar="N", help="lines of the manifest")
    parser.add_argument("--suffix", choices=[".jsonl", ".jsonl.gz"], default=".jsonl.gz", help="plain or compressed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"cuts{options.suffix}"
        write_manifest(path, options.cuts)
        size = path.stat().st_size / 1e6
        ours = run([sys.executable, str(ROOT / "local" / "display_manifests.py"), str(path)])
        theirs = run([str(Path(sys.executable).parent / "lhotse"), "cut", "describe", str(path)])
    print(f"{options.cuts} cuts, {options.suffix} of {size:.0f} MB; {machine()}\n")
    print(
        tabulate(
            [
                ["lhotse cut describe", theirs.seconds, 1.0, theirs.peak_mb],
                ["local/display_manifests.py", ours.seconds, ours.seconds / theirs.seconds, ours.peak_mb],
            ],
            headers=["command", "seconds", "of lhotse's time", "peak MB"],
            tablefmt="github",
            floatfmt=("", ".1f", ".3f", ".0f"),
        )
    )
    same = ours.cells == theirs.cells
    print(f"\nsame numbers in all {ROWS} rows: {'yes' if same else f'NO: {ours.cells} {theirs.cells}'}")
    sys.exit(not same)


def write_manifest(path: Path, n: int) -> None:
    """Write n cuts with stored features; durations of 0.1 to 30 s around 5.7 s."""
    with gzip.open(path, "wt", encoding="utf-8") if path.suffix == ".gz" else open(path, "w", encoding="utf-8") as file:
        file.writelines(manifest_lines(n))


def manifest_lines(n: int) -> Iterator[str]:
    """Yield cuts as JSON, one at a time: what this process held would count as its children's peak memory."""
    words = SENTENCE.split()
    draw = random.Random(0)
    for i in range(n):
        count = int(16000 * min(max(draw.gammavariate(8, 0.7125), 0.1), 30))
        name, seconds = f"V{i // 1000:04d}W{i % 1000:04d}", count / 16000
        span = {"start": 0, "duration": seconds}
        text = " ".join(draw.choices(words, k=21))
        supervision = {"id": name, "recording_id": name, **span, "channel": 0, "text": text, "language": "vi"}
        features = {
            **{"type": "whisper-fbank", "num_frames": (count + 80) // 160, "num_features": 80, "frame_shift": 0.01},
            **{"sampling_rate": 16000, **span, "storage_type": "lilcom_chunky"},
            **{"storage_path": "data/fbank_whisper80/aishell_vi_feats_train/feats-0.lca"},
            **{"storage_key": f"{31531 * i},25840,5691", "channels": 0},
        }
        source = {"type": "file", "channels": [0], "source": f"/corpora/aishell-vi/SPEECHDATA/{name[:5]}/{name}.wav"}
        recording = {"id": name, "sources": [source], "sampling_rate": 16000, "num_samples": count, "duration": seconds}
        cut = {"id": f"{name}-0", **span, "channel": 0, "supervisions": [supervision], "features": features}
        cut |= {"recording": recording | {"channel_ids": [0]}, "type": "MonoCut"}
        yield json.dumps(cut, ensure_ascii=False) + "\n"


def run(command: list[str]) -> Run:
    """Run a command to its end and read its table."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=os.environ | {"PYTHONPATH": str(ROOT)})
        _, status, usage = os.wait4(process.pid, 0)  # the peak memory of this child alone
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
        output.seek(0)
        lines = [line for line in output if line.startswith("│")][:ROWS]
    cells = [(line.split("│")[1].strip(), line.split("│")[2].strip()) for line in lines]
    return Run(seconds, usage.ru_maxrss / 1024, cells)


def machine() -> str:
    """Name what the numbers were measured on."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("lhotse", "numpy"))
    return f"Python {platform.python_version()}, {versions}, {os.cpu_count()} CPU cores ({platform.machine()})"


if __name__ == "__main__":
    main()
