"""Documents or windows filtered by conditions on their tags, with a ledger in seconds by condition and language.

In: the JSON of cuts with tags, conditions in order. Out: the first condition that each fails, or none; tables. A tag is
named `window.NAME` or `document.NAME`; the bare name will do where only one of the two has it. Seconds are counted in
whole microseconds: what is kept and what each condition drops add up to what there was, exactly.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from egrecho_inner.data.cuts.conditions import Condition, Scalar, first_failure
from egrecho_inner.data.cuts.drops import KEPT, MICRO, Drops
from egrecho_inner.data.cuts.fields import duration_of
from egrecho_inner.data.cuts.make import scan_manifest
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import read_lines, to_line
from egrecho_inner.runtime.passes import publish

EXAMPLES = 3
COLUMNS = ["condition", "alone drops", "here drops", "cuts left", "hours left", "% of hours"]
LANGUAGE_TAGS = ("text_language", "named_language")
"""Tags under whose language a cut is counted, the first that it has."""


def tags_in(row: Mapping[str, Any], where: str) -> dict[str, Scalar | None]:
    """Return all tags of a cut, each by its full name, and by its bare name where that names one tag only.

    Raises:
        DataError: The cut has no supervision.
    """
    if not row.get("supervisions"):
        raise DataError(f"{where}: cut {row.get('id')} has no supervision; expected a document or a window with tags")
    document = (row.get("custom") or {}).get("document") or {}
    window = (row["supervisions"][0].get("custom") or {}).get("tags") or {}
    tags = {f"document.{name}": value for name, value in document.items()}
    tags |= {f"window.{name}": value for name, value in window.items()}
    both = document.keys() & window.keys()
    return tags | {name: value for name, value in {**document, **window}.items() if name not in both}


def select_cuts(
    source: Path, place: Path, conditions: Sequence[Condition], language_tag: str, explain: bool = False, seed: int = 0
) -> Selection:
    """Filter a manifest in one pass over its lines: memory does not grow with it.

    Args:
        source: Manifest of cuts with tags.
        place: Manifest to write; `PLACE.json` beside it has the ledger, `NAME.dropped.jsonl.gz` a line for each drop.
        conditions: In order.
        language_tag: Tag whose value becomes the language of kept cuts; empty changes none.
        explain: Write nothing.
        seed: Of the choice of examples.

    Raises:
        DataError: Nothing is kept, or a tag is missing.
    """
    selection = Selection(conditions, seed)
    scan_manifest(source)
    if explain:
        for _ in selected(source, selection, language_tag, None):
            pass
        return selection

    def facts() -> dict[str, Any]:
        if not selection.kept:
            raise DataError(f"{source}: none of {selection.total:,} cuts is kept; --explain shows why")
        counts = {"cuts": selection.total, "kept": selection.kept}
        return {"conditions": selection.names, "language_tag": language_tag, **counts, "ledger": selection.ledger()}

    with Drops(place) as drops:
        lines = selected(source, selection, language_tag, drops)
        publish(place, place.with_name(f"{place.name}.json"), lines, facts)
    return selection


def selected(source: Path, selection: Selection, language_tag: str, drops: Drops | None) -> Iterator[str]:
    """Yield the lines that are kept; each other one is noted where there is a ledger."""
    last = ""  # id of the last cut that was dropped
    for number, line in enumerate(read_lines(source), 1):
        row, where = orjson.loads(line), f"{source}:{number}"
        tags = tags_in(row, where)
        failed = selection.ask(row, tags, where)
        if failed is not None:
            last = str(row["id"])
            if drops is not None:
                drops.add(last, failed[0], failed[1], duration_of(row))
            continue
        supervision = row["supervisions"][0]
        changed = bool(language_tag)
        if language_tag:
            if not isinstance(tags.get(language_tag), str):
                raise DataError(f"{where}: cut {row['id']} has no tag '{language_tag}' that is a language")
            supervision["language"] = tags[language_tag]
        if follows(last, str(row["id"])) and (supervision.get("custom") or {}).pop("previous", None) is not None:
            changed = True  # what was dropped is not to be trusted as a prompt either
        yield to_line(row) if changed else line


def follows(last: str, name: str) -> bool:
    """Tell whether a window is the next one of its recording behind another."""
    one, other = (re.fullmatch(r"(.*-)(\d+)", each) for each in (last, name))
    return bool(one and other and one[1] == other[1] and int(other[2]) == int(one[2]) + 1)


class Selection:
    """Asks the conditions about every cut and counts.

    Args:
        conditions: In their order.
        seed: Of the choice of examples.

    Raises:
        ConfigError: There are none, or one is there twice.
    """

    def __init__(self, conditions: Sequence[Condition], seed: int = 0):
        if not conditions:
            raise ConfigError("conditions is empty; everything would be kept")
        self.conditions, self.names = list(conditions), [str(each) for each in conditions]
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise ConfigError(f"the condition '{twice[0]}' is there twice")
        self.alone: Counter[str] = Counter()
        self.cuts: Counter[tuple[str, str]] = Counter()
        """By condition, "kept" among them, and language."""
        self.micro: Counter[tuple[str, str]] = Counter()
        """Microseconds, likewise."""
        self.examples: dict[str, list[tuple[str, Scalar, str]]] = {name: [] for name in self.names}
        self.random = random.Random(seed)

    def ask(
        self, row: Mapping[str, Any], tags: Mapping[str, Scalar | None], where: str
    ) -> tuple[str, Scalar | None] | None:
        """Return the first condition that a cut does not fulfil with the tag's value, or None.

        Args:
            row: The cut's JSON.
            tags: What `tags_in` returned for it.
            where: Names the line in an error.

        Raises:
            DataError: A tag is missing, ambiguous, or of another type than it is compared with.
        """
        for name in (tag for condition in self.conditions for tag in condition.tags):
            if name not in tags and f"document.{name}" in tags:
                raise DataError(
                    f"{where}: both the document and the window have a tag '{name}'; write document.{name} or "
                    f"window.{name}"
                )
        here = f"{where}: cut {row['id']}"
        failed = [each for each in self.conditions if first_failure(tags, [each], here)]
        language = str(next((tags[name] for name in LANGUAGE_TAGS if name in tags), "?"))
        name = str(failed[0]) if failed else KEPT
        self.cuts[name, language] += 1
        self.micro[name, language] += round(duration_of(row) * MICRO)
        self.alone.update(map(str, failed))
        if not failed:
            return None
        value = tags[failed[0].tag]
        self.add_example(name, row, value)
        return name, value

    def add_example(self, name: str, row: Mapping[str, Any], value: Scalar) -> None:
        """Keep a few of the cuts that a condition drops, each with the same probability."""
        kept, seen = self.examples[name], sum(n for (each, _), n in self.cuts.items() if each == name)
        example = (str(row["id"]), value, text_of(row))
        if len(kept) < EXAMPLES:
            kept.append(example)
        elif (place := self.random.randrange(seen)) < EXAMPLES:
            kept[place] = example

    @property
    def total(self) -> int:
        """Cuts that were asked about."""
        return sum(self.cuts.values())

    @property
    def kept(self) -> int:
        """Cuts that fulfil all conditions."""
        return self.count(KEPT)[0]

    def count(self, name: str) -> tuple[int, int]:
        """Return the cuts that a condition dropped, or that are kept, and their microseconds."""
        return (
            sum(number for (each, _), number in self.cuts.items() if each == name),
            sum(number for (each, _), number in self.micro.items() if each == name),
        )

    def table(self) -> list[list[str]]:
        """Return the rows of COLUMNS: all, then each condition."""
        left, micro = self.total, sum(self.micro.values())
        rows, all_micro = [["all", "", "", f"{left:,}", f"{micro / MICRO / 3600:.3f}", "100.0"]], max(micro, 1)
        for name in self.names:
            cuts, dropped = self.count(name)
            left, micro = left - cuts, micro - dropped
            share = f"{100 * micro / all_micro:.1f}"
            hours = f"{micro / MICRO / 3600:.3f}"
            rows.append([name, f"{self.alone[name]:,}", f"{cuts:,}", f"{left:,}", hours, share])
        return rows

    def ledger(self) -> list[dict[str, Any]]:
        """Return cuts and seconds by condition and language; the seconds add up to those of all cuts."""
        order = {name: place for place, name in enumerate([*self.names, KEPT])}
        found = sorted(self.cuts, key=lambda key: (order[key[0]], key[1]))
        return [
            {"condition": each[0], "language": each[1], "cuts": self.cuts[each], "seconds": self.micro[each] / MICRO}
            for each in found
        ]

    def by_language(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of a table: hours that each condition drops, and that are kept, by language."""
        codes = sorted({code for _, code in self.cuts}, key=lambda code: (-self.hours(code), code))[:8]
        rows = []
        for name in [*self.names, KEPT]:
            rows.append([name, *(f"{self.micro[name, code] / MICRO / 3600:.3f}" for code in codes)])
        return ["hours dropped by", *codes], rows

    def hours(self, code: str) -> float:
        """Return the hours of all cuts of a language."""
        return sum(number for (_, each), number in self.micro.items() if each == code) / MICRO / 3600


def text_of(row: Mapping[str, Any], most: int | None = 5) -> str:
    """Return a cut's text on one line; of a document, its captions.

    Args:
        row: The cut's JSON.
        most: Captions to take of a document; None takes all.
    """
    if not row.get("supervisions"):
        return ""
    supervision = row["supervisions"][0]
    captions = (supervision.get("custom") or {}).get("captions") or ()
    return " ".join(str(supervision.get("text") or " ".join(each[2] for each in captions[:most])).split())
