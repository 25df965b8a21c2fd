"""What is known of a shard without reading it: lengths, texts and ids of its cuts, and where in the tar their audio is.

In: a shard. Out: columns as `CutIndex` has them, in a small file in the folder `NAME.index` beside the folder `NAME` of
the shards (inside, Lhotse would take it for a field of the cuts), so that a start with millions of cuts reads 34 bytes
for each instead of its JSON, and a cut can be read by its position. Without that file, or where a shard is another than
its index was made of, the lines are read and nothing else changes. A compressed tar cannot be entered in the middle.
"""

import hashlib
import json
import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from lhotse.cut import Cut

from egrecho_inner.data.cuts.columns import Columns, Measured, check_unique, measure
from egrecho_inner.data.sources.shar import (
    AGAIN,
    SharFiles,
    make_cut,
    make_recording,
    read_member,
    read_raw,
    read_value,
)
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file

logger = logging.getLogger(__name__)

VERSION = 1
BEGIN = "begins"
COLUMNS = {
    "durations": "<f8",
    "ids": "<u8",
    BEGIN: "<i8",
    "text_bytes": "<i4",
    "teacher_bytes": "<i4",
    "language": "<i2",
}
ROW = np.dtype(list(COLUMNS.items()))
"""Of a cut; `begins` is where its audio's header is in the tar."""


def index_folder(shard: SharFiles) -> Path:
    """Return where the indexes of a shard's folder are."""
    return shard.cuts.parent.with_name(f"{shard.cuts.parent.name}.index")


def index_path(shard: SharFiles, kind: str = "columns") -> Path:
    """Return where something about a shard is kept."""
    return index_folder(shard) / f"{shard.cuts.name.split('.')[1]}.{kind}"


