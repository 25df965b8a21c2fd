"""Lhotse Shar as it lies on disk: shards of cuts, and tar files with their audio, read side by side.

In: folders with `cuts.N.jsonl[.gz]`, `recording.N.tar` and perhaps other fields. Out: the cuts with their audio in
memory, in the order of the shards. Everything in a line or a member of a tar passes the scan of manifests
(`check_line`) before Lhotse sees it; no member is written anywhere, whatever its name. A tar must have the audio
of just its shard's cuts, in their order: Lhotse's own reader ends a shard where the shorter of the two ends.
Left out: stored features and arrays; fields of plain values (`NAME.N.jsonl`) are read.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from lhotse import AudioSource, Recording
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from egrecho_inner.data.cuts.make import check_line
from egrecho_inner.errors import DataError

FILE = re.compile(r"(?P<field>[^.]+)\.(?P<number>\d+)\.(?P<kind>jsonl|jsonl\.gz|tar|tar\.gz)")
READERS = {"shard_origin", "shar_epoch"}
"""What Lhotse's reader notes on a cut: of a reading, not of the cut."""
AGAIN = "copy it again, or write the shards again"


@dataclass(frozen=True)
class SharFiles:
    """The files of one shard."""

    cuts: Path
    audio: Path
    fields: tuple[Path, ...] = ()
    """Of plain values, by field."""


def find_shards(folder: str | Path) -> list[SharFiles]:
    """Return the shards of a folder in their order.

    Raises:
        DataError: It is not one of Shar, or shards of some field are missing.
    """
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(Path(folder).iterdir()) if Path(folder).is_dir() else ():
        if found := FILE.fullmatch(path.name):
            files.setdefault(found["field"], {})[found["number"]] = path
    cuts = files.pop("cuts", {})
    if not cuts or not files.get("recording"):
        raise DataError(f"{folder} is no Lhotse Shar folder with audio; expected cuts.*.jsonl.gz and recording.*.tar")
    for name, paths in files.items():
        if paths.keys() != cuts.keys():
            lone = ", ".join(sorted(paths.keys() ^ cuts.keys())[:5])
            both = f"{len(cuts)} shards of cuts, {len(paths)} of {name}"
            raise DataError(f"{folder}: {both} (not both: {lone}); copy all of them, or write them again")
    audio = files.pop("recording")
    plain = [paths for paths in files.values() if all(".jsonl" in path.name for path in paths.values())]
    return [SharFiles(cuts[number], audio[number], tuple(paths[number] for paths in plain)) for number in cuts]


def read_shard(shard: SharFiles) -> Iterator[Cut]:
    """Yield the cuts of a shard with their audio.

    Raises:
        DataError: A file is damaged or refused, or the tar and the cuts do not belong together.
    """
    audio, fields = read_tar(shard.audio), [read_raw(path) for path in shard.fields]
    with closing(audio):
        for number, line in enumerate(read_raw(shard.cuts), 1):
            where = f"{shard.cuts}:{number}"
            values = [read_value(next(lines, b""), path) for lines, path in zip(fields, shard.fields, strict=True)]
            cut = make_cut(line, where, values)
            name, recording = next(audio, ("", None))
            if recording is None or name != cut.id:
                found = f"has the audio of {name!r} there" if name else f"ends after {number - 1} of its recordings"
                raise DataError(f"{shard.audio} {found}, where {where} is {cut.id!r}; {AGAIN}")
            cut.recording = recording
            yield cut
        if extra := next(audio, None):
            raise DataError(f"{shard.audio} goes on with {extra[0]!r} behind the last of {shard.cuts}; {AGAIN}")


def read_raw(path: Path) -> Iterator[bytes]:
    """Yield the lines of a `.jsonl` or `.jsonl.gz` file as bytes.

    Raises:
        DataError: It is cut off or damaged.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as lines:
            yield from lines
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is cut off or damaged ({error}); {AGAIN}") from error


def read_value(line: bytes, path: Path) -> tuple[str, str, Any]:
    """Return cut, field and value of a line of a field of plain values.

    Raises:
        DataError: It is not such a line.
    """
    field = path.name.split(".")[0]
    try:
        check_line(line, str(path))
        row = orjson.loads(line)
        return row["cut_id"], field, row.get(field)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} has no line for each cut ({error!r}); {AGAIN}") from error


def make_cut(line: bytes, where: str, values: Iterable[tuple[str, str, Any]] = ()) -> Cut:
    """Make a cut of its line, without what lies in other tars than that of its audio.

    Args:
        line: JSON.
        where: File and line.
        values: Of other fields.

    Raises:
        DataError: It is not a cut, is refused, or a value is another cut's.
    """
    check_line(line, where, in_shar=True)
    row = orjson.loads(line)
    row.pop("features", None)
    custom = {
        name: value for name, value in (row.get("custom") or {}).items() if name not in READERS and not is_stored(value)
    }
    for name, field, value in values:
        if name != row["id"]:
            raise DataError(f"{where}: cut {row['id']}, but field {field} has {name} there; {AGAIN}")
        if value is not None:
            custom[field] = value
    row["custom"] = custom or None
    try:
        return deserialize_item(row)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise DataError(f"{where}: not a cut ({error!r}); {AGAIN}") from error


def is_stored(value: Any) -> bool:
    """Tell whether a value of `custom` stands for an array or a recording in a tar."""
    return isinstance(value, dict) and bool({"storage_type", "array", "sources"} & value.keys())


def read_tar(path: Path) -> Iterator[tuple[str, Recording]]:
    """Yield the recordings of a tar with the ids of their cuts; a member is a file of audio, the next its manifest.

    Raises:
        DataError: It is damaged, or holds something else.
    """
    try:
        with tarfile.open(path, "r|*") as tar:
            members = iter(tar)
            for member in members:
                name, data = read_member(tar, member, path)
                manifest = next(members, None)
                if manifest is None:
                    raise DataError(f"{path} ends after {member.name!r}, without its manifest; {AGAIN}")
                other, meta = read_member(tar, manifest, path)
                if other != name or not manifest.name.endswith(".json"):
                    raise DataError(f"{path}: {manifest.name!r} behind {member.name!r}, expected its manifest; {AGAIN}")
                yield name, make_recording(data, meta, f"{path}, {manifest.name!r}")
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} is cut off or damaged ({error}); {AGAIN}") from error


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> tuple[str, bytes]:
    """Return the id that a member is named after, and its bytes.

    Raises:
        DataError: It is a link, a device or the like.
    """
    if not member.isreg() or member.issparse():
        raise DataError(f"{path}: {member.name!r} is no plain file; {AGAIN}")
    name = PurePosixPath(member.name)
    if name.suffix in (".nodata", ".nometa"):
        raise DataError(f"{path}: cut {name.with_suffix('')} has no audio; leave it out")
    return str(name.parent / name.stem), tar.extractfile(member).read()


def make_recording(data: bytes, meta: bytes, where: str) -> Recording:
    """Make a recording of its manifest whose audio is in memory.

    Raises:
        DataError: The manifest is refused, or is none.
    """
    try:
        check_line(meta, where, in_shar=True)
        recording = deserialize_item(orjson.loads(meta))
        if not isinstance(recording, Recording):
            raise TypeError(f"a {type(recording).__name__}")
        recording.sources = [AudioSource("memory", recording.channel_ids, data)]
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise DataError(f"{where}: not the manifest of a recording ({error!r}); {AGAIN}") from error
    return recording
