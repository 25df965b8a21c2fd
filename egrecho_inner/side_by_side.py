#!/usr/bin/env python
"""Result folders of `egrecho eval` in, one table out: models beside each other on every set, the first one the measure.

    egrecho side-by-side "[teacher=exp/distil/teacher/eval,student=exp/distil/student/eval]"

Word and character error rates with each language's normaliser and without any, the 95 % interval of the first
(bootstrap over utterances), parameters, real-time factor and how many times faster than the first model. Scored again
from `hyps.jsonl`, so that all rows are counted by one ruler; a set that not all folders have decoded with the same
utterances is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import read_lines, write_text
from egrecho_inner.text.alignment import Metric
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.normalize import default_normalizer, get_normalizer
from egrecho_inner.text.scoring import Score, score

HEADS = ["set", "model", "M params", "WER %", "95 %", "raw", "CER %", "raw", "RTF", "x faster"]


@dataclass(frozen=True)
class Result:
    """One model on one set."""

    model: str
    rows: list[dict[str, Any]]
    """Of hyps.jsonl."""
    summary: dict[str, Any]
    """results.json."""

    def score(self, metric: Metric, normalizer: str) -> Score:
        """Count the errors; `auto` takes each language's own normaliser."""
        triples = []
        for row in self.rows:
            name = default_normalizer(row["language"]) if normalizer == "auto" else normalizer
            normalize = get_normalizer(name, row["language"])
            triples.append((row["id"], normalize(row["ref"]), normalize(row["hyp"])))
        return score(triples, metric)

    def scores(self, normalizer: str) -> list[Score]:
        """Return the four scores: words, words raw, characters, characters raw."""
        return [self.score(metric, name) for metric in ("wer", "cer") for name in (normalizer, "none")]


def side_by_side(results: list[str], normalizer: str = "auto", out: str | None = None) -> None:
    """Print one table of several models on the same sets.

    Args:
        results: NAME=DIR for each model; DIR is what `egrecho eval` wrote for one set or for several.
        normalizer: Of the columns that are not raw; auto is the language's own.
        out: Markdown file to write the table to.
    """
    models = {name: read_results(name, Path(folder)) for name, folder in map(parted, results)}
    sets = list(dict.fromkeys(name for found in models.values() for name in found))
    table: list[list[str]] = []
    by_model: dict[str, list[list[float]]] = {}
    for name in sets:
        found = [each[name] for each in models.values() if name in each]
        check_same(name, found)
        for result in found:
            scores = result.scores(normalizer)
            by_model.setdefault(result.model, []).append([in_percent(each) for each in scores])
            table.append(line(name, result, scores, found[0].summary["RTF"]))
    if len(sets) > 1:
        for model, rates in by_model.items():
            if len(rates) == len(sets):
                means = [sum(column) / len(column) for column in zip(*rates, strict=True)]
                first, *others = (f"{mean:.2f}" for mean in means)
                table.append(["mean", model, "", first, "", *others, "", ""])
    text = tabulate(table, HEADS, tablefmt="github", disable_numparse=True, colalign=["left"] * 2 + ["right"] * 8)
    print(text)
    if out is not None:
        write_text(out, f"{text}\n")


side_by_side.positional = ["results"]


def parted(word: str) -> tuple[str, str]:
    """Part NAME=DIR.

    Raises:
        ConfigError: It is not that.
    """
    name, sign, folder = word.partition("=")
    if not sign or not name or not folder:
        raise ConfigError(f"results: '{word}'; expected NAME=DIR, DIR written by egrecho eval")
    return name, folder


def read_results(model: str, folder: Path) -> dict[str, Result]:
    """Read the sets of a result folder by name.

    Raises:
        DataError: There is no result, or it does not read.
    """
    places = {path.parent: path for path in sorted([*folder.glob("results.json"), *folder.glob("*/results.json")])}
    found: dict[str, Result] = {}
    for place, path in places.items():
        if not (place / "hyps.jsonl").is_file():  # the sum over several sets
            continue
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            rows = [json.loads(line) for line in read_lines(place / "hyps.jsonl")]
            name = place.name if place != folder else Path(summary["data"]["path"]).name.split(".jsonl")[0]
            found[name] = Result(model, rows, summary)
        except (ValueError, KeyError) as error:
            raise DataError(f"{place} does not read ({error!r}); evaluate again") from error
    if not found:
        raise DataError(f"{folder} holds no results of egrecho eval (results.json beside hyps.jsonl); evaluate first")
    return found


def check_same(name: str, found: list[Result]) -> None:
    """Refuse to compare different utterances.

    Raises:
        DataError: Naming both models.
    """
    first = [(row["id"], row["ref"]) for row in found[0].rows]
    for other in found[1:]:
        if [(row["id"], row["ref"]) for row in other.rows] != first:
            raise DataError(
                f"set {name}: {found[0].model} and {other.model} decoded different utterances; evaluate both on one set"
            )


def in_percent(scored: Score) -> float:
    """Return an error rate in percent, NaN where nothing was said."""
    return float("nan") if scored.error_rate is None else 100 * scored.error_rate


def line(name: str, result: Result, scores: list[Score], measure: float) -> list[str]:
    """Return a row of the table."""
    interval = bootstrap_interval(scores[0].counts)
    between = "" if interval is None else "-".join(f"{100 * bound:.1f}" for bound in interval)
    first, *others = (f"{in_percent(each):.2f}" for each in scores)
    parameters = result.summary.get("model", {}).get("parameters")
    real_time = result.summary["RTF"]
    faster = f"{measure / real_time:.2f}" if real_time else "n/a"
    size = "" if parameters is None else f"{parameters / 1e6:.2f}"
    return [name, result.model, size, first, between, *others, f"{real_time:.4f}", faster]


if __name__ == "__main__":
    run(side_by_side)
