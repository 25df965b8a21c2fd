"""What a look at data found: errors, items that would be left out, warnings; all of them in one pass.

In: one call per finding while files are read. Out: groups by kind with a count and the first five places, as text for
people, as a dict for JSON, or as one `DataError`. A kind carries its remedy once. Nothing here knows about Kaldi.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from egrecho_inner.errors import DataError

Level = Literal["error", "skip", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "skip", "warning", "note")
TITLES = {"error": "ERROR", "skip": "LEFT OUT", "warning": "warning", "note": "note"}
SHOWN = 5  # places of each kind, as Kaldi's validate_data_dir.sh shows lines of a diff: enough to see the pattern


@dataclass
class Group:
    """All findings of one kind."""

    level: Level
    kind: str
    """What is wrong, without the item's own names: 'id twice'."""
    fix: str
    """What to do about it."""
    count: int = 0
    places: int = 0
    """How many were named; one place may stand for many items."""
    first: list[str] = field(default_factory=list)
    """The first places, each with its details: 'train/text:7: u3 ...'."""


class Findings:
    """Collects findings, grouped by level and kind in the order of their first appearance."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, str], Group] = {}

    def add(self, level: Level, kind: str, where: str, fix: str = "", count: int = 1) -> None:
        """Note one finding.

        Args:
            level: `error` stops an import, `skip` costs the item, `warning` is repaired or worth a look.
            kind: what is wrong, the same for all of its kind.
            where: the place with what stands there, as `file:line: id ...`.
            fix: what to do.
            count: how many items it stands for.
        """
        group = self.groups.setdefault((level, kind), Group(level, kind, fix))
        group.count += count
        group.places += 1
        if len(group.first) < SHOWN:
            group.first.append(where)

    def error(self, kind: str, where: str, fix: str = "", count: int = 1) -> None:
        """Note something that stops an import."""
        self.add("error", kind, where, fix, count)

    def warn(self, kind: str, where: str, fix: str = "", count: int = 1) -> None:
        """Note something that is repaired while reading, or only worth a look."""
        self.add("warning", kind, where, fix, count)

    def of(self, *levels: Level) -> list[Group]:
        """Return the groups of these levels, worst first."""
        wanted = levels or LEVELS
        return sorted((g for g in self.groups.values() if g.level in wanted), key=lambda g: LEVELS.index(g.level))

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(group.count for group in self.of(level))

    def lines(self, groups: Iterable[Group] | None = None) -> list[str]:
        """Return the groups as text: a line for each kind, its first places below it."""
        text = []
        for group in self.of() if groups is None else groups:
            text.append(
                f"{TITLES[group.level]}: {group.kind} ({group.count:,})" + (f"; {group.fix}" if group.fix else "")
            )
            text += [f"    {where}" for where in group.first]
            more = group.places - len(group.first)
            if more > 0:
                text.append(f"    ... and {more:,} more")
        return text

    def raise_errors(self) -> None:
        """Raise all errors as one `DataError`: the first in its first line with place and remedy, then the list."""
        groups = self.of("error")
        if not groups:
            return
        first, total = groups[0], self.count("error")
        message = f"{first.first[0]}: {first.kind}" + (f"; {first.fix}" if first.fix else "")
        if total > 1:
            message = f"{message} (the first of {total:,} errors)\n" + "\n".join(self.lines(groups))
        raise DataError(message)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and groups in JSON's types."""
        counts = {f"{level}s": self.count(level) for level in LEVELS}
        return {**counts, "findings": [vars(group) for group in self.of()]}
