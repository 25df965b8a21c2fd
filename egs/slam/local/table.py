#!/usr/bin/env python3
"""Print the error rates of speech LLMs with their own audio, with another's and with silence, beside each other.

table.py before=exp/slam_mini/before/eval projector=exp/slam_mini/projector/eval --times exp/slam_mini/times.tsv
"""

import json
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_names import parse_named
from egrecho_inner.text.scoring import percent


def table(results: list[str], times: str = "") -> None:
    """Print one line for each result folder that is there.

    Args:
        results: NAME=FOLDER of `egrecho eval`.
        times: File with the seconds of each stage.
    """
    print("| model | WER % | another's audio | silence | silence, empty | empty | looped | refused |")
    print("|---|---|---|---|---|---|---|---|")
    for word in results:
        name, folder = parse_named(word, "results")
        path = Path(folder) / "results.json"
        if not path.is_file():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        heard = found.get("listening") or {}
        others = [percent(heard[each]) if each in heard else "" for each in ("swapped", "silent", "silent_empty")]
        counts = [str(found.get(each, "")) for each in ("empty", "looped", "refused")]
        print(f"| {' | '.join([name, percent(found['error_rate']), *others, *counts])} |")
    if times and Path(times).is_file():
        print(Path(times).read_text(encoding="utf-8"), end="")


table.positional = ["results"]


if __name__ == "__main__":
    run(table)
