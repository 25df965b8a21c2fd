#!/usr/bin/env python3
"""Compare what each filter drops with the truth: precision and recall, as a Markdown table.

    judge_filters.py --truth data/web_mini/web/truth.jsonl --folder exp/pretrain_mini/data \
        --conditions egs/pretrain/mini_filter.yaml

Each filter is judged alone. Filters of documents are judged in documents: recall is the share of its kind that it
drops, precision the share of what it drops that is of its kind. The edit distance, of documents and of windows, is
judged in seconds: its kinds are captions that do not belong to the audio, whatever made them so.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.data.cuts.conditions import Condition, first_failure, read_conditions
from egrecho_inner.data.cuts.selection import tags_in
from egrecho_inner.runtime.files import write_text
from egrecho_inner.runtime.ledger import read_ledger

DOCUMENT_KINDS = {
    "text_language": ("foreign captions",),
    "audio_language": ("foreign audio",),
    "casing": ("upper case",),
    "repeating_lines": ("roll-up",),
}
MISMATCHED = ("shifted", "other document", "words dropped", "foreign audio", "foreign captions")
Row = dict[str, Any]


def judge_filters(truth: str, folder: str, conditions: str, out: str = "") -> None:
    """Print precision and recall of each filter.

    Args:
        truth: The file of make_web.py.
        folder: With documents.jsonl.gz, unique.dropped.jsonl.gz, skipped.jsonl, tagged_windows.jsonl.gz of mini.sh.
        conditions: The YAML file of `egrecho filter`.
        out: Write the table here, too.
    """
    kinds = {row["id"]: row for row in map(json.loads, Path(truth).read_text(encoding="utf-8").splitlines())}
    place = Path(folder)
    asked = read_conditions(yaml.safe_load(Path(conditions).read_text())["conditions"])
    windows = list(rows_of(place / "tagged_windows.jsonl.gz"))
    documents = {document_of(row): row for row in windows}
    table = [duplicates(kinds, place), leaks(kinds, place)]
    tagged = {row["id"]: row for row in rows_of(place / "tagged_documents.jsonl.gz")}
    for each in asked:
        name = each.tag.removeprefix("document.")
        if name in DOCUMENT_KINDS:
            source = documents if name == "audio_language" else tagged
            failed = {identity for identity, row in source.items() if fails(row, [each])}
            table.append(score(name, DOCUMENT_KINDS[name], failed, kinds, source))
    table += distances(kinds, windows, [each for each in asked if each.tag.endswith("edit_distance")])
    heads = ["filter", "kind", "there are", "dropped", "recall", "precision"]
    text = tabulate(table, heads, tablefmt="github", disable_numparse=True)
    print(text)
    if out:
        write_text(out, text + "\n")


def rows_of(path: Path) -> Iterable[Row]:
    """Yield the rows of a gzipped manifest."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def document_of(row: Row) -> str:
    """Return the document of a window."""
    return row["recording"]["id"]


def fails(row: Row, conditions: list[Condition]) -> bool:
    """Tell whether a cut fails some conditions."""
    return first_failure(tags_in(row, row["id"]), conditions, row["id"]) is not None


def score(name: str, kinds: Sequence[str], failed: set[str], truth: dict[str, Row], among: Iterable[str]) -> list[str]:
    """Return a row of the table, counted in documents."""
    of_kind = {identity for identity in among if identity in truth and truth[identity]["kind"] in kinds}
    hits, there, dropped = len(failed & of_kind), len(of_kind), len(failed)
    return [name, ", ".join(kinds), f"{there}", f"{dropped}", share(hits, there), share(hits, dropped)]


def share(part: float, whole: float) -> str:
    """Return a share with three digits."""
    return f"{part / whole:.3f}" if whole else "-"


def duplicates(truth: dict[str, Row], folder: Path) -> list[str]:
    """Return the row of near-duplicates: of each pair one is to be dropped."""
    dropped = {row["id"]: row["value"] for row in rows_of(folder / "unique.dropped.jsonl.gz")}
    pairs = {(row["id"], row["copy_of"]) for row in truth.values() if row["copy_of"]}
    found = {pair for pair in pairs if pair[0] in dropped or pair[1] in dropped}
    right = sum((one, other) in pairs or (other, one) in pairs for one, other in dropped.items())
    return [
        "dedup", "near-duplicate", f"{len(pairs)}", f"{len(dropped)}", share(len(found), len(pairs)),
        share(right, len(dropped)),
    ]  # fmt: skip


def leaks(truth: dict[str, Row], folder: Path) -> list[str]:
    """Return the row of test sentences."""
    failed = {skip.id for skip in read_ledger(folder / "skipped.jsonl") if skip.stage.startswith("decontaminate")}
    return score("decontaminate", ("leak",), failed, truth, truth)


def distances(truth: dict[str, Row], windows: list[Row], conditions: list[Condition]) -> list[list[str]]:
    """Return the rows of the edit distance, in seconds: of each kind, and of all together."""

    def seconds(wanted: Callable[[str], bool], failed: bool | None = None) -> float:
        return sum(
            row["duration"]
            for row in windows
            if wanted(truth[document_of(row)]["kind"]) and (failed is None or fails(row, conditions) is failed)
        )

    dropped = seconds(lambda kind: True, True)
    right = seconds(lambda kind: kind in MISMATCHED, True)
    rows = []
    for name in (*MISMATCHED, "labels", "clean"):
        there, hit = seconds(lambda kind, name=name: kind == name), seconds(lambda kind, name=name: kind == name, True)
        rows.append(["edit_distance", name, f"{there:.0f} s", f"{hit:.0f} s", share(hit, there), ""])
    there = seconds(lambda kind: kind in MISMATCHED)
    total = ["edit_distance", "all that do not fit", f"{there:.0f} s", f"{dropped:.0f} s", share(right, there)]
    return [*rows, [*total, share(right, dropped)]]


if __name__ == "__main__":
    run(judge_filters)
