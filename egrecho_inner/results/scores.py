"""From references and hypotheses to the content of results.json and hyps.jsonl.

In: the references of a manifest, one hypothesis for each. Out: a score after normalisation and without it, the same by
language, dicts that JSON can hold. Words and characters are never added up: a set of languages that are scored
differently has one score over all with what suits all (marks-preserving, characters), and each language its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lhotse.cut import Cut

from egrecho_inner.data.audio.store import check_stored
from egrecho_inner.data.cuts.fields import cut_language, reference_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.errors import DataError
from egrecho_inner.results.errs import write_errs
from egrecho_inner.results.hypothesis import Hypothesis, to_row
from egrecho_inner.runtime.files import to_line, write_json, write_jsonl
from egrecho_inner.text.bootstrap import bootstrap_interval
from egrecho_inner.text.normalize import Normalizer, default_metric, default_normalizer, get_normalizer
from egrecho_inner.text.scoring import Score, match_ids, score

Metric = Literal["wer", "cer"]

RTF_DEFINITION = (
    "wall time of decoding over audio time: reading audio, features, waiting and search included; loading the model, "
    "one warm-up utterance and scoring excluded; the slowest process where there are several"
)


@dataclass(frozen=True)
class Reference:
    """What should be recognised in a cut."""

    id: str
    text: str
    language: str | None
    """Code; None where the cut names none."""
    speaker: str | None
    duration: float


@dataclass(frozen=True)
class Scored:
    """A set with its scores."""

    pairs: list[tuple[str, str, str]]
    """(id, reference, hypothesis), normalised."""
    score: Score
    raw: Score
    """The same metric without normalisation."""
    normalizer: Normalizer
    by_language: dict[str, Score]
    """Each language scored as suits it; "?" where cuts name none."""
    normalizers: dict[str, Normalizer]


def read_references(cuts: CutIndex, limit: int | None, n_mels: int, language: str | None) -> list[Reference]:
    """Read the references of a manifest, and check its cuts before a model is loaded.

    Args:
        cuts: The manifest.
        limit: Take the first so many.
        n_mels: What stored features must have.
        language: Of cuts that name none.

    Raises:
        DataError: Cuts have no transcript, a language is unknown, stored features do not fit.
    """
    found: dict[str, Reference] = {}
    silent = []
    for position in range(len(cuts) if limit is None else min(limit, len(cuts))):
        cut = cuts[position]
        if cut.has_features:
            check_stored(cut, n_mels)
        if (reference := reference_in(cut, language)) is None:
            silent.append(cut.id)
        else:
            found[cut.id] = reference
    if silent:
        raise DataError(
            f"{cuts.path}: {len(silent)} of {position + 1} cuts have no transcript ({', '.join(silent[:5])}); "
            "expected supervisions that all have a text, empty where nothing is spoken"
        )
    return list(found.values())


def reference_in(cut: Cut, language: str | None) -> Reference | None:
    """Return what should be recognised in a cut; None where nobody transcribed it.

    Args:
        cut: The cut.
        language: Where it names none.

    Raises:
        DataError: Whisper does not know its language, or there are several.
    """
    code = cut_language(cut) or language
    text = reference_of(cut).text
    speaker = cut.supervisions[0].speaker if cut.supervisions else None
    return None if text is None else Reference(cut.id, text, code, speaker, cut.duration)


def score_set(
    references: Sequence[Reference],
    hypotheses: Mapping[str, Hypothesis],
    normalizer: str,
    metric: Literal["auto", "wer", "cer"],
) -> Scored:
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
        (key, functions[ref.language](said), functions[ref.language](heard))
        for ref, (key, said, heard) in zip(references, texts, strict=True)
    ]
    normalizers = {code: get_normalizer(own_normalizers[code], code) for code in groups}
    by_language = {
        code or "?": score(
            [(key, normalizers[code](said), normalizers[code](heard)) for key, said, heard in groups[code]],
            own_metrics[code],
        )
        for code in sorted(groups, key=str)
    }
    return Scored(
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


def results(scored: Scored, hypotheses: Sequence[Hypothesis], wall: float, draws: int = 10_000) -> dict[str, Any]:
    """Return results.json: first the six keys of old, then what they rest on.

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
        "normalizer": named(scored.normalizer),
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
        "long_form": sum(each.parts > 1 for each in hypotheses),
    }
    if len(scored.by_language) > 1:
        found["languages"] = {
            code: {**part.as_dict(), "metric": part.metric, "normalizer": named(scored.normalizers[code])}
            for code, part in scored.by_language.items()
        }
    return found


def named(normalizer: Normalizer) -> dict[str, str]:
    """Return what says which normaliser it was."""
    return {"name": normalizer.name, "version": normalizer.version}


def hypothesis_rows(references: Sequence[Reference], hypotheses: Mapping[str, Hypothesis]) -> list[dict[str, Any]]:
    """Return the lines of hyps.jsonl, in the order of the manifest, texts as they were written and recognised."""
    rows = []
    for ref in references:
        row = to_row(hypotheses[ref.id])
        decoded_as, text = row.pop("language"), row.pop("text")
        first = {"id": row.pop("id"), "ref": ref.text, "hyp": text, "language": ref.language, "speaker": ref.speaker}
        rows.append({**first, "duration": row.pop("duration"), "decoded_as": decoded_as, **row})
    return rows


def write_set(folder: Path, scored: Scored, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write what belongs to one set, results.json last: where it is, all is."""
    (folder / "results.json").unlink(missing_ok=True)
    write_jsonl(folder / "hyps.jsonl", map(to_line, rows))
    write_errs(folder / "errs.txt", scored.pairs, scored.score, f"normaliser {scored.normalizer.name}")
    write_json(folder / "results.json", summary, indent=2)


def from_hypothesis_row(row: Mapping[str, Any]) -> Hypothesis:
    """Make a hypothesis from a line of hyps.jsonl."""
    left_out = {"ref", "hyp", "language", "speaker", "decoded_as"}
    kept = {key: value for key, value in row.items() if key not in left_out}
    return Hypothesis(text=row["hyp"], language=row["decoded_as"], tokens=[], **kept)
