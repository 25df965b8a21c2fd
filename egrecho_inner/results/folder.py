"""Result folders of `egrecho eval`: the one place that writes and reads them.

A folder of one set holds `results.json` (rates and what they rest on), `hyps.jsonl` (a line for each utterance: id,
ref, hyp, language, speaker, duration, decoded_as, signs of a failed decoding), `hyps.csv` of its first fields, and
`errs.txt`. A folder of several sets holds one such folder for each, `table.md`, and a `results.json` over all.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egrecho_inner.config_names import manifest_name
from egrecho_inner.data.sources.folder import escape
from egrecho_inner.errors import DataError
from egrecho_inner.results.dropped import dropped_speech
from egrecho_inner.results.errs import write_errs
from egrecho_inner.results.scores import SetScores
from egrecho_inner.results.tables import averages, sets_table
from egrecho_inner.results.utterance import Hypothesis, Reference, to_row
from egrecho_inner.runtime.files import read_lines, to_line, write_json, write_jsonl, write_text
from egrecho_inner.text.scoring import pool

SUMMARY, HYPOTHESES, ERRS, TABLE, CSV = "results.json", "hyps.jsonl", "errs.txt", "table.md", "hyps.csv"
CSV_COLUMNS = ("id", "ref", "hyp", "language", "speaker", "duration")
SIX_KEYS = ("error_rate", "ins_rate", "del_rate", "sub_rate", "total", "RTF")
"""The keys that the specification asks of results.json."""
OWN_FIELDS = ("dropped", "ref", "hyp", "language", "speaker", "decoded_as")
"""Fields of hyps.jsonl that are not those of a `Hypothesis`, or under another name."""


@dataclass(frozen=True)
class ResultFolder:
    """The result of one set as it was read from disk."""

    path: str
    summary: dict[str, Any]
    """results.json"""
    rows: list[dict[str, Any]]
    """hyps.jsonl"""

    def name_of(self, key: str) -> str | None:
        """Return the name that results.json has under `normalizer` or `metric`."""
        return name_in(self.summary, key)

    @property
    def manifest(self) -> str | None:
        """The manifest that was decoded, where results.json names it."""
        data = self.summary.get("data")
        return data.get("path") if isinstance(data, dict) else None


def name_in(summary: Mapping[str, Any], key: str) -> str | None:
    """Read a name that may stand alone, or as {"name": ..., "version": ...}."""
    value = summary.get(key)
    return value.get("name") if isinstance(value, dict) else value


def write_result(
    folder: Path,
    references: Sequence[Reference],
    hypotheses: Mapping[str, Hypothesis],
    scored: SetScores,
    summary: Mapping[str, Any],
) -> None:
    """Write the result of one set; results.json comes last, so a folder that has it is complete.

    Args:
        folder: Where to.
        references: Of the set, in the order of its manifest.
        hypotheses: One for each reference, by id.
        scored: Their scores.
        summary: The content of results.json.
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    rows = hypothesis_rows(references, hypotheses)
    write_jsonl(folder / HYPOTHESES, map(to_line, rows))
    write_text(folder / CSV, hypothesis_csv(rows))
    write_errs(folder / ERRS, scored.pairs, scored.score, f"normaliser {scored.normalizer.name}")
    write_json(folder / SUMMARY, summary, indent=2)


def write_overview(folder: Path, summaries: Mapping[str, Mapping[str, Any]], scored: Mapping[str, SetScores]) -> str:
    """Write table.md and results.json over several sets; return the table.

    Args:
        folder: That holds the folders of the sets.
        summaries: The results.json of each set, by its name.
        scored: The scores of each set.
    """
    by_language = {name: each.by_language for name, each in scored.items()}
    together: dict[str, Any] = dict.fromkeys(SIX_KEYS)  # all None where words and characters would be added up
    if len({each.score.metric for each in scored.values()}) == 1:
        together |= pool(each.score for each in scored.values()).as_dict()
    wall, audio = (sum(each[key] for each in summaries.values()) for key in ("decode_seconds", "audio_seconds"))
    together["RTF"] = round(wall / audio, 5)
    table = sets_table(by_language)
    write_text(folder / TABLE, f"{table}\n")
    sets = {name: {key: each[key] for key in (*SIX_KEYS, "metric", "normalizer")} for name, each in summaries.items()}
    write_json(folder / SUMMARY, together | {"averages": averages(by_language), "sets": sets}, indent=2)
    return table


