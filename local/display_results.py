#!/usr/bin/env python3
"""Print one table of results: a row for each folder that `egrecho eval` wrote, and how long each stage took.

usage: display_results.py NAME=DIR ... [--times FILE]     FILE: lines "stage<TAB>seconds", the last of a stage counts
"""

import sys
from pathlib import Path

from tabulate import tabulate

from egrecho_inner.config_names import parse_named
from egrecho_inner.errors import UserError
from egrecho_inner.results.folder import SUMMARY, read_summary
from egrecho_inner.text.scoring import percent

HEADS = ["model", "WER %", "95 %", "ins", "del", "sub", "words", "RTF"]


def main() -> None:
    """Read the folders named on the command line and print."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    times = words[words.index("--times") + 1] if "--times" in words[:-1] else None
    try:
        named = [parse_named(word, "results", "NAME=DIR") for word in words if word not in ("--times", times)]
        found = [(name, folder) for name, folder in named if Path(folder, SUMMARY).is_file()]
        rows = [row(name, folder) for name, folder in found]
    except (UserError, KeyError, TypeError) as error:
        sys.exit(f"error: {error}; expected NAME=DIR, each with a results.json of egrecho eval")
    print(tabulate(rows, HEADS, tablefmt="fancy_grid", disable_numparse=True))
    if times is not None and Path(times).is_file():
        seconds = dict(line.rstrip("\n").split("\t") for line in Path(times).read_text().splitlines())
        clock = [(name, f"{int(s) // 60}:{int(s) % 60:02d}") for name, s in seconds.items()]
        print(tabulate(clock, ["stage", "min:s"]))
    for name, folder in named:
        if (name, folder) not in found:
            print(f"(no results yet in {folder})")


def row(name: str, folder: str) -> list[str]:
    """Return the table's row of one result folder."""
    result = read_summary(folder)
    rates = [percent(result[key]) for key in ("ins_rate", "del_rate", "sub_rate")]
    low, high = result.get("interval") or (None, None)
    interval = "" if low is None else f"{percent(low)}-{percent(high)}"
    return [name, percent(result["error_rate"]), interval, *rates, str(result["total"]), f"{result['RTF']:.4f}"]


if __name__ == "__main__":
    main()
