"""Rows of a speech data set with their audio as files: the layouts of the `datasets` library, on disk and on a hub.

In: a folder or a name. Out: a `HubRow` for each utterance, whose id is its own. An audio folder with `metadata.csv`,
`.jsonl` or `.parquet` is read without the library, its files where they lie. All else goes through it: parquet files,
`save_to_disk`, hub names, as a stream. That audio is never decoded but kept as it is, in files named after their
content: whatever was written before, a row gets its own sound. Left out: what libsndfile does not read (AAC, WebM).
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import soundfile

from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.runtime.files import atomic_file

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SAVED = ("dataset_dict.json", "state.json")  # of save_to_disk: several splits, or one
OTHER_FILES = (".parquet", ".arrow", ".json", ".jsonl", ".tar", ".csv")


@dataclass(frozen=True)
class HubRow:
    """One utterance."""

    id: str
    path: Path | None
    """Its audio; None where `fault` has the reason."""
    columns: dict[str, Any]
    """All others."""
    fault: str = ""


@dataclass(frozen=True)
class HubSource:
    """Which rows of which data set."""

    source: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    audio_column: str | None = None

    @property
    def name(self) -> str:
        """Name it for ids: source, subset and split."""
        parts = [Path(self.source).name, self.subset, self.split]
        return "-".join(re.sub(r"[^\w.-]+", "_", part) for part in parts if part)


def read_rows(choice: HubSource, audio: Path) -> Iterator[HubRow]:
    """Yield the rows of a data set.

    Args:
        choice: Which.
        audio: Folder for audio that is in no file of its own.

    Raises:
        ConfigError: No such source, subset, split or column; or it takes the library, which is not installed.
        DataError: The metadata do not read.
        MachineError: The hub does not answer any more.
    """
    source = Path(choice.source)
    for folder in (source / choice.split, source):
        if any((folder / name).is_file() for name in TABLES):
            return _read_folder(folder, None if folder != source else choice.split)
    if source.is_dir() and not any(path.suffix in OTHER_FILES for path in source.rglob("*")):
        raise DataError(f"{source} has neither {' nor '.join(TABLES)}; expected a data set in a form of `datasets`")
    return _read_library(choice, audio / choice.name)


def _read_folder(folder: Path, split: str | None) -> Iterator[HubRow]:
    """Yield the rows of an audio folder; where its metadata cover several splits, by subfolder, those of one."""
    table = next(folder / name for name in TABLES if (folder / name).is_file())
    listed: dict[str, int] = {}
    rows = []
    for number, row in _read_table(table):
        try:
            name = str(row.pop("file_name"))
        except (KeyError, AttributeError, TypeError) as error:
            raise DataError(f"{table}:{number}: no row with file_name ({error!r}); expected a file's path") from error
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{table}:{number}: {name} lies outside the folder; move it inside")
        if name in listed:
            raise DataError(f"{table}:{number}: {name} is in line {listed[name]}, too; keep the right one")
        listed[name] = number
        rows.append((Path(name), row))
    parts = {path.parts[0] for path, _ in rows if len(path.parts) > 1}
    if split in parts:
        rows = [(path.relative_to(split), row) for path, row in rows if path.parts[0] == split]
        folder = folder / split
    elif split and (split != "train" or parts & {"test", "validation"}):
        raise ConfigError(f"{table} has no split '{split}'; it has the folders {', '.join(sorted(parts)) or 'none'}")
    taken: set[str] = set()
    for path, row in rows:
        yield HubRow(_free_id(path, taken), folder / path, row)


def _read_table(table: Path) -> Iterator[tuple[int, Any]]:
    """Yield number and content of the rows of an audio folder's metadata: of lines, or of rows where it has none."""
    if table.suffix == ".parquet":
        _library(str(table))  # comes with pyarrow
        import pyarrow.parquet

        yield from enumerate(pyarrow.parquet.read_table(table).to_pylist())
        return
    with open(table, encoding="utf-8-sig", newline="") as file:
        if table.suffix == ".csv":
            reader = csv.DictReader(file)
            yield from ((reader.line_num, row) for row in reader)
            return
        for number, line in enumerate(file, 1):
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise DataError(f"{table}:{number}: not JSON ({error}); each line is one row") from error


