#!/usr/bin/env python3
"""Print one table of results: a row for each folder that `egrecho eval` wrote, and how long each stage took.

usage: display_results.py NAME=DIR ... [--times FILE]     FILE: lines "stage<TAB>seconds", the last of a stage counts
"""

import json
import sys
from pathlib import Path

from tabulate import tabulate


def main() -> None:
    """Read the folders named on the command line and print."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    times = words[words.index("--times") + 1] if "--times" in words[:-1] else None
    named = [word for word in words if word not in ("--times", times)]
    try:
        rows = [row(*word.split("=", 1)) for word in named if Path(word.split("=", 1)[-1], "results.json").is_file()]
    except (TypeError, KeyError, ValueError) as error:
        sys.exit(f"error: {error!r}; expected NAME=DIR, each with a results.json of egrecho eval")
    heads = ["model", "WER %", "95 %", "ins", "del", "sub", "words", "RTF"]
    print(tabulate(rows, heads, tablefmt="fancy_grid", disable_numparse=True))
    if times is not None and Path(times).is_file():
        seconds = dict(line.rstrip("\n").split("\t") for line in Path(times).read_text().splitlines())
        print(
            tabulate([(name, f"{int(s) // 60}:{int(s) % 60:02d}") for name, s in seconds.items()], ["stage", "min:s"])
        )
    for word in named:
        if not Path(word.split("=", 1)[-1], "results.json").is_file():
            print(f"(no results yet in {word.split('=', 1)[-1]})")


def row(name: str, folder: str) -> list[str]:
    """Return the table's row of one result folder."""
    result = json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))
    rates = [percent(result[key]) for key in ("ins_rate", "del_rate", "sub_rate")]
    low, high = result.get("interval") or (None, None)
    interval = "" if low is None else f"{percent(low)}-{percent(high)}"
    return [name, percent(result["error_rate"]), interval, *rates, str(result["total"]), f"{result['RTF']:.4f}"]


def percent(rate: float | None) -> str:
    """Write a rate for people."""
    return "n/a" if rate is None else f"{100 * rate:.2f}"


if __name__ == "__main__":
    main()
