"""Compare two results on the same utterances: is B better than A, worse, or is the difference within noise?

In: two folders that `egrecho eval` wrote (`results.json`; `hyps.jsonl` with raw `ref` and `hyp` of each utterance).
Both are scored here, with one normaliser, so that the answer rests on the texts and not on two numbers. Out: a report
on stdout. Refused: different utterances, different references, different normalisers or metrics.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egrecho_inner.config import run
from egrecho_inner.config_types import NonNegativeInt, PositiveInt, Seed
from egrecho_inner.errors import DataError
from egrecho_inner.results.errs import UNITS, inline
from egrecho_inner.runtime.files import read_lines
from egrecho_inner.text.alignment import Metric, align, tokenize
from egrecho_inner.text.bootstrap import Difference, bootstrap_interval, paired_bootstrap
from egrecho_inner.text.normalize import get_normalizer
from egrecho_inner.text.scoring import Score, match_ids, percent, score

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a result folder holds."""

    folder: str
    results: dict[str, Any]
    """results.json"""
    rows: dict[str, dict[str, Any]]
    """hyps.jsonl, by id."""

    def texts(self, field: str, normalizer: str) -> dict[str, str]:
        """Return the normalised `ref` or `hyp` of each utterance."""
        return {key: get_normalizer(normalizer, row.get("language"))(row[field]) for key, row in self.rows.items()}


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances in the same order."""

    folders: tuple[str, str]
    normalizer: str
    pairs: tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]
    """(id, reference, hypothesis) of A and of B, normalised."""
    scores: tuple[Score, Score]
    intervals: tuple[tuple[float, float] | None, tuple[float, float] | None]
    difference: Difference | None

    @property
    def change(self) -> np.ndarray:
        """Errors of B minus errors of A for each utterance, (N,)."""
        return self.scores[1].utterance_errors - self.scores[0].utterance_errors

    @property
    def verdict(self) -> str:
        """Say in words what B is against A."""
        if self.difference is None:
            return "undecided"
        if not self.difference.significant:
            return "within noise"
        return "better" if self.difference.delta < 0 else "worse"


def compare(
    a: str,
    b: str,
    normalizer: str | None = None,
    metric: Literal["wer", "cer"] | None = None,
    by: Literal["utterance", "speaker"] = "utterance",
    draws: PositiveInt = 10_000,
    seed: Seed = 0,
    top: NonNegativeInt = 10,
    json: bool = False,
) -> None:
    """Tell whether result B is better than result A, worse, or within noise.

    Args:
        a: Result folder of the first system, the baseline.
        b: Result folder of the second system.
        normalizer: Score both with this normaliser instead of the one in their results.json.
        metric: Score both with this metric instead of the one in their results.json.
        by: What the bootstrap draws; take speaker where few speakers say many utterances each.
        draws: Number of bootstrap draws.
        seed: Seed of the draws; same seed, same answer.
        top: How many of the most changed utterances to show.
        json: Print one JSON object instead of text.
    """
    first, second = read_result(a), read_result(b)
    comparison = compare_results(
        first,
        second,
        normalizer or _agreed(first, second, "normalizer"),
        metric or _agreed(first, second, "metric"),
        groups=_speakers(first) if by == "speaker" else None,
        draws=draws,
        seed=seed,
    )
    print(as_json(comparison, top) if json else "\n".join(report(comparison, top)))


compare.positional = ["a", "b"]


def compare_results(
    first: Result,
    second: Result,
    normalizer: str,
    metric: Metric,
    *,
    groups: list[str] | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Score two results alike and draw the paired bootstrap."""
    refs = first.texts("ref", normalizer)
    pairs = tuple(match_ids(refs, result.texts("hyp", normalizer)) for result in (first, second))
    _check_references(refs, second.texts("ref", normalizer), second.folder)
    scores = tuple(score(triples, metric) for triples in pairs)
    for result, rescored in zip((first, second), scores, strict=True):
        _warn_of_another_score(result, rescored, normalizer)
    return Comparison(
        folders=(first.folder, second.folder),
        normalizer=f"{normalizer} ({get_normalizer(normalizer).version})",
        pairs=pairs,
        scores=scores,
        intervals=tuple(bootstrap_interval(part.counts, draws, seed, groups) for part in scores),
        difference=paired_bootstrap(scores[0].counts, scores[1].counts, draws, seed, groups),
    )


