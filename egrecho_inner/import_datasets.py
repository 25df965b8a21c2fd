#!/usr/bin/env python
"""A data set in a form of `datasets`, on disk or on a hub, in; a Kaldi data directory out, for prepare.sh.

    egrecho import-datasets my_audio_folder data/mine/train --language ja

An audio folder (files, and beside them `metadata.csv` or `metadata.jsonl` with `file_name` and a transcript) is read
as it is, without the `datasets` package. Parquet files, what `save_to_disk` wrote, and hub names need that package,
version 4 or 5; audio that has no file of its own is kept in `OUTDIR/audio` as it is. Rows without audio, or whose audio
does not read, go to the ledger `skipped.jsonl`.
"""

import json
import re
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.data.audio.files import probe
from egrecho_inner.data.sources.hub import HubRow, HubSource, read_rows
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.progress import watched
from egrecho_inner.text.languages import language_code

STAGE = "import-datasets"
TEXTS = ("transcription", "text", "sentence", "transcript", "normalized_text")
FILES = ("text", "utt2lang", "utt2spk", "wav.scp")
ORIGIN = "imported.json"


def import_datasets(
    source: str,
    out: str,
    language: str,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    text_column: str | None = None,
    speaker_column: str | None = None,
    audio_column: str | None = None,
    id_column: str | None = None,
    max_skip_ratio: ClosedUnitInterval = 0.01,
) -> None:
    """Import a data set of the `datasets` library, from disk or from a hub, as a Kaldi data directory.

    Args:
        source: A folder, or a hub name such as google/fleurs.
        out: The Kaldi data directory to write, such as data/mine/train.
        language: Of all rows, for utt2lang: code or English name.
        split: Of the data set.
        subset: Configuration of the data set, such as vi_vn.
        revision: Branch, tag or commit of a hub data set.
        text_column: Of the transcript; by default the first there is of transcription, text, sentence, transcript.
        speaker_column: Of the speaker, where one is known.
        audio_column: Of the audio, where there are several.
        id_column: Of the utterance's id; by default the name of its file, or its number.
        max_skip_ratio: Share of the rows that may have no readable audio.
    """
    code, place = language_code(language), Path(out)
    choice = HubSource(source, split, subset, revision, audio_column)
    origin = origin_of(choice)
    check_free(place, origin)
    ledger = Ledger(place / "skipped.jsonl")
    found: dict[str, dict[str, str]] = {}
    for row in watched(read_rows(choice, place / "audio"), what="reading rows"):
        text = " ".join(str(row.columns[text_of(row, text_column, source)] or "").split())
        for column in filter(None, (speaker_column, id_column)):
            if column not in row.columns:
                raise ConfigError(f"{source} has no column '{column}'; it has {', '.join(row.columns)}")
        id = utterance_id(row, id_column)
        if id in found:
            raise DataError(f"{source}: id '{id}' of column {id_column} is there twice; take another --id_column")
        speaker = row.columns.get(speaker_column) if speaker_column else None
        if fault := row.fault or unreadable(row.path):
            ledger.add(id, STAGE, "audio does not read", fault)
            continue
        found[id] = {"wav.scp": str(row.path.resolve()), "text": text, "utt2lang": code}
        if speaker is not None:
            found[id]["utt2spk"] = re.sub(r"\s+", "_", str(speaker))
    total = len(found) + len(ledger.skips)
    ledger.write(STAGE)
    ledger.check_limit(total, max_skip_ratio, source)
    if not found:
        raise DataError(f"{source}: no row has readable audio")
    write_tables(place, found, origin)
    print(f"{out}: {ledger.summary(total, 'rows')}")


import_datasets.positional = ["source", "out"]


def origin_of(choice: HubSource) -> bytes:
    """Describe where rows come from, for the folder that they go to."""
    source = Path(choice.source)
    origin = {"source": str(source.resolve()) if source.is_dir() else choice.source, "subset": choice.subset}
    origin |= {"split": choice.split, "revision": choice.revision}
    return json.dumps(origin, ensure_ascii=False).encode() + b"\n"


def check_free(place: Path, origin: bytes) -> None:
    """Refuse a data directory of another origin: a mixture would have wrong pairs.

    Raises:
        ConfigError: It is one.
    """
    there = (place / ORIGIN).read_bytes() if (place / ORIGIN).is_file() else b""
    if (place / "wav.scp").exists() and there != origin:
        holds = there.decode(errors="replace").strip() or "another data directory"
        raise ConfigError(f"{place} holds {holds}; give each import a folder of its own, or remove this one")


def utterance_id(row: HubRow, column: str | None) -> str:
    """Return the id of a row, which Kaldi's files hold as one word.

    Raises:
        DataError: The column has none for it.
    """
    if column is None:
        return row.id
    value = re.sub(r"\s+", "_", str(row.columns[column] if row.columns[column] is not None else "").strip())
    if not value:
        raise DataError(f"row {row.id}: column {column} is empty; take another --id_column")
    return value


def text_of(row: HubRow, wanted: str | None, source: str) -> str:
    """Return the column of the transcript.

    Raises:
        ConfigError: There is none.
    """
    names = [wanted] if wanted else TEXTS
    found = next((name for name in names if name in row.columns), None)
    if found is None:
        columns = ", ".join(map(str, row.columns))
        raise ConfigError(f"{source} has no column {' or '.join(names)}; give --text_column, one of {columns}")
    return found


def unreadable(path: Path) -> str:
    """Return why a file is no audio, or nothing."""
    try:
        probe(path)
    except DataError as error:
        return str(error)
    return ""


def write_tables(place: Path, found: dict[str, dict[str, str]], origin: bytes) -> None:
    """Write the data directory, sorted as Kaldi sorts; without wav.scp, which comes last, it is none."""
    for name in reversed(FILES):
        (place / name).unlink(missing_ok=True)
    with atomic_file(place / ORIGIN) as file:
        file.write(origin)
    for name in FILES:
        rows = {id: values[name] for id, values in found.items() if name in values}
        if rows:
            with atomic_file(place / name) as file:
                file.writelines(f"{id} {rows[id]}".rstrip().encode() + b"\n" for id in sorted(rows))


if __name__ == "__main__":
    run(import_datasets)
