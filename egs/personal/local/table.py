#!/usr/bin/env python3
"""Print one table of personal runs, as Markdown.

usage: table.py NAME=RUN_FOLDER ...
"""

import json
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

HEADS = ["run", "learned", "base %", "95 %", "tuned %", "95 %", "verdict", "others, points", "seconds"]


def main() -> None:
    """Read the reports of the folders named on the command line and print."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return
    rows = [row(name, Path(folder) / "report.json") for name, _, folder in (word.partition("=") for word in words)]
    print(tabulate([each for each in rows if each], HEADS, tablefmt="github", disable_numparse=True))


def row(name: str, path: Path) -> list[str] | None:
    """Return the table's row of one run; None where it has not finished."""
    if not path.is_file():
        return None
    report = json.loads(path.read_text(encoding="utf-8"))
    learned = next(iter(report["tried"].values()))["recordings"]
    before, after = report["base_scores"]["test"], report["tuned_scores"]["test"]
    guard = report["guard"]
    forgotten = f"{100 * guard['forgotten']:+.2f} (alpha {guard['alpha']:g})" if guard else ""
    return [
        name, str(learned), *figures(before), *figures(after), report["verdict"], forgotten, f"{report['seconds']:.0f}",
    ]  # fmt: skip


def figures(part: dict[str, Any]) -> tuple[str, str]:
    """Return an error rate and its interval."""
    low, high = part["interval"]
    return f"{100 * part['error_rate']:.2f}", f"{100 * low:.1f}-{100 * high:.1f}"


if __name__ == "__main__":
    main()