def hypothesis_rows(references: Sequence[Reference], hypotheses: Mapping[str, Hypothesis]) -> list[dict[str, Any]]:
    """Return the lines of hyps.jsonl, in the order of the references, texts as they were written and recognised."""
    rows = []
    dropped = dropped_speech([hypotheses[ref.id] for ref in references])
    for ref in references:
        row = to_row(hypotheses[ref.id]) | {"dropped": ref.id in dropped}
        decoded_as, text = row.pop("language"), row.pop("text")
        first = {"id": row.pop("id"), "ref": ref.text, "hyp": text, "language": ref.language, "speaker": ref.speaker}
        rows.append({**first, "duration": row.pop("duration"), "decoded_as": decoded_as, **row})
    return rows


def hypothesis_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what people look at in a spreadsheet, texts that one would run with an apostrophe before them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        values = ("" if row[name] is None else row[name] for name in CSV_COLUMNS)
        writer.writerow([escape(value) if isinstance(value, str) else value for value in values])
    return out.getvalue()


def to_hypothesis(row: Mapping[str, Any]) -> Hypothesis:
    """Make the hypothesis of a line of hyps.jsonl that `egrecho eval` wrote."""
    kept = {key: value for key, value in row.items() if key not in OWN_FIELDS}
    return Hypothesis(text=row["hyp"], language=row["decoded_as"], tokens=[], **kept)


def read_result(folder: str | Path) -> ResultFolder:
    """Read the result of one set.

    Raises:
        DataError: A file is missing or broken, an id occurs twice, or the folder holds several sets.
    """
    summary = read_summary(folder)
    if "sets" in summary and not Path(folder, HYPOTHESES).is_file():
        names = ", ".join(str(Path(folder, name)) for name in summary["sets"])
        raise DataError(f"{folder} holds several sets; give one of them: {names}")
    return ResultFolder(str(folder), summary, read_rows(folder))


def read_sets(folder: str | Path) -> dict[str, ResultFolder]:
    """Read all sets of a folder by name: of the folder itself, its manifest's; of folders in it, theirs.

    Raises:
        DataError: There is no result, or one is broken.
    """
    folder = Path(folder)
    places = [path for path in (folder, *sorted(folder.glob("*/"))) if is_result(path)]
    found = {path: read_result(path) for path in places}
    if not found:
        raise DataError(f"{folder} holds no results of egrecho eval ({SUMMARY} beside {HYPOTHESES}); evaluate first")
    return {
        path.name if path != folder else manifest_name(result.manifest or path): result
        for path, result in found.items()
    }


def is_result(folder: str | Path) -> bool:
    """Return whether an evaluation of one set has finished in a folder."""
    return Path(folder, SUMMARY).is_file() and Path(folder, HYPOTHESES).is_file()


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Read the results.json of a folder, of one set or of several.

    Raises:
        DataError: It is missing or broken.
    """
    path = Path(folder, SUMMARY)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder in which `egrecho eval` has finished")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); evaluate again") from error
    if not isinstance(summary, dict):
        raise DataError(f"{path}: expected an object; evaluate again")
    return summary


def read_rows(folder: str | Path) -> list[dict[str, Any]]:
    """Read the hyps.jsonl of a folder.

    Raises:
        DataError: It is missing, broken or empty, or an id occurs twice.
    """
    path = Path(folder, HYPOTHESES)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a folder in which `egrecho eval` has finished")
    rows: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(read_lines(path), start=1):
        try:
            row = json.loads(line)
            if not all(isinstance(row[key], str) for key in ("id", "ref", "hyp")):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: expected JSON with id, ref and hyp, got {line[:60]}") from error
        if row["id"] in rows:
            raise DataError(f"{path}:{number}: id {row['id']} occurs twice; decode the set again")
        rows[row["id"]] = row
    if not rows:
        raise DataError(f"{path} is empty; evaluate again")
    return list(rows.values())
