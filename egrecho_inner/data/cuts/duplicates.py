"""Copies of a text among documents or windows: equal ones, and near ones by MinHash.

In: cuts of one or several manifests. Out: for each cut the one that it is a copy of, or none. Two texts are near when
they agree in all hashes of a band: 112 hashes of their 5-grams in 14 bands of 8, which pairs texts of Jaccard
similarity 0.75 with a probability of 0.77, of 0.5 with 0.05 (OLMoASR, Ngo et al. 2025, appendix C). The hashes are
datasketch's. Copies of copies are one group; which of a group stays is the one with the smallest id, whatever the order
of the manifests. A text of fewer words than an n-gram is compared with none.

A shard of the pass becomes an array of 15 numbers a cut. The join sorts one column at a time, so that memory holds
8 bytes a cut for the column, its order and the groups, not the texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from egrecho_inner.data.cuts.line_pass import Row
from egrecho_inner.data.cuts.selection import text_of
from egrecho_inner.errors import extra_missing
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.runtime.passes import Shard
from egrecho_inner.text.shingles import fold, hash_ngrams, hash_tokens, tokens_of

NONE = np.uint64(0)
"""In place of a hash where a text is not compared."""


@dataclass(frozen=True)
class Near:
    """How near-duplicates are found."""

    ngram: int = 5
    bands: int = 14
    rows: int = 8
    """Hashes of a band."""


@dataclass(frozen=True)
class SignTask:
    """The work of one shard."""

    shard: Shard
    lines: tuple[bytes, ...]
    settings: Mapping[str, Any]
    """The fields of `Near`."""


def sign_shard(task: SignTask) -> int:
    """Write the hashes of a shard's texts; return their number."""
    near = Near(**task.settings)
    table = np.stack([signature(orjson.loads(line), near) for line in task.lines])
    with atomic_file(task.shard.path("npy")) as file:
        np.lib.format.write_array(file, table, allow_pickle=False)
    return task.shard.finish([], [])


def signature(row: Row, near: Near) -> np.ndarray:
    """Return what a cut's text is compared by: a hash of all of it, and one for each band, (1 + bands,) uint64."""
    words = tokens_of(text_of(row, None))
    found = np.full(1 + near.bands, NONE, dtype=np.uint64)
    if len(words) < near.ngram:
        return found
    tokens, whole = hash_tokens(words), hash_tokens([" ".join(words)])
    ngrams = np.unique(hash_ngrams(tokens, near.ngram))
    sketch = empty_sketch(near.bands * near.rows).copy()
    sketch.update_batch((ngrams & np.uint64(0xFFFFFFFF)).tolist())
    bands = sketch.hashvalues.astype(np.uint64).reshape(near.bands, near.rows)
    found[:] = np.concatenate([whole, fold(bands)]) | np.uint64(1)  # never NONE
    return found


@cache
def empty_sketch(size: int) -> Any:
    """Return a MinHash of nothing; its permutations are drawn once, from a seed that is part of the result.

    Raises:
        MachineError: datasketch is not installed.
    """
    try:
        from datasketch import MinHash  # an optional package
    except ImportError as error:
        raise extra_missing("datasketch", "web") from error
    return MinHash(num_perm=size, seed=1, hashfunc=int)


def find_copies(files: Sequence[Path], ids: Sequence[str] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group cuts that are copies of each other.

    Args:
        files: Arrays of the shards, in order.
        ids: Of all cuts.

    Returns:
        For each cut the position of the one that stays of its group (N,), its own where it stays; and whether its text
        equals that one's (N,).
    """
    tables = [np.load(path, mmap_mode="r") for path in files]
    count = sum(map(len, tables))
    groups = np.arange(count)
    exact = np.concatenate([table[:, 0] for table in tables])
    for column in range(tables[0].shape[1]):
        values = exact if column == 0 else np.concatenate([table[:, column] for table in tables])
        order = np.argsort(values, kind="stable")
        same = np.flatnonzero((values[order][1:] == values[order][:-1]) & (values[order][1:] != NONE))
        for place in same:
            unite(groups, int(order[place]), int(order[place + 1]))
    roots = np.array([root(groups, place) for place in range(count)])
    keeper: dict[int, int] = {}
    for place in np.flatnonzero(np.bincount(roots, minlength=count)[roots] > 1):
        best = keeper.setdefault(int(roots[place]), int(place))
        if ids[place] < ids[best]:
            keeper[int(roots[place])] = int(place)
    kept = np.arange(count)
    for place in np.flatnonzero(np.bincount(roots, minlength=count)[roots] > 1):
        kept[place] = keeper[int(roots[place])]
    return kept, exact == exact[kept]


def root(groups: np.ndarray, place: int) -> int:
    """Return the cut that stands for a group while groups grow."""
    while groups[place] != place:
        groups[place] = groups[groups[place]]
        place = int(groups[place])
    return place


def unite(groups: np.ndarray, one: int, other: int) -> None:
    """Make one group of those of two cuts."""
    one, other = root(groups, one), root(groups, other)
    if one != other:
        groups[max(one, other)] = min(one, other)
