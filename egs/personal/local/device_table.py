#!/usr/bin/env python3
"""Print what a personal model costs on this machine in each form, as Markdown.

usage: device_table.py NAME=RESULTS=MODEL ...

RESULTS is a folder of egrecho eval, or empty where none was made: a CPU computes 16-bit weights in 32 bits. MODEL is a
folder of weights, whose size is printed.
"""

import sys
from pathlib import Path

from tabulate import tabulate

from egrecho_inner.results.folder import read_summary
from egrecho_inner.text.scoring import percent

HEADS = ["form", "weights on disk, MB", "peak memory, GB", "RTF", "WER %", "95 %"]
WEIGHTS = (".safetensors", ".bin")


def main() -> None:
    """Read the folders named on the command line and print."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    print(tabulate([row(*word.split("=")) for word in words], HEADS, tablefmt="github", disable_numparse=True))


def row(name: str, results: str, model: str) -> list[str]:
    """Return the table's row of one form."""
    size = sum(path.stat().st_size for path in Path(model).glob("*") if path.suffix in WEIGHTS)
    if not results:
        return [name, f"{size / 1e6:.1f}"]
    found = read_summary(results)
    low, high = found["interval"]
    return [
        name, f"{size / 1e6:.1f}", f"{found['peak_memory_gb']:.2f}", f"{found['RTF']:.4f}",
        percent(found["error_rate"]), f"{percent(low)}-{percent(high)}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
