"""Charts as inline SVG and HTML: small, sharp, in the colours of the page, each bar with its figures on hover.

In: numbers by split. Out: `Html`. A histogram has one strip for each split over one axis, each in its own scale, so
that a small test set can be compared with a large training set. Left out: anything that needs a plotting library;
its pictures are fifty times as large and cannot follow light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from egrecho_inner.report.page import Child, Html, table, tag

WIDTH, STRIP, GAP, AXIS = 520, 56, 26, 24  # in units of the picture, which is as wide as its place
BINS = 60
_STEPS = (1, 2, 2.5, 5, 10)


class Mark(NamedTuple):
    """A limit to draw over all strips."""

    at: float
    label: str


class Scale(NamedTuple):
    """The bins of a histogram: what is at `end` or beyond is in the last one."""

    step: float
    bins: int

    @property
    def end(self) -> float:
        return self.step * self.bins

    def x(self, value: float) -> float:
        return round(WIDTH * min(max(value / (self.step * (self.bins + 1)), 0), 1), 1)


def histogram(series: Mapping[str, np.ndarray], unit: str, mark: Mark | None = None, whole: bool = False) -> Html:
    """Draw the distribution of positive numbers, one strip for each series.

    Args:
        series: Values by name; empty ones are left out.
        unit: Of the values.
        mark: A limit to show.
        whole: Values are whole numbers.
    """
    series = {name: values for name, values in series.items() if len(values)}
    if not series:
        return tag("p", "no values", cls="note")
    scale = _scale(series, mark, whole)
    height = len(series) * (STRIP + GAP) + AXIS
    parts = [
        _strip(scale, name, values, row * (STRIP + GAP), unit) for row, (name, values) in enumerate(series.items())
    ]
    parts.append(_axis(scale, height - AXIS, unit))
    if mark and mark.at <= scale.end:
        x = scale.x(mark.at)
        parts.append(tag("line", x1=x, x2=x, y1=GAP - 4, y2=height - AXIS, cls="mark"))
        parts.append(tag("text", mark.label, x=x - 4, y=GAP + 8, text_anchor="end", cls="marked"))
    label = f"Distribution of {unit}: " + "; ".join(f"{name} {describe(v)}" for name, v in series.items())
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=label, cls="chart")


def describe(values: np.ndarray) -> str:
    """Return in a few figures how values are distributed."""
    middle, high = np.percentile(values, [50, 99])
    return f"median {short(middle)} · 99 % under {short(high)} · most {short(values.max())}"


def short(value: float) -> str:
    """Write a number with as many digits as are worth reading."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bar(share: float, low: float | None = None, high: float | None = None, cls: str = "") -> Html:
    """Draw a horizontal bar for a table, a share of its cell (0 to 1), with a whisker from `low` to `high`."""
    parts = [tag("span", cls=f"fill {cls}".strip(), style=f"width:{_percent(share)}")]
    if low is not None and high is not None:
        left, right = min(max(low, 0), 1), min(max(high, 0), 1)
        parts.append(tag("span", cls="whisker", style=f"left:{_percent(left)};width:{_percent(right - left)}"))
    return tag("span", *parts, cls="bar")


def shares(head: Sequence[str], rows: Sequence[tuple[Child, float, Sequence[Child]]]) -> Html:
    """Make a table of (name, amount, figures) whose first column of figures is a bar of the amount."""
    most = max((amount for _, amount, _ in rows), default=0) or 1
    cells = [(name, bar(amount / most), *figures) for name, amount, figures in rows]
    return table([head[0], "", *head[1:]], cells, numbers=range(2, len(head) + 1), cls="shares")


def _scale(series: Mapping[str, np.ndarray], mark: Mark | None, whole: bool) -> Scale:
    """Choose round bins from 0 up to nearly all values, and to the limit where values come near it."""
    top = max(float(np.percentile(values, 99.5)) for values in series.values())
    if mark and max(float(values.max()) for values in series.values()) > mark.at / 2:
        top = max(top, mark.at)
    exact = max(top, 1e-9) / BINS
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(power * nice for nice in _STEPS if power * nice >= exact * (1 - 1e-9))
    step = max(1.0, round(step)) if whole else step
    return Scale(step, max(1, math.ceil(top / step + 1e-9)))


def _strip(scale: Scale, name: str, values: np.ndarray, top: float, unit: str) -> Html:
    bins = np.minimum((values / scale.step * (1 + 1e-9)).astype(np.int64), scale.bins)
    counts = np.bincount(bins, minlength=scale.bins + 1)
    base, width = top + GAP + STRIP, WIDTH / (scale.bins + 1)
    bars = []
    for number in np.flatnonzero(counts):
        height = max(1.0, (STRIP - 6) * counts[number] / counts.max())
        low, beyond = number * scale.step, number == scale.bins
        place = f"{low:g} or more" if beyond else f"{low:g} to {low + scale.step:g}"
        label = f"{name}: {place} {unit}: {counts[number]:,} ({100 * counts[number] / len(values):.2g} %)"
        bars.append(
            tag(
                "rect",
                tag("title", label),
                x=round(number * width + 0.5, 1),
                y=round(base - height, 1),
                width=round(max(width - 1, 0.5), 1),
                height=round(height, 1),
                cls="beyond" if beyond else None,
            )
        )
    title = tag("text", tag("tspan", name, cls="strong"), f"  {describe(values)}", x=0, y=top + 18)
    floor = tag("line", x1=0, x2=WIDTH, y1=base, y2=base, cls="floor")
    return tag("g", title, floor, *bars)


def _axis(scale: Scale, top: float, unit: str) -> Html:
    exact = scale.end / 6
    power = 10.0 ** math.floor(math.log10(exact))
    step = next(power * nice for nice in _STEPS if power * nice >= exact)
    ticks = np.arange(0, scale.end + step / 2, step)
    labels = []
    for tick in ticks[ticks <= scale.end + 1e-9]:
        x = scale.x(float(tick))
        labels.append(tag("line", x1=x, x2=x, y1=top, y2=top + 4, cls="floor"))
        if x < WIDTH - 9 * len(unit) - 12:  # the unit stands there
            labels.append(tag("text", f"{tick:g}", x=x, y=top + 17, text_anchor="start" if tick == 0 else "middle"))
    labels.append(tag("text", unit, x=WIDTH, y=top + 17, text_anchor="end", cls="strong"))
    return tag("g", *labels)


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0), 1):.1f}%"
