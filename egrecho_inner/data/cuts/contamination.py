"""Texts of evaluation sets among training texts, found by the n-grams they share.

In: the transcripts of evaluation sets, cuts of documents or windows. Out: for each cut the first set it shares a run of
words with, and the run. A test text of fewer words than an n-gram is looked for as one run of all its words, if it has
enough of them; shorter ones say nothing ("yes", "one two") and are counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egrecho_inner.data.cuts.fields import duration_of
from egrecho_inner.data.cuts.line_pass import Result, Row
from egrecho_inner.data.cuts.selection import text_of
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.shingles import hash_ngrams, hash_tokens, tokens_of

STAGE = "decontaminate"
VERSION = 1  # changes when the same texts would give other matches


@dataclass(frozen=True)
class TestSet:
    """The runs of words of an evaluation set."""

    __test__ = False  # no test of pytest's
    name: str
    runs: Mapping[int, Sequence[int]]
    """Hashes by their length in words, sorted."""


def runs_of(texts: Iterable[str], ngram: int, shortest: int) -> tuple[dict[int, list[int]], Counter[str]]:
    """Return the runs that the texts of an evaluation set are found by, and how many texts were taken how.

    Args:
        texts: Transcripts.
        ngram: Words of a run.
        shortest: Words of a text that is looked for as one run.
    """
    found: dict[int, set[int]] = {}
    counts: Counter[str] = Counter()
    for text in texts:
        tokens = hash_tokens(tokens_of(text))
        if len(tokens) < shortest:
            counts["too short to compare"] += 1
            continue
        size = min(ngram, len(tokens))
        counts["compared by n-grams" if size == ngram else "compared as one run"] += 1
        found.setdefault(size, set()).update(hash_ngrams(tokens, size).tolist())
    return {size: sorted(runs) for size, runs in sorted(found.items())}, counts


def match(tokens: Sequence[str], sets: Sequence[TestSet]) -> tuple[str, str] | None:
    """Return the first set that a text shares a run with, and the run; None where there is none."""
    hashes = hash_tokens(tokens)
    for each in sets:
        for size, runs in each.runs.items():
            known = np.asarray(runs, dtype=np.uint64)
            places = np.flatnonzero(np.isin(hash_ngrams(hashes, size), known))
            if len(places):
                first = int(places[0])
                return each.name, " ".join(tokens[first : first + size])
    return None


def check_rows(rows: list[Row], settings: Mapping[str, Any]) -> Result:
    """Keep the cuts of a shard that share nothing with a test; the function of a pass (`line_pass.py`)."""
    sets = [
        TestSet(name, {int(size): runs for size, runs in found.items()}) for name, found in settings["runs"].items()
    ]
    lines, skips = [], []
    for row in rows:
        found = match(tokens_of(text_of(row, None)), sets)
        if found is None:
            lines.append(to_line(row))
        else:
            skips.append(Skip(str(row["id"]), STAGE, f"shares words with {found[0]}", found[1], duration_of(row)))
    return Result(lines, skips, {"cuts": len(rows)})
