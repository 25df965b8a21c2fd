"""How far a long command is: a bar in a terminal, a plain line every half minute elsewhere, nothing with `--quiet`.

In: the items of a loop, how many there are, what is done with them. Out: the items. Only the first of several processes
shows anything, and only the outermost of nested loops does.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")
logger = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two plain lines, in a log file for instance."""
_shown = False
_live: "Progress | None" = None


def watched(items: Iterable[T], total: int | None = None, what: str = "", unit: str = "") -> Iterator[T]:
    """Pass items on and show how far the loop is.

    Args:
        items: Of the loop.
        total: How many there are; of a list it is known, of others None shows a count alone.
        what: Is done, in a word or two.
        unit: What is counted, `cuts` for example.
    """
    global _shown
    if total is None and isinstance(items, Sized):
        with suppress(TypeError):  # the length of a lazy CutSet is not known
            total = len(items)
    if _shown or os.environ.get("RANK", "0") != "0" or not logger.isEnabledFor(logging.INFO):
        yield from items
        return
    _shown = True
    try:
        yield from (_with_bar if sys.stderr.isatty() else _with_lines)(items, total, what, unit)
    finally:
        _shown = False


def _with_bar(items: Iterable[T], total: int | None, what: str, unit: str) -> Iterator[T]:
    with bar(unit) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _with_lines(items: Iterable[T], total: int | None, what: str, unit: str) -> Iterator[T]:
    began = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - last >= INTERVAL:
            logger.info("%s", line(what, count, total, now - began, unit))
            last = now


def line(what: str, count: int, total: int | None, seconds: float, unit: str = "") -> str:
    """Return how far a loop is, in words."""
    speed = count / max(seconds, 1e-9)
    per = f"{speed:,.1f} a second" if speed >= 1 else f"{1 / max(speed, 1e-9):,.1f} s each"
    unit = f" {unit}" if unit else ""
    if not total:
        return f"{what}: {count:,}{unit}, {per}"
    left = clock((total - count) / speed)
    return f"{what}: {count:,} of {total:,}{unit} ({100 * count / total:.0f} %), {per}, {left} left"


def clock(seconds: float) -> str:
    """Write a duration as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def bar(unit: str = "") -> "Iterator[Progress]":
    """Show a bar on standard error while a block runs; log lines go above it, nothing of it stays."""
    from rich.console import Console  # 0.1 s
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    class Speed(ProgressColumn):
        """Items per second, or seconds an item."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            return Text(f"{speed:,.1f}/s" if speed >= 1 else f"{1 / speed:,.1f} s each")

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), Speed()]
    global _live
    with Progress(*columns, Remaining(), TextColumn("left"), console=Console(stderr=True), transient=True) as progress:
        _live = progress
        yield progress


def close() -> None:
    """Take the bar away that a fault in the loop's body left: it would hide the cursor and stand below the message."""
    global _live
    if _live is not None:
        _live.stop()
        _live = None
