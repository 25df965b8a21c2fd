"""Uncertainty of a corpus error rate: the percentile bootstrap over utterances (Bisani and Ney, 2004).

In: the counts of each utterance; out: an interval, or for two systems on the same utterances the interval of their
difference. Utterances with equal counts are drawn as one multinomial category, which is the same distribution and makes
10,000 draws of 10,000 utterances a matter of a second. Give `groups` (speakers) where utterances are not independent:
then whole groups are drawn.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from egrecho_inner.text.scoring import REF

_DRAWS_AT_ONCE = 2_000_000  # numbers in memory at a time: 16 MB


@dataclass(frozen=True)
class Difference:
    """Error rate of B minus that of A, with the 95 % interval of the paired bootstrap."""

    delta: float
    low: float
    high: float
    probability_b_better: float
    """Share of the draws in which B has fewer errors than A; ties count half."""

    @property
    def significant(self) -> bool:
        return self.low > 0 or self.high < 0


def bootstrap_interval(
    counts: np.ndarray,
    n: int = 10_000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the (low, high) of the corpus error rate, None where there is no reference token.

    Args:
        counts: (N, 4) `Score.counts`.
        n: Number of draws.
        seed: Same seed, same interval.
        groups: One label for each utterance; draws whole groups.
        level: Share of the draws inside the interval.
    """
    table = _sum_groups(np.stack([counts[:, :REF].sum(axis=1), counts[:, REF]], axis=1), groups)
    sums = _draw(table, n, seed)
    sums = sums[sums[:, 1] > 0]
    if not len(sums):
        return None
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_counts(counts: np.ndarray, n: int = 10_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and reference tokens of each draw, both (n,), for averages over several sets.

    Args:
        counts: (N, 4) `Score.counts`.
        n: Number of draws.
        seed: Different ones for sets whose draws are put together.
    """
    sums = _draw(np.stack([counts[:, :REF].sum(axis=1), counts[:, REF]], axis=1), n, seed)
    return sums[:, 0], sums[:, 1]


def paired_bootstrap(
    a: np.ndarray,
    b: np.ndarray,
    n: int = 10_000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Difference | None:
    """Compare two systems on the same utterances in the same order; None where there is no reference token.

    Args:
        a: (N, 4) `Score.counts` of the first system.
        b: (N, 4) `Score.counts` of the second.
        n: Number of draws.
        seed: Same seed, same answer.
        groups: One label for each utterance; draws whole groups.
    """
    if a.shape != b.shape or (a[:, REF] != b[:, REF]).any():
        raise ValueError("paired bootstrap: the two systems must be scored on the same references in the same order")
    errors = [system[:, :REF].sum(axis=1) for system in (a, b)]
    table = _sum_groups(np.stack([*errors, a[:, REF]], axis=1), groups)
    sums = _draw(table, n, seed)
    sums = sums[sums[:, 2] > 0]
    if not len(sums) or not table[:, 2].sum():
        return None
    deltas = (sums[:, 1] - sums[:, 0]) / sums[:, 2]
    low, high = np.quantile(deltas, [0.025, 0.975])
    better = float((deltas < 0).mean() + 0.5 * (deltas == 0).mean())
    delta = (table[:, 1].sum() - table[:, 0].sum()) / table[:, 2].sum()
    return Difference(float(delta), float(low), float(high), better)


def _sum_groups(table: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """Add up the rows of each group: (N, C) -> (G, C)."""
    if groups is None:
        return table
    if len(groups) != len(table):
        raise ValueError(f"bootstrap: {len(groups)} group labels for {len(table)} utterances")
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(group, len(numbers)) for group in groups]
    sums = np.zeros((len(numbers), table.shape[1]), dtype=table.dtype)
    np.add.at(sums, index, table)
    return sums


def _draw(table: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Draw rows with replacement n times and add each draw up: (N, C) -> (n, C)."""
    if not len(table):
        return np.zeros((0, table.shape[1]))
    rows, multiplicity = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // len(rows))
    parts = [
        rng.multinomial(len(table), multiplicity / len(table), size=min(chunk, n - start)) @ rows
        for start in range(0, n, chunk)
    ]
    return np.concatenate(parts)
