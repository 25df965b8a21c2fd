"""One wide table, models by test sets, as published boards have it: rates with their intervals, and both averages.

In: the score of each set by model, and perhaps published figures. Out: Markdown. `macro` is the mean of the sets, each
with the same weight; `pooled` is all errors over all reference tokens. Intervals are 95 %, bootstrap over utterances,
drawn within each set for the averages. An average stands only where every set of the table has been scored; published
rows have rates alone, are marked `(theirs)` and never take part in a comparison of utterances.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from tabulate import tabulate

from egrecho_inner.errors import DataError
from egrecho_inner.text.bootstrap import bootstrap_interval, draw_counts
from egrecho_inner.text.scoring import Score, percent, pool

Published = Mapping[str, Mapping[str, float]]
"""Rates in per cent of each set by model."""
THEIRS, GAP = " (theirs)", "–"
AVERAGES = ("macro", "pooled")


def wide_table(models: Mapping[str, Mapping[str, Score]], published: Published | None = None) -> str:
    """Return the table.

    Args:
        models: For each model, the scores of the sets it has been evaluated on.
        published: Figures of others on sets of the same names, to stand below.
    """
    sets = in_published_order({name for scores in models.values() for name in scores}, published or {}, models)
    metrics = {name: next(scores[name].metric for scores in models.values() if name in scores) for name in sets}
    same = len(set(metrics.values())) == 1
    heads = ["model", *(name if same else f"{name} ({metrics[name].upper()})" for name in sets), *AVERAGES]
    rows = []
    for model, scores in models.items():
        rows.append([model, *(measured(scores.get(name)) for name in sets), *averages(scores, sets)])
    for model, rates in (published or {}).items():
        figures = [rates.get(name) for name in sets]
        full = [rate for rate in figures if rate is not None]
        macro = f"{fmean(full):.1f}" if len(full) == len(sets) else GAP
        rows.append([model + THEIRS, *(GAP if rate is None else f"{rate:.1f}" for rate in figures), macro, GAP])
    sides = ["left", *["right"] * (len(heads) - 1)]
    table = tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=sides)
    unit = metrics[sets[0]].upper() if same else "error rate"
    about = f"{unit} in %, (95 % interval); macro: mean of the sets; pooled: all errors over all reference tokens"
    return f"{table}\n\n{about}" + (f";{THEIRS}: published, not measured here" if published else "")


def in_published_order(found: set[str], published: Published, models: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """Return the sets as the published table has them, then the others as they were met."""
    first = [name for rates in published.values() for name in rates]
    met = [name for scores in models.values() for name in scores]
    return [name for name in dict.fromkeys([*first, *met]) if name in found]


def measured(score: Score | None) -> str:
    """Return a cell: the rate and its interval."""
    if score is None:
        return GAP
    return with_interval(score.error_rate, bootstrap_interval(score.counts))


def with_interval(rate: float | None, interval: tuple[float, float] | None) -> str:
    """Write a rate with its interval, in per cent."""
    if rate is None or interval is None:
        return percent(rate)
    return f"{100 * rate:.2f} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"


def averages(scores: Mapping[str, Score], sets: Sequence[str]) -> list[str]:
    """Return the cells of both averages; a gap where a set is missing, or for the pool of words and characters."""
    if any(name not in scores or scores[name].error_rate is None for name in sets):
        return [GAP, GAP]
    each = [scores[name] for name in sets]
    # of sets drawn one by one: which sets there are is no accident
    errors, tokens = zip(*(draw_counts(score.counts, seed=place) for place, score in enumerate(each)), strict=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of empty references only; `between` leaves it out
        macro = np.mean([error / token for error, token in zip(errors, tokens, strict=True)], axis=0)
    mean = fmean(score.error_rate for score in each if score.error_rate is not None)
    if len({score.metric for score in each}) > 1:
        return [with_interval(mean, between(macro)), GAP]
    pooled = np.sum(errors, axis=0) / np.sum(tokens, axis=0)
    return [with_interval(mean, between(macro)), with_interval(pool(each).error_rate, between(pooled))]


def between(draws: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % interval of draws."""
    draws = draws[np.isfinite(draws)]
    return (float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))) if len(draws) else None


def read_published(path: str | Path) -> dict[str, dict[str, float]]:
    """Read published figures: a line a model, a column a set, in per cent; `average` is checked and left out.

    Raises:
        DataError: A cell is no rate, or an average is not that of its row.
    """
    found: dict[str, dict[str, float]] = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            for row in rows:
                where = f"{path}:{rows.line_num}"
                model = row.pop("model")
                rates = {name: float(value) for name, value in row.items() if value}
                if any(not (0 <= rate < math.inf) for rate in rates.values()):
                    raise DataError(f"{where}: a rate below 0 or without bound; expected per cent")
                average = rates.pop("average", None)
                if average is not None and abs(fmean(rates.values()) - average) > 0.051:
                    raise DataError(f"{where}: average {average:g}, but the row's mean is {fmean(rates.values()):.2f}")
                found[model] = rates
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} does not read ({error!r}); expected model, a column a set, tab between") from error
    return found
