"""Two results on the same utterances: scored alike, put in the same order, compared by the paired bootstrap.

In: two result folders. Out: a `Comparison`. Refused: different utterances, different references.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from egrecho_inner.errors import DataError
from egrecho_inner.results.folder import ResultFolder
from egrecho_inner.results.rescored import Rescored, rescore
from egrecho_inner.text.alignment import Metric
from egrecho_inner.text.bootstrap import Difference, bootstrap_interval, paired_bootstrap
from egrecho_inner.text.scoring import match_ids

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Comparison:
    """A result B against a result A, utterance by utterance."""

    a: Rescored
    b: Rescored
    """Its utterances in the same order."""
    intervals: tuple[Interval, Interval]
    """Of the error rates of A and B."""
    difference: Difference | None
    """Error rate of B minus that of A; None without a reference token."""

    @property
    def change(self) -> np.ndarray:
        """Errors of B minus errors of A for each utterance, (N,)."""
        return self.b.score.utterance_errors - self.a.score.utterance_errors

    @property
    def most_changed(self) -> list[int]:
        """Positions of the utterances whose errors changed, the largest change first."""
        change = np.abs(self.change)
        return [int(row) for row in np.argsort(-change, kind="stable") if change[row]]

    @property
    def wins(self) -> tuple[int, int, int]:
        """Utterances in which B has fewer errors than A, as many, and more."""
        return tuple(int(part.sum()) for part in (self.change < 0, self.change == 0, self.change > 0))

    @property
    def verdict(self) -> str:
        """What B is against A: better, worse, within noise, or undecided."""
        if self.difference is None:
            return "undecided"
        if not self.difference.significant:
            return "within noise"
        return "better" if self.difference.delta < 0 else "worse"


def compare_results(
    first: ResultFolder,
    second: ResultFolder,
    normalizer: str,
    metric: Metric,
    *,
    groups: Sequence[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Score two results alike and compare them, in the order of the first.

    Args:
        first: A, the baseline.
        second: B.
        normalizer: Of both.
        metric: Of both.
        groups: A label for each utterance of A, its speaker for instance; the bootstrap draws whole groups.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
    """
    a = rescore(first, normalizer, metric)
    return compare_scored(a, in_order_of(a, rescore(second, normalizer, metric)), groups, draws, seed)


def compare_scored(
    a: Rescored, b: Rescored, groups: Sequence[str] | None = None, draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare two results whose utterances are in the same order; see `compare_results`."""
    intervals = tuple(bootstrap_interval(each.score.counts, draws, seed, groups) for each in (a, b))
    return Comparison(a, b, intervals, paired_bootstrap(a.score.counts, b.score.counts, draws, seed, groups))


def in_order_of(first: Rescored, second: Rescored) -> Rescored:
    """Return the second result with its utterances in the order of the first.

    Raises:
        DataError: It has other utterances, or other references.
    """
    refs = {key: ref for key, ref, _ in first.pairs}
    match_ids(refs, {key: hyp for key, _, hyp in second.pairs})
    place = {key: row for row, (key, _, _) in enumerate(second.pairs)}
    different = [key for key, ref in refs.items() if second.pairs[place[key]][1] != ref]
    if different:
        raise DataError(
            f"{second.folder}: {len(different)} references differ from those of {first.folder} "
            f"({', '.join(different[:5])}); expected the same test set"
        )
    return second.select(place[key] for key in refs)
