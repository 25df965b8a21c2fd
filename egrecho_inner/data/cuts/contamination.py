"""Texts of evaluation sets among training texts, found by the n-grams they share.

In: the transcripts of evaluation sets, cuts of documents or windows. Out: for each cut the first set it shares a run of
words with, and the run. A test text of fewer words than an n-gram is looked for as one run of all its words, if it has
enough of them; shorter ones are no evidence ("yes", "one two") and are counted.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from egrecho_inner.data.cuts.fields import duration_of
from egrecho_inner.data.cuts.line_pass import Result, Row
from egrecho_inner.data.cuts.selection import text_of
from egrecho_inner.runtime.files import atomic_file, to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.shingles import hash_ngrams, hash_tokens, tokens_of

STAGE = "decontaminate"
VERSION = 1  # changes when the same texts would give other matches


Runs = dict[str, dict[int, np.ndarray]]
"""Hashes of runs of words (N,) uint64, sorted, by the name of their evaluation set and their length in words."""


def runs_of(texts: Iterable[str], ngram: int, shortest: int) -> tuple[dict[int, np.ndarray], Counter[str]]:
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
    return {size: np.array(sorted(runs), dtype=np.uint64) for size, runs in sorted(found.items())}, counts


def save_runs(path: Path, runs: Runs) -> str:
    """Write the runs of all sets to a file that workers read; return its digest."""
    arrays = {}
    for place, (name, sizes) in enumerate(runs.items()):
        arrays |= {f"{place:03d} {size} {name}": hashes for size, hashes in sizes.items()}
    with atomic_file(path, keep_same=True) as file:
        np.savez(file, **arrays)
    found = hashlib.sha256()
    for name, hashes in arrays.items():  # not of the file: a zip has times in it
        found.update(name.encode() + hashes.tobytes())
    return found.hexdigest()


@lru_cache(maxsize=1)
def load_runs(path: str, digest: str) -> Runs:
    """Read the runs once in a process; the digest tells files of one name apart."""
    runs: Runs = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in sorted(arrays.files):
            _, size, name = key.split(" ", 2)
            runs.setdefault(name, {})[int(size)] = arrays[key]
    return runs


def match(tokens: Sequence[str], sets: Runs) -> tuple[str, str] | None:
    """Return the first set that a text shares a run with, and the run; None where there is none."""
    hashes = hash_tokens(tokens)
    for name, sizes in sets.items():
        for size, known in sizes.items():
            own = hash_ngrams(hashes, size)
            near = np.minimum(np.searchsorted(known, own), len(known) - 1)
            places = np.flatnonzero(known[near] == own)
            if len(places):
                first = int(places[0])
                return name, " ".join(tokens[first : first + size])
    return None


def check_rows(rows: list[Row], settings: Mapping[str, Any]) -> Result:
    """Keep the cuts of a shard that share nothing with a test; the function of a pass (`line_pass.py`)."""
    sets = load_runs(settings["runs"], settings["digest"])
    lines, skips = [], []
    for row in rows:
        found = match(tokens_of(text_of(row, None)), sets)
        if found is None:
            lines.append(to_line(row))
        else:
            skips.append(Skip(str(row["id"]), STAGE, f"shares words with {found[0]}", found[1], duration_of(row)))
    return Result(lines, skips, {"cuts": len(rows)})
