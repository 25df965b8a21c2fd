"""Where the errors of a result are: by group of utterances, and by token.

In: a scored result. Out: `Html` tables. A group's rate comes with its bootstrap interval, because small groups
differ by chance alone.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from egrecho_inner.report.charts import bar
from egrecho_inner.report.page import Child, Html, table, tag, text
from egrecho_inner.results.errs import TokenErrors
from egrecho_inner.results.rescored import Rescored
from egrecho_inner.text.alignment import align, tokenize
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.scoring import REF, Score, percent

MOST_GROUPS, MOST_TOKENS = 20, 12
DRAWS = 1000  # of the bootstrap within a group
SECONDS = (2, 5, 10, 20, 30)
TOKENS = (1, 2, 4, 8, 16, 32, 64)
ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Rates at which bars may end: the first that holds all of them, and their intervals up to 100 %."""


def group_tables(scored: Rescored) -> tuple[Html, float]:
    """Show the rate by speaker, language, duration and length of the reference; return the rate where all bars end."""
    durations, bands = _buckets(scored.column("duration"), SECONDS, "s")
    lengths, sizes = _buckets(scored.score.counts[:, REF].tolist(), TOKENS, "")
    languages = {
        code if part.metric == scored.score.metric else f"{code} ({part.metric.upper()})": part
        for code, part in scored.by_language.items()
    }
    panels = [
        _choose("Speaker", _parts(scored, scored.column("speaker"))),
        _choose("Language", languages),
        _choose("Duration", _parts(scored, durations), bands),
        _choose(f"Reference {scored.unit}", _parts(scored, lengths), sizes),
    ]
    panels = [panel for panel in panels if panel is not None]
    highs = [high for panel in panels for bounds in panel.intervals.values() if bounds for high in bounds]
    end = next((end for end in ENDS if end >= max(highs, default=1)), 1.0)
    return tag("div", *(_show(panel, scored, end) for panel in panels), cls="grid"), end


def _parts(scored: Rescored, labels: Sequence[str | None]) -> dict[str, Score]:
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault("not given" if label is None else str(label), []).append(row)
    return {name: scored.score.select(members) for name, members in rows.items()}


def _buckets(values: Sequence[float | None], edges: Sequence[float], unit: str) -> tuple[list[str | None], list[str]]:
    """Name the range that each value is in; and all ranges in their order."""
    whole = unit == ""
    space = f" {unit}" if unit else ""
    names = ["0" if whole and edges[0] == 1 else f"under {edges[0]:g}{space}"]
    for low, high in itertools.pairwise(edges):
        last = high - 1 if whole else high
        names.append(f"{low:g}{space}" if whole and low == last else f"{low:g} to {last:g}{space}")
    names.append(f"{edges[-1]:g}{space} or more")
    found = [None if value is None else names[int(np.searchsorted(edges, value, side="right"))] for value in values]
    return found, names


class _Panel(NamedTuple):
    """Groups of utterances."""

    what: str
    parts: dict[str, Score]
    intervals: dict[str, tuple[float, float] | None]
    left_out: int


def _choose(what: str, parts: Mapping[str, Score], order: Sequence[str] | None = None) -> _Panel | None:
    """Choose the groups that are shown, in their own order or those with most errors first; None if there are none."""
    if set(parts) == {"not given"}:
        return None
    names = [name for name in order if name in parts] if order else sorted(parts, key=lambda n: -parts[n].errors)
    shown = names[:MOST_GROUPS]
    intervals = {name: bootstrap_interval(parts[name].counts, DRAWS) for name in shown}
    return _Panel(what, {name: parts[name] for name in shown}, intervals, len(names) - len(shown))


def _show(panel: _Panel, scored: Rescored, end: float) -> Html:
    """Show the rate of each group; a bar is full at `end`."""
    body = [
        [text(name), _rate_bar(part, panel.intervals[name], end), percent(part.error_rate), *_sizes(part)]
        for name, part in panel.parts.items()
    ]
    rest = f"{panel.left_out:,} others are not shown." if panel.left_out else ""
    head = [panel.what, "", scored.rate, "Utterances", scored.unit.capitalize()]
    grid = table(head, body, numbers=(2, 3, 4), cls="shares")
    return tag("div", grid, tag("div", rest, cls="about") if rest else None, cls="panel")


def _rate_bar(part: Score, interval: tuple[float, float] | None, end: float) -> Html | None:
    if part.error_rate is None:
        return None
    low, high = (bound / end for bound in interval) if interval else (None, None)
    return bar(part.error_rate / end, low, high)


def _sizes(part: Score) -> list[str]:
    return [f"{part.utterances:,}", f"{part.total:,}"]


def confusions(scored: Rescored) -> Html:
    """Show the commonest substitutions, deletions and insertions."""
    tally, metric = TokenErrors(), scored.score.metric
    for _, ref, hyp in scored.pairs:
        tally.add(align(tokenize(ref, metric), tokenize(hyp, metric)))
    substituted = [
        ([_token("del", ref), " → ", _token("ins", hyp)], count) for (ref, hyp), count in _top(tally.substituted)
    ]
    deleted = [(_token("del", token), count) for token, count in _top(tally.deleted)]
    inserted = [(_token("ins", token), count) for token, count in _top(tally.inserted)]
    panels = [
        _frequencies("Substituted", "s", substituted, sum(tally.substituted.values())),
        _frequencies("Deleted", "d", deleted, sum(tally.deleted.values())),
        _frequencies("Inserted", "i", inserted, sum(tally.inserted.values())),
    ]
    return tag("div", *panels, cls="grid three")


def _top(counter: Mapping[Any, int]) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:MOST_TOKENS]


def _token(kind: str, token: str) -> Html:
    return tag("bdi", tag(kind, "␣" if token == " " else token))


def _frequencies(title: str, cls: str, rows: Sequence[tuple[Child, int]], total: int) -> Html:
    body = [(tag("span", token, cls=f"token {cls}"), f"{count:,}") for token, count in rows]
    inside = (
        table([title, f"times, of {total:,}"], body, numbers=(1,)) if rows else tag("p", f"{title}: none", cls="note")
    )
    return tag("div", inside, cls="panel")
