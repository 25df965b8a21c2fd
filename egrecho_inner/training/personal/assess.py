"""Evaluations of a personal run: a model on a set of cuts into a result folder, and two of them against each other.

In: a model folder, cuts. Out: `results.json`, `hyps.jsonl` and `errs.txt` as `egrecho eval` writes them, so that its
tools read them; a `Verdict` from the paired bootstrap; the one-line texts that the specification's archive holds.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.hypotheses import remove_logs
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.resumable import Decoder, choose_place, decode_set
from egrecho_inner.decoding.transcribe import transcribe
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.results.folder import write_result
from egrecho_inner.results.references import read_references
from egrecho_inner.results.scores import score_set, summarize
from egrecho_inner.runtime import files
from egrecho_inner.text.alignment import align, tokenize
from egrecho_inner.text.bootstrap import bootstrap_interval, paired_bootstrap
from egrecho_inner.text.scoring import Score, match_ids, percent, score
from egrecho_inner.training.personal.options import Scoring


@dataclass(frozen=True)
class Assessed:
    """One model on one set."""

    folder: Path
    score: Score
    pairs: list[tuple[str, str, str]]
    """(id, reference, hypothesis), normalised."""
    normalizer: str


@dataclass(frozen=True)
class Verdict:
    """What the tuned model is against the base."""

    word: Literal["better", "worse", "within noise", "undecided", "forgets"]
    delta: float | None = None
    """Error rate of the tuned model minus that of the base."""
    low: float | None = None
    high: float | None = None

    @property
    def adopted(self) -> bool:
        """Whether the tuned model takes the base's place."""
        return self.word == "better"


def assess(
    model: Path | str, cuts: Path, folder: Path, language: str | None, scoring: Scoring, device: str = "auto"
) -> Assessed:
    """Decode a set and score it; what the folder holds of the same model and cuts is not decoded again."""
    decoder = Decoder(str(model), DecodeOptions(language=language), choose_place(device, "auto"))
    index = CutIndex(cuts)
    references = read_references(index, None, decoder.transcriber.model.config.num_mel_bins, language)
    decoded = decode_set(decoder, index, references, folder)
    scored = score_set(references, decoded.hypotheses, scoring.normalizer, scoring.metric)
    summary = summarize(scored, list(decoded.hypotheses.values()), decoded.wall) | decoded.facts
    write_result(folder, references, decoded.hypotheses, scored, summary)
    remove_logs(folder)
    return Assessed(folder, scored.score, scored.pairs, scored.normalizer.name)


def detect_language(model: str, cuts: Path, most: int = 30) -> tuple[str | None, float, int]:
    """Let a model detect the language of some recordings.

    Returns:
        The code that is found most (None for a model that knows only English), its share, of how many recordings.
    """
    index = CutIndex(cuts)
    place = choose_place("auto", "auto")
    whisper = load_model(model, place.dtype).to(place.device).eval()
    positions = range(min(most, len(index)))
    found = transcribe(whisper, load_processor(model), index, DecodeOptions(max_new_tokens=1), positions=positions)
    ((code, count),) = Counter(each.language for each in found).most_common(1)
    return code, count / len(positions), len(positions)


def judge(base: Sequence[Assessed], tuned: Sequence[Assessed]) -> Verdict:
    """Compare the tuned model with the base on the same utterances, of one set or of several together."""
    before, after = (pool(parts) for parts in (base, tuned))
    match_ids({name: "" for name in before.ids}, {name: "" for name in after.ids})
    order = {name: row for row, name in enumerate(after.ids)}
    counts = after.counts[[order[name] for name in before.ids]]
    found = paired_bootstrap(before.counts, counts)
    if found is None:
        return Verdict("undecided")
    word: Any = "within noise" if not found.significant else "better" if found.delta < 0 else "worse"
    return Verdict(word, found.delta, found.low, found.high)


def about(parts: Sequence[Assessed]) -> dict[str, Any]:
    """Return the figures of one set, or of several together."""
    found = pool(parts)
    return {
        "error_rate": found.error_rate,
        "interval": bootstrap_interval(found.counts),
        "utterances": found.utterances,
        "words": found.total,
    }


def pool(parts: Iterable[Assessed]) -> Score:
    """Score several sets as one."""
    parts = list(parts)
    return score([pair for part in parts for pair in part.pairs], parts[0].score.metric)


def compare_words(base: Sequence[Assessed], tuned: Sequence[Assessed]) -> dict[str, Any]:
    """Return what each model made of every recording, aligned with the reference, the worst of the base first."""
    after = {id: hyp for part in tuned for id, _, hyp in part.pairs}
    rows = [
        {"uid": id.rpartition("-")[0], "text": ref, "base": words(ref, hyp, part), "tuned": words(ref, after[id], part)}
        for part in base
        for id, ref, hyp in part.pairs
    ]
    return {"recordings": sorted(rows, key=lambda row: -row["base"]["errors"])}


def words(ref: str, hyp: str, part: Assessed) -> dict[str, Any]:
    """Align a hypothesis with its reference: pairs of words, or of characters, equal or not."""
    pairs = align(tokenize(ref, part.score.metric), tokenize(hyp, part.score.metric))
    return {"text": hyp, "errors": sum(left != right for left, right in pairs), "words": pairs}


def write_text(path: Path, name: str, sets: dict[str, Assessed]) -> None:
    """Write the error rates of one model for people, a line for each set."""
    lines = [f"model: {name}"]
    for part, found in sets.items():
        figures, metric = about([found]), found.score.metric.upper()
        low, high = figures["interval"] or (None, None)
        lines.append(
            f"{part}: {metric} {percent(figures['error_rate'])} % (95 % interval {percent(low)} to {percent(high)}), "
            f"{figures['utterances']} utterances, {figures['words']} reference tokens, normaliser {found.normalizer}"
        )
    files.write_text(path, "\n".join(lines) + "\n")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file of figures and paths."""
    files.write_json(path, content, indent=2, default=plain)


def plain(value: Any) -> Any:
    """Turn numpy's numbers and paths into what JSON knows."""
    return value.item() if isinstance(value, np.generic) else str(value)
