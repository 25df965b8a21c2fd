"""Compare two results on the same utterances: is B better than A, worse, or is the difference within noise?

    egrecho compare exp/a/eval exp/b/eval
    egrecho compare exp/a/eval exp/b/eval --by speaker --json

In: two folders that `egrecho eval` wrote (`results.json`; `hyps.jsonl` with raw `ref` and `hyp` of each utterance).
Both are scored here, with one normaliser, so that the answer rests on the texts and not on two numbers. Out: a report
on stdout. Refused: different utterances, different references, different normalisers or metrics.
"""

import json
import logging
from collections.abc import Iterator
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import NonNegativeInt, PositiveInt, Seed
from egrecho_inner.errors import DataError
from egrecho_inner.results.comparison import Comparison, compare_results
from egrecho_inner.results.errs import UNITS, inline
from egrecho_inner.results.folder import ResultFolder, read_result
from egrecho_inner.text.alignment import align, tokenize
from egrecho_inner.text.normalize import load_normalizer
from egrecho_inner.text.scoring import percent

logger = logging.getLogger(__name__)


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
    normalizer_file: str = "",
) -> None:
    """Compare result B with result A: better, worse, or within noise.

    Args:
        a: Result folder of the first system, the baseline.
        b: Result folder of the second system.
        normalizer: Score both with this normaliser instead of the one in their results.json.
        metric: Score both with this metric instead of the one in their results.json.
        by: What the bootstrap draws; take speaker where few speakers have many utterances each.
        draws: Number of bootstrap draws.
        seed: Seed of the draws; same seed, same answer.
        top: How many of the most changed utterances to show.
        json: Print one JSON object instead of text.
        normalizer_file: Python file with a function normalize(text) or normalize(text, language), used instead; on the
            command line only, for it is run.
    """
    if normalizer_file:
        normalizer = load_normalizer(normalizer_file, normalizer or "auto")
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
    for each in (comparison.a, comparison.b):
        if each.stored_rate is not None:
            rates = each.stored_rate, each.score.error_rate
            logger.warning("%s: results.json says %.5f, its hyps.jsonl scores %.5f here", each.folder, *rates)
    print(as_json(comparison, top) if json else "\n".join(report(comparison, top)))


compare.positional = ["a", "b"]
compare.command_line_only = ["normalizer_file"]


def report(comparison: Comparison, top: int) -> Iterator[str]:
    """Yield the lines of the text report."""
    base, systems = comparison.a, (comparison.a, comparison.b)
    name, units = UNITS[base.score.metric]
    for letter, each, interval in zip("AB", systems, comparison.intervals, strict=True):
        within = f", 95 % interval {percent(interval[0])} to {percent(interval[1])}" if interval else ""
        yield f"{letter}  {name} {percent(each.score.error_rate)}{within}  {each.folder}"
    yield (
        f"{base.score.utterances} utterances, {base.score.total} reference {units}, "
        f"normaliser {base.normalizer} ({base.version})"
    )
    yield ""
    yield verdict_line(comparison)
    wins, ties, losses = comparison.wins
    yield f"By utterance: B wins {wins}, ties {ties}, loses {losses}."
    changed = comparison.most_changed[:top]
    if changed:
        yield from ("", f"The {len(changed)} utterances that changed most (errors of A -> errors of B):")
    glue = "" if base.score.metric == "cer" else " "
    for row in changed:
        before, after = (int(each.score.utterance_errors[row]) for each in systems)
        yield f"{base.score.ids[row]}  {before} -> {after}"
        for letter, each in zip("AB", systems, strict=True):
            ref, hyp = (tokenize(text, base.score.metric) for text in each.pairs[row][1:])
            yield f"  {letter}: {inline(align(ref, hyp), glue)}"


def as_json(comparison: Comparison, top: int) -> str:
    """Return the report as one JSON object, rates as fractions."""
    base, difference = comparison.a, comparison.difference
    summary = {
        "verdict": comparison.verdict,
        "delta": difference and difference.delta,
        "interval": difference and [difference.low, difference.high],
        "probability_b_better": difference and difference.probability_b_better,
        **dict(zip(("wins", "ties", "losses"), comparison.wins, strict=True)),
        "metric": base.score.metric,
        "normalizer": f"{base.normalizer} ({base.version})",
    }
    for letter, each, interval in zip("ab", (comparison.a, comparison.b), comparison.intervals, strict=True):
        summary[letter] = {"folder": each.folder, **each.score.as_dict(), "interval": interval}
    summary["changed"] = [
        {
            "id": base.score.ids[row],
            "errors": [int(each.score.utterance_errors[row]) for each in (comparison.a, comparison.b)],
        }
        for row in comparison.most_changed[:top]
    ]
    return json.dumps(summary, indent=2, ensure_ascii=False)


def verdict_line(comparison: Comparison) -> str:
    """Return the verdict as a sentence with its figures."""
    difference = comparison.difference
    if difference is None:
        return "There is no reference to score against: no verdict."
    low, high = (f"{100 * bound:+.2f}" for bound in (difference.low, difference.high))
    figures = f"{100 * difference.delta:+.2f} points, 95 % interval {low} to {high}"
    if comparison.verdict == "within noise":
        return f"The difference is within noise: {figures}."
    base = comparison.a.score.error_rate
    relative = f", {100 * difference.delta / base:+.1f} % relative" if base else ""
    return f"B is {comparison.verdict} than A: {figures}{relative}."


def _agreed(first: ResultFolder, second: ResultFolder, key: str) -> str:
    """Return the normaliser or metric that both results name."""
    values = []
    for each in (first, second):
        value = each.name_of(key)
        if not value:
            raise DataError(f"{each.path}/results.json: no {key}; give --{key}")
        values.append(value)
    if values[0] != values[1]:
        raise DataError(
            f"{key}: {first.path} was scored with {values[0]}, {second.path} with {values[1]}; "
            f"expected the same, give --{key} to score both alike"
        )
    return values[0]


def _speakers(result: ResultFolder) -> list[str]:
    """Return the speaker of each utterance."""
    missing = [row["id"] for row in result.rows if not row.get("speaker")]
    if missing:
        raise DataError(
            f"{result.path}/hyps.jsonl: {len(missing)} utterances have no speaker ({', '.join(missing[:5])}); "
            "draw --by utterance"
        )
    return [row["speaker"] for row in result.rows]


if __name__ == "__main__":
    run(compare)
