"""Corpus error rates: errors of all utterances over reference tokens of all utterances, none left out.

In: (id, reference, hypothesis), already normalised; out: a `Score` with the counts of each utterance, from which
`text/bootstrap.py` takes the uncertainty. An empty reference counts its insertions. A set without any reference token
has no rate (None), rather than zero or infinity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from egrecho_inner.errors import DataError
from egrecho_inner.text.alignment import Metric, count_errors, tokenize

INS, DEL, SUB, REF = range(4)  # columns of `Score.counts`


@dataclass(frozen=True, eq=False)
class Score:
    """Errors of a set of utterances."""

    metric: Metric
    ids: tuple[str, ...] = field(repr=False)
    counts: np.ndarray = field(repr=False)
    """(N, 4) int64, by utterance: insertions, deletions, substitutions, reference tokens."""

    @property
    def utterances(self) -> int:
        return len(self.ids)

    @property
    def ins(self) -> int:
        return int(self.counts[:, INS].sum())

    @property
    def dels(self) -> int:
        return int(self.counts[:, DEL].sum())

    @property
    def subs(self) -> int:
        return int(self.counts[:, SUB].sum())

    @property
    def errors(self) -> int:
        return self.ins + self.dels + self.subs

    @property
    def total(self) -> int:
        """Reference tokens: the denominator of every rate."""
        return int(self.counts[:, REF].sum())

    @property
    def correct(self) -> int:
        return self.total - self.dels - self.subs

    @property
    def wrong_utterances(self) -> int:
        return int(self.utterance_errors.astype(bool).sum())

    @property
    def utterance_errors(self) -> np.ndarray:
        """Errors of each utterance, (N,)."""
        return self.counts[:, :REF].sum(axis=1)

    @property
    def error_rate(self) -> float | None:
        return self._rate(self.errors)

    @property
    def ins_rate(self) -> float | None:
        return self._rate(self.ins)

    @property
    def del_rate(self) -> float | None:
        return self._rate(self.dels)

    @property
    def sub_rate(self) -> float | None:
        return self._rate(self.subs)

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the first five keys of results.json, rates as fractions with five digits (None without references)."""
        rates = {name: getattr(self, name) for name in ("error_rate", "ins_rate", "del_rate", "sub_rate")}
        return {k: None if v is None else round(v, 5) for k, v in rates.items()} | {"total": self.total}

    def select(self, keep: Iterable[int]) -> "Score":
        """Return the score of some of the utterances, by their position."""
        rows = list(keep)
        return Score(self.metric, tuple(self.ids[row] for row in rows), self.counts[np.array(rows, dtype=np.int64)])

    def _rate(self, count: int) -> float | None:
        return count / self.total if self.total else None


def score(pairs: Iterable[tuple[str, str, str]], metric: Metric = "wer") -> Score:
    """Score (id, reference, hypothesis) triples that are already normalised."""
    ids, rows = [], []
    for utterance, reference, hypothesis in pairs:
        ref = tokenize(reference, metric)
        ids.append(utterance)
        rows.append((*count_errors(ref, tokenize(hypothesis, metric)), len(ref)))
    return Score(metric, tuple(ids), np.array(rows, dtype=np.int64).reshape(-1, 4))


def pool(scores: Iterable[Score]) -> Score:
    """Join several sets into one, as if their utterances had been scored together."""
    scores = list(scores)
    metrics = {part.metric for part in scores}
    if len(metrics) != 1:
        raise DataError(f"pool: word and character error rates cannot be pooled, got {sorted(metrics) or 'no set'}")
    ids = tuple(name for part in scores for name in part.ids)
    return Score(scores[0].metric, ids, np.concatenate([part.counts for part in scores]))


def percent(rate: float | None) -> str:
    """Write a rate as a percentage with two digits, "n/a" where there is none."""
    return "n/a" if rate is None else f"{100 * rate:.2f}"


def match_ids(refs: Mapping[str, str], hyps: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Pair references and hypotheses by id, in the order of the references; every id must be on both sides."""
    missing = [name for name in refs if name not in hyps]
    extra = [name for name in hyps if name not in refs]
    if missing or extra:
        raise DataError(
            f"hypotheses: {_some(missing)} missing, {_some(extra)} without a reference; "
            f"expected exactly the {len(refs)} reference ids; decode the set again"
        )
    return [(name, refs[name], hyps[name]) for name in refs]


def _some(names: list[str]) -> str:
    return f"{len(names)} ids ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" if names else "0 ids"
