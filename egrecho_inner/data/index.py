"""A manifest of cuts as a few bytes per cut: where its line begins, how long it is, how long its text is.

In: `.jsonl` or `.jsonl.gz`, one cut per line. Out: arrays that batch plans work on, and single cuts read by position.
A million cuts cost 25 MB, mapped from a file, so every worker process shares them. The index and the unpacked copy of
a `.gz` (which cannot be entered in the middle) are kept in a hidden folder beside the manifest, made once and made
anew when the manifest changes; where that folder cannot be written, in a temporary one.
"""

import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import orjson
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from egrecho_inner.data.cuts import check_line
from egrecho_inner.errors import DataError

FORMAT = 2
"""Raised when the arrays below change, so that an older index is not read."""


class CutIndex:
    """Random access to the cuts of a manifest, in the order of its lines.

    Attributes:
        path: The manifest as given.
        offsets: Where each line begins in the plain file, and where the last one ends (N + 1,) int64.
        durations: Seconds (N,) float64.
        text_bytes: Length of the first supervision's text in UTF-8 (N,) int32; -1 without supervision.
        digest: SHA-256 of the plain manifest.
    """

    def __init__(self, path: str | Path):
        """Open a manifest, indexing it on first use.

        Raises:
            DataError: The file is missing, empty, or a line is not a cut.
        """
        self.path = Path(path)
        if self.path.is_dir():
            raise DataError(
                f"{path} is a folder; expected a manifest of cuts (only data.train takes Shar folders; "
                "egrecho import-shar makes a manifest of one)"
            )
        if not self.path.is_file():
            raise DataError(f"{path} does not exist; expected a manifest of cuts, prepare.sh makes one")
        stat = self.path.stat()
        stamp = f"{FORMAT}-{stat.st_size}-{stat.st_mtime_ns}"
        self.folder = open_folder(self.path, stamp)
        self.plain = self.folder / "cuts.jsonl" if self.path.suffix == ".gz" else self.path
        self.offsets = np.load(self.folder / "offsets.npy", mmap_mode="r")
        self.durations = np.load(self.folder / "durations.npy", mmap_mode="r")
        self.text_bytes = np.load(self.folder / "text_bytes.npy", mmap_mode="r")
        self.digest = (self.folder / "digest").read_text()
        # opened now: a manifest replaced while this one is read would have other offsets
        self._file: int | None = os.open(self.plain, os.O_RDONLY)

    def __len__(self) -> int:
        return len(self.durations)

    def line(self, position: int) -> bytes:
        """Return the JSON of one cut."""
        if self._file is None:
            self._file = os.open(self.plain, os.O_RDONLY)
        start, end = int(self.offsets[position]), int(self.offsets[position + 1])
        return os.pread(self._file, end - start, start)  # no shared file position: safe after fork

    def __getitem__(self, position: int) -> Cut:
        """Return one cut, made from its line; it is looked at again, for the index may be another's."""
        line = self.line(position)
        check_line(line, f"{self.path}:{position + 1}")
        return deserialize_item(orjson.loads(line))

    def __iter__(self) -> Iterator[Cut]:
        return (self[position] for position in range(len(self)))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}  # a file descriptor means nothing in another process


def open_folder(path: Path, stamp: str) -> Path:
    """Return the complete index folder of a manifest, making it when there is none for this version of the file."""
    beside = path.with_name(f".{path.name}.index")
    folder = beside / stamp
    if (folder / "digest").is_file():
        return folder
    try:
        beside.mkdir(exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix="making-", dir=beside))
    except OSError:
        working = Path(tempfile.mkdtemp(prefix="egrecho-index-"))
        beside, folder = working.parent, working
    try:
        scan(path, working)
        if working != folder:
            try:
                os.rename(working, folder)
            except OSError:
                if not (folder / "digest").is_file():  # another process of this run was first
                    raise
    finally:
        if working != folder and working.exists():
            shutil.rmtree(working, ignore_errors=True)
    for old in beside.iterdir() if beside.name.endswith(".index") else ():
        if old != folder and not old.name.startswith("making-"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def scan(path: Path, folder: Path) -> None:
    """Read a manifest once and write its index into a folder, the digest last."""
    packed = path.suffix == ".gz"
    offsets, durations, text_bytes = [0], [], []
    digest = hashlib.sha256()
    with (
        gzip.open(path, "rb") if packed else open(path, "rb") as lines,
        open(folder / "cuts.jsonl", "wb") if packed else nullcontext() as plain,
    ):
        try:
            for number, line in enumerate(lines, 1):
                digest.update(line)
                if plain is not None:
                    plain.write(line)
                if not line.strip():
                    raise DataError(f"{path}:{number}: empty line; make the manifest again")
                seconds, size = measure(line, path, number)
                offsets.append(offsets[-1] + len(line))
                durations.append(seconds)
                text_bytes.append(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is cut off or not gzip ({error}); make the manifest again") from error
    if not durations:
        raise DataError(f"{path} holds no cuts; make the manifest again")
    np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
    np.save(folder / "durations.npy", np.array(durations, dtype=np.float64))
    np.save(folder / "text_bytes.npy", np.array(text_bytes, dtype=np.int32))
    (folder / "digest").write_text(digest.hexdigest())


def measure(line: bytes, path: Path, number: int) -> tuple[float, int]:
    """Return the seconds of a cut and the bytes of its text (-1 without supervision)."""
    try:
        check_line(line, f"{path}:{number}")
        cut = orjson.loads(line)
        if not cut["type"].endswith("Cut"):
            raise TypeError(f"type {cut['type']}")
        if "duration" in cut:
            seconds = float(cut["duration"])
        else:  # a mix is as long as its longest track
            seconds = max(float(t.get("offset", 0)) + float(t["cut"]["duration"]) for t in cut["tracks"])
        supervisions = cut.get("supervisions") or (
            cut["tracks"][0]["cut"].get("supervisions") if "tracks" in cut else []
        )
        size = len((supervisions[0].get("text") or "").encode()) if supervisions else -1
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}:{number}: not a cut ({error!r}); expected one Lhotse cut per line") from error
    return seconds, size


def open_all(paths: str | Sequence[str]) -> list[CutIndex]:
    """Open one or several manifests."""
    return [CutIndex(path) for path in ([paths] if isinstance(paths, str) else paths)]