def read_result(folder: str | Path) -> Result:
    """Read a result folder."""
    summary, hyps = Path(folder) / "results.json", Path(folder) / "hyps.jsonl"
    for path in (summary, hyps):
        if not path.is_file():
            raise DataError(f"{path}: no such file; give a folder in which `egrecho eval` has finished")
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_lines(hyps), start=1):
        try:
            row = json.loads(line)
            key, _, _ = row["id"], row["ref"], row["hyp"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{hyps}:{number}: expected JSON with id, ref and hyp, got {line[:60]}") from error
        if key in rows:
            raise DataError(f"{hyps}:{number}: id {key} occurs twice; decode the set again")
        rows[key] = row
    try:
        return Result(str(folder), json.loads(summary.read_text(encoding="utf-8")), rows)
    except ValueError as error:
        raise DataError(f"{summary}: not JSON ({error}); evaluate again") from error


def report(comparison: Comparison, top: int) -> Iterator[str]:
    """Yield the lines of the text report."""
    name, units = UNITS[comparison.scores[0].metric]
    for letter, folder, part, interval in zip(
        "AB", comparison.folders, comparison.scores, comparison.intervals, strict=True
    ):
        within = f", 95 % interval {percent(interval[0])} to {percent(interval[1])}" if interval else ""
        yield f"{letter}  {name} {percent(part.error_rate)}{within}  {folder}"
    part = comparison.scores[0]
    yield f"{part.utterances} utterances, {part.total} reference {units}, normaliser {comparison.normalizer}"
    yield ""
    yield _verdict_line(comparison)
    wins, ties, losses = _wins(comparison)
    yield f"By utterance: B wins {wins}, ties {ties}, loses {losses}."
    changed = _most_changed(comparison, top)
    if changed:
        yield from ("", f"The {len(changed)} utterances that changed most (errors of A -> errors of B):")
    glue = "" if part.metric == "cer" else " "
    for row in changed:
        before, after = (int(system.utterance_errors[row]) for system in comparison.scores)
        yield f"{part.ids[row]}  {before} -> {after}"
        for letter, pairs in zip("AB", comparison.pairs, strict=True):
            _, ref, hyp = pairs[row]
            yield f"  {letter}: {inline(align(tokenize(ref, part.metric), tokenize(hyp, part.metric)), glue)}"


def as_json(comparison: Comparison, top: int) -> str:
    """Return the report as one JSON object, rates as fractions."""
    difference = comparison.difference
    summary = {
        "verdict": comparison.verdict,
        "delta": difference and difference.delta,
        "interval": difference and [difference.low, difference.high],
        "probability_b_better": difference and difference.probability_b_better,
        **dict(zip(("wins", "ties", "losses"), _wins(comparison), strict=True)),
        "metric": comparison.scores[0].metric,
        "normalizer": comparison.normalizer,
    }
    for letter, folder, part, interval in zip(
        "ab", comparison.folders, comparison.scores, comparison.intervals, strict=True
    ):
        summary[letter] = {"folder": folder, **part.as_dict(), "interval": interval}
    summary["changed"] = [
        {"id": comparison.scores[0].ids[row], "errors": [int(part.utterance_errors[row]) for part in comparison.scores]}
        for row in _most_changed(comparison, top)
    ]
    return json.dumps(summary, indent=2, ensure_ascii=False)


def _verdict_line(comparison: Comparison) -> str:
    difference = comparison.difference
    if difference is None:
        return "There is no reference to score against: nothing can be said."
    low, high = (f"{100 * bound:+.2f}" for bound in (difference.low, difference.high))
    figures = f"{100 * difference.delta:+.2f} points, 95 % interval {low} to {high}"
    if comparison.verdict == "within noise":
        return f"The difference is within noise: {figures}."
    base = comparison.scores[0].error_rate
    relative = f", {100 * difference.delta / base:+.1f} % relative" if base else ""
    return f"B is {comparison.verdict} than A: {figures}{relative}."


def _wins(comparison: Comparison) -> tuple[int, int, int]:
    """Count the utterances in which B has fewer errors than A, as many, and more."""
    return tuple(int(part.sum()) for part in (comparison.change < 0, comparison.change == 0, comparison.change > 0))


def _most_changed(comparison: Comparison, top: int) -> list[int]:
    change = np.abs(comparison.change)
    order = np.argsort(-change, kind="stable")[: max(top, 0)]
    return [int(row) for row in order if change[row]]


def _agreed(first: Result, second: Result, key: str) -> str:
    """Return the normaliser or metric that both results name."""
    values = []
    for result in (first, second):
        value = _named(result, key)
        if not value:
            raise DataError(f"{result.folder}/results.json: no {key}; give --{key}")
        values.append(value)
    if values[0] != values[1]:
        raise DataError(
            f"{key}: {first.folder} was scored with {values[0]}, {second.folder} with {values[1]}; "
            f"expected the same, give --{key} to score both alike"
        )
    return values[0]


def _named(result: Result, key: str) -> str | None:
    """Read a name from results.json, where it may stand alone or as {"name": ..., "version": ...}."""
    value = result.results.get(key)
    return value.get("name") if isinstance(value, dict) else value


def _check_references(refs: dict[str, str], others: dict[str, str], folder: str) -> None:
    different = [key for key, ref in refs.items() if others[key] != ref]
    if different:
        raise DataError(
            f"{folder}: {len(different)} references differ from those of the first result "
            f"({', '.join(different[:5])}); expected the same test set"
        )


def _warn_of_another_score(result: Result, rescored: Score, normalizer: str) -> None:
    """Tell when the stored rate is not that of the stored texts: another version, or an edited file."""
    stored, rate = result.results.get("error_rate"), rescored.error_rate
    alike = (_named(result, "normalizer"), _named(result, "metric")) == (normalizer, rescored.metric)
    if stored is None or rate is None or not alike:
        return
    if abs(stored - rate) > 1e-5:
        log.warning("%s: results.json says %.5f, its hyps.jsonl scores %.5f here", result.folder, stored, rate)


def _speakers(result: Result) -> list[str]:
    """Return the speaker of each utterance."""
    missing = [key for key, row in result.rows.items() if not row.get("speaker")]
    if missing:
        raise DataError(
            f"{result.folder}/hyps.jsonl: {len(missing)} utterances have no speaker ({', '.join(missing[:5])}); "
            "draw --by utterance"
        )
    return [row["speaker"] for row in result.rows.values()]


if __name__ == "__main__":
    run(compare)
