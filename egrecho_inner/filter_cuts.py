#!/usr/bin/env python
"""Cuts in, those worth learning from out: by rules on a teacher's text, or by conditions on tags.

    egrecho filter labelled.jsonl.gz filtered.jsonl.gz --explain    # a table and examples, nothing is written
    egrecho filter labelled.jsonl.gz filtered.jsonl.gz
    egrecho filter tagged.jsonl.gz filtered.jsonl.gz -c config/pretrain/english.yaml    # conditions on tags

`data/cuts/rules.py` has the rules, `data/cuts/conditions.py` the conditions. With conditions, no rule is asked; every
drop is a line of `OUT.dropped.jsonl.gz`, and `OUT.json` has the seconds by condition and language.

By rules: kept cuts get the error rate they passed with (`custom.teacher.error_rate`, `metric`), and
`custom.gap_before` where the utterance before them in their recording was dropped: no window goes across it. Every drop
is a line of the ledger `skipped.jsonl`; `OUT.json` has the rules, the normalisers with their versions, and the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.config_types import Seed
from egrecho_inner.data.batches.options import RuleOptions
from egrecho_inner.data.cuts.conditions import Condition, read_conditions
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import read_lines, to_line
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.passes import publish
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.normalize import default_metric, default_normalizer, get_normalizer

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.rules import Survival

HEADS = ["rule", "keeps", "alone drops", "here drops", "cuts left", "hours left", "% of hours"]
EXAMPLE_CHARACTERS = 90


def filter_cuts(
    cuts: str,
    out: str,
    rules: RuleOptions = RuleOptions(),
    conditions: list[dict[str, Any]] | None = None,
    language_tag: str = "",
    explain: bool = False,
    seed: Seed = 0,
) -> None:
    """Keep the cuts whose teacher's text agrees with the reference and looks like speech, or whose tags are as asked.

    Args:
        cuts: Manifest that `egrecho pseudo-label` or, for conditions, `egrecho tag` wrote.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`.
        rules: What is kept; null switches a rule off.
        conditions: Conditions on tags, in order, instead of rules: {tag: casing, one_of: [mixed, lower]}, or equals,
            not_in, at_least, at_most; `when` another one holds. A tag that a cut does not have is an error.
        language_tag: With conditions, the tag whose value becomes the language of kept cuts, such as text_language.
        explain: Only print what each rule would drop, with examples; nothing is written.
        seed: Of the choice of examples.
    """
    from egrecho_inner.data.cuts.fields import recording_of, supervision_row
    from egrecho_inner.data.cuts.make import scan_manifest
    from egrecho_inner.data.cuts.rules import Survival, make_rules, read_labelled

    source, place = Path(cuts), Path(out)
    if source.resolve() == place.resolve():
        raise ConfigError(f"{out} is the input; give another name")
    if conditions is not None:
        select(source, place, read_conditions(conditions), language_tag, explain, seed)
        return
    survival = Survival(make_rules(rules), seed)
    scan_manifest(source)
    ledger = Ledger(place.with_name("skipped.jsonl"))
    languages: set[str | None] = set()
    gaps: set[str] = set()  # recordings whose last utterance was dropped

    def kept() -> Iterator[str]:
        for number, line in enumerate(watched(read_lines(source), what="filtering", unit="cuts"), 1):
            row = json.loads(line)
            cut = read_labelled(row, rules, f"{source}:{number}")
            languages.add(cut.language)
            failed = survival.evaluate(cut)
            if failed is not None:
                ledger.add(cut.id, f"filter {place.name}", failed[0].name, failed[1], cut.duration)
                gaps.add(recording_of(row))
                continue
            custom = supervision_row(row, source.name)["custom"]
            if cut.error is not None:
                custom["teacher"] |= {"error_rate": round(cut.error[0], 5), "metric": cut.error[1]}
            if recording_of(row) in gaps:
                gaps.remove(recording_of(row))
                custom["gap_before"] = True
            yield to_line(row)

    if explain:
        for _ in kept():
            pass
    else:

        def facts() -> dict[str, Any]:
            ledger.write(f"filter {place.name}")
            if not survival.kept:
                raise DataError(f"{cuts}: none of {survival.total:,} cuts passes the rules; --explain shows why")
            return facts_of(rules, survival, named(languages, rules))

        publish(place, place.with_name(f"{place.name}.json"), kept(), facts)
    print_survival(survival, metrics(languages, rules), named(languages, rules), explain)


filter_cuts.positional = ["cuts", "out"]


def select(source: Path, place: Path, conditions: list[Condition], language_tag: str, explain: bool, seed: int) -> None:
    """Filter by conditions on tags and print what they did."""
    from egrecho_inner.data.cuts.selection import COLUMNS, select_cuts

    selection = select_cuts(source, place, conditions, language_tag, explain, seed)
    print(tabulate(selection.table(), COLUMNS, tablefmt="simple", disable_numparse=True))
    heads, rows = selection.by_language()
    print(f"\n{tabulate(rows, heads, tablefmt='simple', disable_numparse=True)}")
    if not explain:
        return
    print(f"\n{selection.kept:,} of {selection.total:,} cuts would be kept. Nothing is written; some that are dropped:")
    for name, examples in selection.examples.items():
        for identity, value, text in examples:
            print(f"\n{name}: {value}   {identity}\n  {shorten(text)}")


def named(languages: set[str | None], rules: RuleOptions) -> dict[str, str]:
    """Return name and version of the normaliser of each language; empty where no error rate is asked for."""
    if rules.max_error_rate is None:
        return {}
    found = {}
    for code in sorted(languages, key=str):
        name = default_normalizer(code) if rules.normalizer == "auto" else rules.normalizer
        found[code or "?"] = f"{name} ({get_normalizer(name, code).version})"
    return found


def metrics(languages: set[str | None], rules: RuleOptions) -> dict[str, str]:
    """Return what the error rate of each language counts."""
    return {code or "?": default_metric(code) if rules.metric == "auto" else rules.metric for code in languages}


def facts_of(rules: RuleOptions, survival: Survival, normalizers: dict[str, str]) -> dict[str, Any]:
    """Return what the output was made with."""
    return {
        "rules": asdict(rules),
        "normalizers": normalizers,
        "cuts": survival.total,
        "kept": survival.kept,
        "table": [dict(zip(HEADS, row, strict=True)) for row in survival.table()],
    }


def print_survival(survival: Survival, counted: dict[str, str], normalizers: dict[str, str], examples: bool) -> None:
    """Print the table, how error rates are counted, and examples of what is dropped."""
    print(tabulate(survival.table(), HEADS, tablefmt="simple", disable_numparse=True))
    for code, name in normalizers.items():
        print(f"error rate of language {code}: {counted[code].upper()}, normaliser {name}")
    if not examples:
        return
    print(
        f"\n{survival.kept:,} of {survival.total:,} cuts would be kept. Nothing is written; some that would be dropped:"
    )
    for name, tally in survival.tallies.items():
        for cut, value in tally.examples:
            print(f"\n{name} = {value}   {cut.id}")
            if cut.reference is not None:
                print(f"  reference  {shorten(cut.reference)}")
            print(f"  teacher    {shorten(cut.teacher['text'])}")


def shorten(text: str) -> str:
    """Return the beginning of a text, for one line."""
    return text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]}..."


if __name__ == "__main__":
    run(filter_cuts)