class ShardIndex:
    """Lengths, texts and ids of the cuts of one shard, as `CutIndex` has them, read without the audio."""

    durations: np.ndarray
    text_bytes: np.ndarray
    teacher_bytes: np.ndarray
    ids: np.ndarray
    language: np.ndarray

    def __init__(self, shard: SharFiles):
        self.shard, self.path = shard, shard.cuts
        if not self.read_columns():
            self.read_lines()

    def read_columns(self) -> bool:
        """Take the columns from the file beside the folder, if there is one and it is of this shard."""
        try:
            with open(index_path(self.shard), "rb") as file:
                head = json.loads(file.readline())
                if head["version"] != VERSION or head["sizes"] != sizes(self.shard):
                    logger.warning("%s is not of the shard as it is now; its lines are read instead", file.name)
                    return False
                rows = np.fromfile(file, ROW)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{index_path(self.shard)} does not read ({error}); remove it, or {AGAIN}") from error
        if len(rows) != head["cuts"]:
            raise DataError(f"{index_path(self.shard)} is cut off; remove it, or {AGAIN}")
        for name in Measured._fields:
            setattr(self, name, rows[name])
        self.languages, self.digest = head["languages"], head["digest"]
        self.extents = np.append(rows[BEGIN], head["behind"])
        return True

    def read_lines(self) -> None:
        """Take the columns from the cuts themselves."""
        digest, columns = hashlib.sha256(), Columns()
        for number, line in enumerate(read_raw(self.path), 1):
            digest.update(line)
            columns.add(measure(line, self.path, number, in_shar=True))
        self.languages = columns.languages
        for name, values in columns.arrays().items():
            setattr(self, name, values)
        self.digest = digest.hexdigest()
        check_unique(columns.arrays()["ids"], lambda position: (f"{self.path}:{position + 1}", self[position].id))

    @cached_property
    def extents(self) -> np.ndarray:
        """Where in the tar the audio of each cut begins, and behind the last where it ends (N + 1,)."""
        return find_members(self.shard.audio)

    def write(self) -> None:
        """Write the columns beside the folder of the shards."""
        rows = np.empty(len(self), ROW)
        for name in Measured._fields:
            rows[name] = getattr(self, name)
        rows[BEGIN] = self.extents[:-1]
        head = {"version": VERSION, "cuts": len(self), "sizes": sizes(self.shard), "digest": self.digest}
        head |= {"languages": self.languages, "behind": int(self.extents[-1])}
        with atomic_file(index_path(self.shard)) as file:
            file.write(json.dumps(head).encode() + b"\n" + rows.tobytes())

    def __len__(self) -> int:
        return len(self.durations)

    def __getitem__(self, position: int) -> Cut:
        """Return one cut without its audio."""
        return next(self.select([position]))

    def select(self, positions: Iterable[int]) -> Iterator[Cut]:
        """Yield some cuts without their audio; positions must rise."""
        wanted = iter(positions)
        position = next(wanted, None)
        for number, line in enumerate(read_raw(self.path)):
            if number == position:
                yield make_cut(line, f"{self.path}:{number + 1}")
                position = next(wanted, None)

    def remembered(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array about the cuts that is made once, where the shard has an index beside it."""
        if not index_path(self.shard).is_file():
            return make()
        path = index_path(self.shard, f"{name}-{self.digest[:12]}.npy")
        if not path.is_file():
            with atomic_file(path) as file:
                np.save(file, make())
        return np.load(path)


class ShardReader:
    """The cuts of one shard with their audio, by position; holds the lines, reads the audio of one cut at a time.

    Raises:
        DataError: A file is damaged or refused, or the tar and the cuts do not belong together.
    """

    def __init__(self, index: ShardIndex):
        self.shard, self.extents = index.shard, index.extents
        self.lines = list(read_raw(index.path))
        self.fields = [list(read_raw(path)) for path in self.shard.fields]
        there, wanted = len(self.extents) - 1, len(self.lines)
        if there < wanted:
            where = f"{self.shard.cuts} goes on with line {there + 1}"
            raise DataError(f"{self.shard.audio} ends after {there} of its recordings, where {where}; {AGAIN}")
        if there > wanted:
            raise DataError(f"{self.shard.audio} goes on behind the last of {self.shard.cuts}; {AGAIN}")

    def __getitem__(self, position: int) -> Cut:
        where = f"{self.shard.cuts}:{position + 1}"
        values = [
            read_value(lines[position] if position < len(lines) else b"", path)
            for lines, path in zip(self.fields, self.shard.fields, strict=True)
        ]
        cut = make_cut(self.lines[position], where, values)
        begin, behind = int(self.extents[position]), int(self.extents[position + 1])
        try:
            with open(self.shard.audio, "rb", buffering=0) as file:
                file.seek(begin)
                data = file.read(behind - begin)
            with tarfile.open(fileobj=BytesIO(data), mode="r:") as tar:
                audio, manifest = tar.getmembers()
                name, sound = read_member(tar, audio, self.shard.audio)
                other, meta = read_member(tar, manifest, self.shard.audio)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise DataError(f"{self.shard.audio} is cut off or damaged at byte {begin} ({error}); {AGAIN}") from error
        if name != cut.id or other != name or not manifest.name.endswith(".json"):
            raise DataError(f"{self.shard.audio} has the audio of {name!r} there, where {where} is {cut.id!r}; {AGAIN}")
        cut.recording = make_recording(sound, meta, f"{self.shard.audio}, {manifest.name!r}")
        return cut


def find_members(path: Path) -> np.ndarray:
    """Return where each recording of a tar begins, and behind the last where it ends (N + 1,); reads headers only.

    Raises:
        DataError: It is compressed or damaged.
    """
    if path.suffix == ".gz":
        raise DataError(f"{path} is compressed; training reads single recordings, which wants plain tars: unpack it")
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} is cut off or damaged ({error}); {AGAIN}") from error
    if not members:
        return np.zeros(1, dtype=np.int64)
    last = members[-1]
    behind = last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return np.array([*(member.offset for member in members[::2]), behind], dtype=np.int64)


def sizes(shard: SharFiles) -> list[int]:
    """Return the sizes of the files that an index is made of."""
    return [shard.cuts.stat().st_size, shard.audio.stat().st_size]
