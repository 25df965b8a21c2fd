"""One table over several test sets: a column a set, a row for the model and one for each language, two averages.

In: the scores of each set by language; out: Markdown, rates in per cent, a model to a line as in published boards, so
that the lines of several models can be put under each other. `macro` is the plain mean of the row's sets (every set
weighs the same), `pooled` is all errors over all reference tokens (long sets weigh more).
Words and characters are never added up: a set or row that mixes both metrics has the mean over its languages as its
rate, marked `*`, and no pooled average.
"""

from collections.abc import Mapping
from statistics import fmean

from tabulate import tabulate

from egrecho_inner.text.scoring import Score, percent, pool

ByLanguage = Mapping[str, Score]


def sets_table(results: Mapping[str, ByLanguage], model: str = "all") -> str:
    """Return the table of a model.

    Args:
        results: For each set, by its name, the score of each language in it.
        model: What to call the first row.
    """
    languages = sorted({language for by_language in results.values() for language in by_language})
    rows = [_row(model, list(results.values()))]
    if len(languages) > 1:
        for language in languages:
            parts = [{language: sets[language]} if language in sets else {} for sets in results.values()]
            metrics = "/".join(sorted({part[language].metric.upper() for part in parts if part}))
            rows.append(_row(f"{language} ({metrics})", parts))
    table = tabulate(rows, headers=["", *results, "macro", "pooled"], tablefmt="github", disable_numparse=True)
    return f"{table}\n\n{_legend(results)}"


def averages(results: Mapping[str, ByLanguage]) -> dict[str, float | None]:
    """Return the two averages over sets as fractions; None where there is none."""
    cells = list(results.values())
    return {"macro": _macro(cells), "pooled": _pooled(cells)}


def _row(name: str, cells: list[ByLanguage]) -> list[str]:
    rates = [f"{percent(_rate(cell))}{'*' if _mixed(cell) else ''}" if cell else "–" for cell in cells]
    return [name, *rates, percent(_macro(cells)), percent(_pooled(cells))]


def _mixed(cell: ByLanguage) -> bool:
    return len({part.metric for part in cell.values()}) > 1


def _rate(cell: ByLanguage) -> float | None:
    """Return a set's rate: pooled over its languages, or their mean where their metrics differ."""
    if not _mixed(cell):
        return pool(cell.values()).error_rate
    rates = [part.error_rate for part in cell.values() if part.error_rate is not None]
    return fmean(rates) if rates else None


def _macro(cells: list[ByLanguage]) -> float | None:
    rates = [rate for cell in cells if cell and (rate := _rate(cell)) is not None]
    return fmean(rates) if rates else None


def _pooled(cells: list[ByLanguage]) -> float | None:
    parts = [part for cell in cells for part in cell.values()]
    return pool(parts).error_rate if len({part.metric for part in parts}) == 1 else None


def _legend(results: Mapping[str, ByLanguage]) -> str:
    parts = [part for cell in results.values() for part in cell.values()]
    metrics = "/".join(sorted({part.metric.upper() for part in parts})) or "no score"
    star = "; * mean over languages of different metrics" if any(map(_mixed, results.values())) else ""
    return f"{metrics} in %; macro: mean of the sets; pooled: all errors over all reference tokens{star}"
