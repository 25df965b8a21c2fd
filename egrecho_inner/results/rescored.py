"""A result folder scored again: the rates rest on its texts, not on the numbers that were stored beside them.

In: a `ResultFolder`. Out: a `Rescored` with normalised texts, aligned counts, signs of a failed decoding.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from egrecho_inner.errors import DataError
from egrecho_inner.results.flags import FLAGS
from egrecho_inner.results.folder import ResultFolder, name_in
from egrecho_inner.text.alignment import Metric
from egrecho_inner.text.normalize import default_normalizer, get_normalizer
from egrecho_inner.text.scoring import Score, score

STORED_DIGITS = 1e-5
"""Rates are stored with five digits: two that differ by more are two rates."""


@dataclass(frozen=True)
class Rescored:
    """A result of one set, scored again."""

    source: ResultFolder
    rows: list[dict[str, Any]]
    """hyps.jsonl, in the order of `pairs`."""
    normalizer: str
    pairs: list[tuple[str, str, str]]
    """(id, reference, hypothesis), normalised."""
    score: Score
    raw: Score
    """The same metric without normalisation."""

    @property
    def folder(self) -> str:
        return self.source.path

    @property
    def summary(self) -> dict[str, Any]:
        """results.json"""
        return self.source.summary

    @property
    def rate(self) -> str:
        """The name of the rate: WER or CER."""
        return self.score.metric.upper()

    @property
    def unit(self) -> str:
        return "characters" if self.score.metric == "cer" else "words"

    @cached_property
    def version(self) -> str:
        """The version of the normaliser that scored here."""
        return get_normalizer(self.normalizer).version

    @property
    def stored_rate(self) -> float | None:
        """The rate in results.json, where it is not that of the texts: an edited file, another version."""
        stored, rate = self.summary.get("error_rate"), self.score.error_rate
        named = self.source.name_of("normalizer"), self.source.name_of("metric")
        if not isinstance(stored, int | float) or rate is None or named != (self.normalizer, self.score.metric):
            return None
        return stored if abs(stored - rate) > STORED_DIGITS else None

    @cached_property
    def flags(self) -> list[list[str]]:
        """The signs of a failed decoding in each utterance, names of `FLAGS`."""
        return [
            [name for name, (_, test) in FLAGS.items() if test(row, counts)]
            for row, counts in zip(self.rows, self.score.counts, strict=True)
        ]

    @cached_property
    def by_language(self) -> dict[str, Score]:
        """The score of each language, by its own normaliser and metric where results.json names them."""
        groups: dict[str, list[int]] = {}
        for row, language in enumerate(self.column("language")):
            groups.setdefault(language or "not given", []).append(row)
        own = self.summary.get("languages") or {}
        return {code: self._as_suits(rows, own.get(code)) for code, rows in groups.items()}

    def _as_suits(self, rows: Sequence[int], own: Mapping[str, Any] | None) -> Score:
        if own is None:
            return self.score.select(rows)
        name = name_in(own, "normalizer") or self.normalizer
        return score(normalize_rows([self.rows[row] for row in rows], name), own["metric"])

    def column(self, name: str) -> list[Any]:
        """Return a field of all rows; None where it is missing."""
        return [row.get(name) for row in self.rows]

    def select(self, keep: Iterable[int]) -> "Rescored":
        """Return some of the utterances, in the order of their positions."""
        keep = list(keep)
        return replace(
            self,
            rows=[self.rows[row] for row in keep],
            pairs=[self.pairs[row] for row in keep],
            score=self.score.select(keep),
            raw=self.raw.select(keep),
        )


def rescore(source: ResultFolder, normalizer: str | None = None, metric: Metric | None = None) -> Rescored:
    """Score a result folder again.

    Args:
        source: What `egrecho eval` wrote.
        normalizer: Instead of the one in results.json.
        metric: Instead of the one in results.json.

    Raises:
        DataError: Neither results.json nor the caller names normaliser and metric.
    """
    name, unit = normalizer or source.name_of("normalizer"), metric or source.name_of("metric")
    if not name or unit not in ("wer", "cer"):
        raise DataError(f"{source.path}/results.json names no normalizer and metric; evaluate again, or give both")
    pairs = normalize_rows(source.rows, name)
    raw = score(normalize_rows(source.rows, "none"), unit)
    return Rescored(source, source.rows, name, pairs, score(pairs, unit), raw)


def normalize_rows(rows: Iterable[Mapping[str, Any]], normalizer: str) -> list[tuple[str, str, str]]:
    """Return (id, reference, hypothesis), both texts normalised.

    Args:
        rows: Of hyps.jsonl.
        normalizer: A name; "auto" is that of each utterance's language.
    """
    triples = []
    for row in rows:
        language = row.get("language")
        normalize = get_normalizer(default_normalizer(language) if normalizer == "auto" else normalizer, language)
        triples.append((row["id"], normalize(row["ref"]), normalize(row["hyp"])))
    return triples
