"""What `egrecho eval` left in a folder, read again and scored: texts are what counts, not the numbers beside them.

In: a folder with `results.json` and `hyps.jsonl`. Out: a `Scored` result: every utterance normalised, aligned counts,
signs of a decoder gone astray. From results.json come the names of normaliser and metric, the rate as it was stored,
speed, and where the model and the cuts lie; from hyps.jsonl id, ref, hyp, and language, speaker, duration,
compression_ratio, looped, truncated, parts where they are there.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines
from egrecho_inner.text.alignment import Metric
from egrecho_inner.text.constants import LOOP_RATIO
from egrecho_inner.text.normalize import get_normalizer
from egrecho_inner.text.repetition import compression_ratio
from egrecho_inner.text.scoring import INS, REF, Score, score

_REPEATED = re.compile(r"(?<!\w)(\w.{0,80}?)(?:\W+\1){3,}(?!\w)", re.DOTALL)  # up to some words, four times in a row
INVENTED = 5  # inserted tokens, and more than the reference has


@dataclass(frozen=True)
class Scored:
    """A result folder, scored."""

    folder: str
    results: dict[str, Any]
    """results.json"""
    rows: list[dict[str, Any]]
    """hyps.jsonl"""
    normalizer: str
    pairs: list[tuple[str, str, str]]
    """(id, reference, hypothesis), normalised, in the order of `rows`."""
    score: Score
    raw: Score
    """The same metric without normalisation."""

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

    @cached_property
    def flags(self) -> list[list[str]]:
        """What is strange about each hypothesis, names of `FLAGS`."""
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
        own = self.results.get("languages") or {}
        return {code: self._as_suits(code, rows, own.get(code)) for code, rows in groups.items()}

    def _as_suits(self, code: str, rows: list[int], own: Mapping[str, Any] | None) -> Score:
        if own is None:
            return self.score.select(rows)
        normalize = get_normalizer(named(own, "normalizer") or self.normalizer, None if code == "not given" else code)
        texts = ((self.rows[row]["id"], self.rows[row]["ref"], self.rows[row]["hyp"]) for row in rows)
        return score(((key, normalize(ref), normalize(hyp)) for key, ref, hyp in texts), own["metric"])

    def column(self, name: str) -> list[Any]:
        """Return a field of all rows; None where it is missing."""
        return [row.get(name) for row in self.rows]


def read_scored(folder: str | Path, normalizer: str | None = None, metric: Metric | None = None) -> Scored:
    """Read and score a result folder.

    Args:
        folder: Where `egrecho eval` wrote.
        normalizer: Instead of the one in results.json.
        metric: Instead of the one in results.json.

    Raises:
        DataError: A file is missing or broken, or the folder holds several sets.
    """
    results = _read_results(Path(folder))
    rows = _read_rows(Path(folder) / "hyps.jsonl")
    name = normalizer or named(results, "normalizer")
    unit = metric or named(results, "metric")
    if not name or unit not in ("wer", "cer"):
        raise DataError(f"{folder}/results.json names no normalizer and metric; evaluate again, or give both")
    triples = [(row["id"], row["ref"], row["hyp"]) for row in rows]
    functions = {row.get("language"): get_normalizer(name, row.get("language")) for row in rows}
    pairs = [
        (key, functions[row.get("language")](ref), functions[row.get("language")](hyp))
        for row, (key, ref, hyp) in zip(rows, triples, strict=True)
    ]
    return Scored(str(folder), results, rows, name, pairs, score(pairs, unit), score(triples, unit))


def named(results: Mapping[str, Any], key: str) -> str | None:
    """Read a name from results.json, where it may stand alone or as {"name": ..., "version": ...}."""
    value = results.get(key)
    return value.get("name") if isinstance(value, dict) else value


def _read_results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder in which egrecho eval has finished")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); evaluate again") from error
    if not isinstance(results, dict):
        raise DataError(f"{path}: expected an object; evaluate again")
    if "sets" in results and not (folder / "hyps.jsonl").is_file():
        names = ", ".join(str(folder / name) for name in results["sets"])
        raise DataError(f"{folder} holds several sets; a page shows one: {names}")
    return results


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder in which egrecho eval has finished")
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
            texts = [row["id"], row["ref"], row["hyp"]]
            if not all(isinstance(each, str) for each in texts):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: expected JSON with id, ref and hyp, got {line[:60]}") from error
        if row["id"] in seen:
            raise DataError(f"{path}:{number}: id {row['id']} occurs twice; decode the set again")
        seen.add(row["id"])
        rows.append(row)
    if not rows:
        raise DataError(f"{path} is empty; evaluate again")
    return rows


def _is_empty(row: Mapping[str, Any], counts: Any) -> bool:
    return not row["hyp"].strip() and counts[REF] > 0


def _is_looped(row: Mapping[str, Any], counts: Any) -> bool:
    hyp = row["hyp"]
    if "looped" in row:
        return bool(row["looped"])
    return compression_ratio(hyp) > LOOP_RATIO or (bool(_REPEATED.search(hyp)) and not _REPEATED.search(row["ref"]))


def _is_on_silence(row: Mapping[str, Any], counts: Any) -> bool:
    return counts[REF] == 0 and counts[INS] > 0


def _is_invented(row: Mapping[str, Any], counts: Any) -> bool:
    return counts[REF] > 0 and counts[INS] >= max(INVENTED, counts[REF] + 1)


def _is_cut_off(row: Mapping[str, Any], counts: Any) -> bool:
    return bool(row.get("truncated"))


def _is_long(row: Mapping[str, Any], counts: Any) -> bool:
    return (row.get("parts") or 1) > 1


Test = Callable[[Mapping[str, Any], Any], bool]
FLAGS: dict[str, tuple[str, Test]] = {
    "empty": ("nothing was recognised where something is said", _is_empty),
    "looped": (
        f"the text repeats itself: it compresses by more than {LOOP_RATIO}, or its words come four times in a row",
        _is_looped,
    ),
    "on silence": ("text where the reference is empty", _is_on_silence),
    "invented": (f"more inserted than the reference has in all, {INVENTED} at least", _is_invented),
    "cut off": ("the limit of tokens came before the end", _is_cut_off),
    "long form": ("over 30 s, recognised in several windows", _is_long),
}