def _free_id(path: Path, taken: set[str]) -> str:
    """Return a Kaldi id for a file: its path without what Kaldi cannot hold, numbered where two become one."""
    name, number = re.sub(r"[^\w.-]+", "_", "_".join(path.with_suffix("").parts)), 1
    while (id := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    taken.add(id)
    return id


def _read_library(choice: HubSource, audio: Path) -> Iterator[HubRow]:
    """Yield the rows that the library gives, with ids of their place in the split."""
    datasets = _library(choice.source)
    rows, number = _open(choice), 0
    features = getattr(rows, "features", None) or {}
    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    for name in columns:
        rows = rows.cast_column(name, datasets.Audio(decode=False))
    try:
        for number, row in enumerate(rows):
            column = _audio_column(choice, columns or [name for name in row if _is_audio(row[name])], row)
            path, fault = _store(row.pop(column), audio)
            yield HubRow(f"{choice.name}-{number:07d}", path, row, fault)
    except OSError as error:
        raise MachineError(f"{choice.source}: no more rows after {number:,} ({_line(error)}); repeat") from error
    except ImportError as error:  # of builders that make examples one by one, such as webdataset
        raise ConfigError(f"{choice.source}: {_line(error)} (pip install 'torchcodec<0.14', with FFmpeg)") from error
    except ValueError as error:  # of pyarrow: a damaged file
        raise DataError(f"{choice.source}: row {number:,} does not read ({_line(error)}); fetch it again") from error


def _library(source: str) -> ModuleType:
    """Import the library, which is optional and takes seconds."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"'{source}' is no audio folder with {' or '.join(TABLES[:2])}; any other data set needs the extra hub: "
            "pip install 'datasets>=4,<6'"
        ) from error
    return datasets


def _open(choice: HubSource) -> Iterable[dict[str, Any]]:
    """Open one split."""
    datasets = _library(choice.source)
    source = Path(choice.source)
    try:
        if not any((source / name).is_file() for name in SAVED):
            name = str(source.resolve()) if source.is_dir() else choice.source
            return datasets.load_dataset(
                name, choice.subset, split=choice.split, revision=choice.revision, streaming=True
            )
        saved = datasets.load_from_disk(choice.source)
    except ConnectionError as error:
        raise MachineError(f"{choice.source}: {_line(error)}; is it a folder here, or is the network off?") from error
    except (OSError, ValueError, RuntimeError) as error:
        advice = "; it is a script, but the hub has its rows: --revision refs/convert/parquet"
        advice = advice if "scripts are no longer supported" in str(error) else ""
        raise ConfigError(
            f"{choice.source}, subset {choice.subset}, split {choice.split} (--subset, --split): {_line(error)}{advice}"
        ) from error
    parts = saved if isinstance(saved, dict) else {str(saved.split or choice.split): saved}
    if choice.split not in parts:
        raise ConfigError(f"{choice.source} has no split '{choice.split}'; it has {', '.join(parts)} (--split)")
    return parts[choice.split]


def _audio_column(choice: HubSource, columns: list[str], row: dict[str, Any]) -> str:
    """Return the one column that holds audio, or the one asked for."""
    if choice.audio_column in columns:
        return choice.audio_column
    if len(columns) == 1 and choice.audio_column is None:
        return columns[0]
    which = f"the audio columns {', '.join(columns)}; choose with --audio_column" if columns else "no audio column"
    raise ConfigError(f"{choice.source} has {which}; its columns are {', '.join(row)}")


def _is_audio(value: Any) -> bool:
    return isinstance(value, dict) and ("bytes" in value or "array" in value)


def _store(value: dict[str, Any] | None, folder: Path) -> tuple[Path | None, str]:
    """Return the file of an audio value, written where it has none; or why it cannot be."""
    value = value or {}
    data, path = value.get("bytes"), value.get("path")
    if data is None and value.get("array") is not None:
        data = io.BytesIO()
        soundfile.write(data, value["array"], value["sampling_rate"], format="WAV", subtype="FLOAT")
        data = data.getvalue()
    if data is None and path is None:
        return None, "no audio in the row"
    if data is None and "://" not in path:
        return Path(path), ""
    if data is None:
        from datasets.utils.file_utils import xopen  # reads paths inside of remote archives, too

        with xopen(path, "rb") as file:
            data = file.read()
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            ending = {"WAVEX": "wav"}.get(file.format, file.format.lower())
    except soundfile.LibsndfileError as error:
        return None, f"{len(data):,} bytes that libsndfile cannot read ({error}); transcode the data set first"
    name = hashlib.blake2b(data, digest_size=16).hexdigest()
    target = folder / name[:2] / f"{name}.{ending}"
    if not target.is_file():
        with atomic_file(target) as file:
            file.write(data)
    return target, ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
