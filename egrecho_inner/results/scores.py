"""Scores of a test set, from its references and hypotheses to the content of `results.json`.

In: the references of a manifest, one hypothesis for each. Out: a score after normalisation and without it, the same by
language, and the summary that JSON can hold. Words and characters are never added up: a set of languages that are
scored differently has one score over all with what suits all (marks-preserving, characters), and each language its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from egrecho_inner.results.dropped import dropped_speech
from egrecho_inner.results.utterance import Hypothesis, Reference
from egrecho_inner.text.alignment import Metric
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.normalize import Normalizer, default_metric, default_normalizer, get_normalizer
from egrecho_inner.text.scoring import Score, match_ids, score

RTF_DEFINITION = (
    "wall time of decoding over audio time: reading audio, features, waiting and search included; loading the model, "
    "one warm-up utterance and scoring excluded; the slowest process where there are several"
)


@dataclass(frozen=True)
class SetScores:
    """The scores of a test set: over all, by language, and the normalised texts they count."""

    pairs: list[tuple[str, str, str]]
    """(id, reference, hypothesis), normalised."""
    score: Score
    raw: Score
    """The same metric without normalisation."""
    normalizer: Normalizer
    by_language: dict[str, Score]
    """Each language scored as suits it; "?" where cuts name none."""
    normalizers: dict[str, Normalizer]


def score_set(
    references: Sequence[Reference],
    hypotheses: Mapping[str, Hypothesis],
    normalizer: str,
    metric: Literal["auto", "wer", "cer"],
) -> SetScores:
    """Score a set over all and by language.

    Args:
        references: What should be recognised.
        hypotheses: What was, by id.
        normalizer: A name, or "auto" for the language's own.
        metric: "auto" for the language's own.
    """
    texts = match_ids({ref.id: ref.text for ref in references}, {key: hyp.text for key, hyp in hypotheses.items()})
    groups: dict[str | None, list[tuple[str, str, str]]] = {}
    for ref, triple in zip(references, texts, strict=True):
        groups.setdefault(ref.language, []).append(triple)
    own_normalizers = {code: default_normalizer(code) if normalizer == "auto" else normalizer for code in groups}
    own_metrics: dict[str | None, Metric] = {
        code: default_metric(code) if metric == "auto" else metric for code in groups
    }
    name = only(own_normalizers.values(), "marks-preserving")
    overall = overall_metric(groups, metric)
    functions = {code: get_normalizer(name, code) for code in groups}
    pairs = [
        (key, functions[each.language](ref), functions[each.language](hyp))
        for each, (key, ref, hyp) in zip(references, texts, strict=True)
    ]
    normalizers = {code: get_normalizer(own_normalizers[code], code) for code in groups}
    by_language = {
        code or "?": score(
            [(key, normalizers[code](ref), normalizers[code](hyp)) for key, ref, hyp in groups[code]],
            own_metrics[code],
        )
        for code in sorted(groups, key=str)
    }
    return SetScores(
        pairs,
        score(pairs, overall),
        score(texts, overall),
        next(iter(functions.values())),
        by_language,
        {code or "?": each for code, each in normalizers.items()},
    )


def overall_metric(languages: Iterable[str | None], metric: Literal["auto", "wer", "cer"] = "auto") -> Metric:
    """Return what a set is scored by as one: the metric that all its languages have, else characters.

    Args:
        languages: Codes; None where a cut names none.
        metric: "auto" for the languages' own.
    """
    return metric if metric != "auto" else only([default_metric(code) for code in languages], "cer")


def only(values: Sequence[str], otherwise: str) -> str:
    """Return the one value all have, else another."""
    different = set(values)
    return different.pop() if len(different) == 1 else otherwise


def summarize(scored: SetScores, hypotheses: Sequence[Hypothesis], wall: float, draws: int = 10_000) -> dict[str, Any]:
    """Return the content of results.json: the six keys of the specification, then what they rest on.

    Args:
        scored: The scores.
        hypotheses: All of the set.
        wall: Seconds that decoding took.
        draws: Of the bootstrap.
    """
    audio = sum(each.duration for each in hypotheses)
    interval = bootstrap_interval(scored.score.counts, draws)
    found = {
        **scored.score.as_dict(),
        "RTF": round(wall / audio, 5),
        "metric": scored.score.metric,
        "normalizer": describe(scored.normalizer),
        "raw": scored.raw.as_dict(),
        "interval": interval and [round(bound, 5) for bound in interval],
        "interval_definition": f"95 %, percentile bootstrap over utterances, {draws} draws",
        "RTFx": round(audio / wall, 2),
        "RTF_definition": RTF_DEFINITION,
        "utterances": len(hypotheses),
        "audio_seconds": round(audio, 3),
        "decode_seconds": round(wall, 6),
        "empty": sum(not each.text for each in hypotheses),
        "truncated": sum(each.truncated for each in hypotheses),
        "looped": sum(each.looped for each in hypotheses),
        "dropped_speech": len(dropped_speech(hypotheses)),
        "long_form": sum(each.parts > 1 for each in hypotheses),
    }
    if len(scored.by_language) > 1:
        found["languages"] = {
            code: {**part.as_dict(), "metric": part.metric, "normalizer": describe(scored.normalizers[code])}
            for code, part in scored.by_language.items()
        }
    return found


def describe(normalizer: Normalizer) -> dict[str, str]:
    """Return name and version of a normaliser, as results.json holds them."""
    return {"name": normalizer.name, "version": normalizer.version}
