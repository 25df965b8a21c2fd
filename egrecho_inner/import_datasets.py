#!/usr/bin/env python
"""A `datasets` audio folder or a Hub data set in, a Kaldi data directory out, which prepare.sh takes from there.

An audio folder (files, and beside them `metadata.csv` or `metadata.jsonl` with `file_name` and a transcript) is read
as it is, without the `datasets` package. A Hub name needs that package (pip install datasets) and writes the audio as
FLAC. Rows without audio or whose audio does not read go to the ledger `skipped.jsonl`.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import soundfile

from egrecho_inner.config import run
from egrecho_inner.data.audio_files import probe
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.languages import language_code

TABLES = ("metadata.csv", "metadata.jsonl")
STAGE = "import-datasets"
TEXTS = ("transcription", "text", "sentence", "transcript", "normalized_text")


def import_datasets(
    source: str,
    outdir: str,
    language: str,
    split: str = "train",
    subset: str | None = None,
    text_column: str | None = None,
    speaker_column: str | None = None,
    max_skip_ratio: float = 0.01,
) -> None:
    """Import a `datasets` audio folder or a Hub data set as a Kaldi data directory.

    Args:
        source: A folder with metadata.csv or metadata.jsonl, or a Hub name such as google/fleurs.
        outdir: The Kaldi data directory to write, such as data/mine/train.
        language: Code of its language, for utt2lang.
        split: Of a Hub data set, or a folder of this name inside the audio folder.
        subset: Configuration of a Hub data set.
        text_column: Of the transcript; by default the first there is of transcription, text, sentence, transcript.
        speaker_column: Of the speaker, where one is known.
        max_skip_ratio: Share of the rows that may have no readable audio.
    """
    code, place = language_code(language), Path(outdir)
    ledger = Ledger(place / "skipped.jsonl")
    folder = find_folder(Path(source), split)
    rows = read_folder(folder) if folder else read_hub(source, subset, split, place / "audio")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        name = key_of(str(row["path"]), found)
        try:
            probe(row["path"])
        except DataError as error:
            ledger.add(name, STAGE, "audio does not read", str(error))
            continue
        text = " ".join(str(row[column_of(row, text_column, source)] or "").split())
        speaker = row.get(speaker_column) if speaker_column else None
        if speaker_column and speaker is None:
            raise ConfigError(f"{source} has no column '{speaker_column}'; it has {', '.join(map(str, row))}")
        found[name] = {"wav.scp": str(Path(row["path"]).resolve()), "text": text, "utt2lang": code}
        if speaker is not None:
            found[name]["utt2spk"] = re.sub(r"\s+", "_", str(speaker))
    total = len(found) + len(ledger.skips)
    ledger.write(STAGE)
    ledger.check_limit(total, max_skip_ratio, source)
    if not found:
        raise DataError(f"{source}: no row has readable audio; is it a folder with {' or '.join(TABLES)}?")
    write_tables(place, found)
    print(f"{outdir}: {ledger.summary(total, 'rows')}")


import_datasets.positional = ["source", "outdir"]


def find_folder(source: Path, split: str) -> Path | None:
    """Return the audio folder of a split, or None where the source is no folder.

    Raises:
        DataError: It is a folder without metadata.
    """
    if not source.is_dir():
        return None
    for folder in (source / split, source):
        if any((folder / name).is_file() for name in TABLES):
            return folder
    raise DataError(f"{source} has neither {' nor '.join(TABLES)}; expected an audio folder of `datasets`")


def read_folder(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of an audio folder, `path` added.

    Raises:
        DataError: A line does not read, or names no file.
    """
    table = next(folder / name for name in TABLES if (folder / name).is_file())
    with open(table, encoding="utf-8-sig", newline="") as file:
        lines: Iterable[Any] = csv.DictReader(file) if table.suffix == ".csv" else file
        for number, line in enumerate(lines, 2 if table.suffix == ".csv" else 1):
            try:
                row = dict(line) if isinstance(line, dict) else json.loads(line)
                name = row.pop("file_name")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{table}:{number}: no row with file_name ({error!r}); mend it") from error
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                raise DataError(f"{table}:{number}: {name} lies outside the folder; move it inside")
            yield {"path": path, **row}


def read_hub(name: str, subset: str | None, split: str, audio: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Hub data set, their audio written as FLAC, `path` added.

    Raises:
        ConfigError: `datasets` is not installed, or the name is no folder and no Hub name.
    """
    try:
        import datasets  # an optional package, and seconds to import
    except ImportError as error:
        raise ConfigError(
            f"'{name}' is no folder here; a Hub data set needs the package datasets: pip install datasets"
        ) from error
    audio.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(datasets.load_dataset(name, subset, split=split, streaming=True)):
        column = next((key for key, value in row.items() if isinstance(value, dict) and "array" in value), None)
        if column is None:
            raise DataError(f"{name}: row {number} has no audio column; it has {', '.join(row)}")
        sound, path = row.pop(column), audio / f"{number:07d}.flac"
        if not path.is_file():  # a killed import goes on
            with atomic_file(path) as file:
                soundfile.write(file, sound["array"], sound["sampling_rate"], format="FLAC")
        yield {"path": path, **row}


def column_of(row: dict[str, Any], wanted: str | None, source: str) -> str:
    """Return the column of the transcript.

    Raises:
        ConfigError: There is none.
    """
    names = [wanted] if wanted else TEXTS
    found = next((name for name in names if name in row), None)
    if found is None:
        raise ConfigError(f"{source} has no column {' or '.join(names)}; give --text_column, one of {', '.join(row)}")
    return found


def key_of(path: str, taken: dict[str, Any]) -> str:
    """Return a Kaldi id for a file: its name without what Kaldi cannot hold, numbered where it comes twice."""
    name = re.sub(r"[^\w.-]+", "_", Path(path).stem)
    number = 1
    while (key := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    return key


def write_tables(place: Path, found: dict[str, dict[str, str]]) -> None:
    """Write the data directory, sorted as Kaldi sorts."""
    for table in ("wav.scp", "text", "utt2lang", "utt2spk"):
        rows = {name: values[table] for name, values in found.items() if table in values}
        if not rows:
            continue
        with atomic_file(place / table) as file:
            for name in sorted(rows):
                file.write(f"{name} {rows[name]}".rstrip().encode() + b"\n")


if __name__ == "__main__":
    run(import_datasets)
