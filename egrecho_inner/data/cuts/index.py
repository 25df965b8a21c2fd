"""A manifest of cuts as a few bytes per cut: where its line begins, how long it is, what its text is like.

In: `.jsonl` or `.jsonl.gz`, one cut per line. Out: arrays that batch plans work on, and single cuts read by position.
A million cuts cost 30 MB, mapped from a file, so every worker process shares them. The index and the unpacked copy of
a `.gz` (which cannot be entered in the middle) are kept in a hidden folder beside the manifest, made once and made
anew when the manifest changes; where that folder cannot be written, in a temporary one.
"""

import errno
import gzip
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from egrecho_inner.data.cuts.columns import Columns, check_unique, measure
from egrecho_inner.data.cuts.make import check_line, refuse_media
from egrecho_inner.errors import DataError, MachineError
from egrecho_inner.runtime.files import TEMPORARY, atomic_file, cache_folder, locked, working_folder

FORMAT = 4
"""Raised when the arrays below change, so that an older index is not read."""
UNUSED = 30 * 24 * 3600
"""Seconds after which an index in a cache, away from its manifest, is removed."""


class CutIndex:
    """Random access to the cuts of a manifest, in the order of its lines.

    Attributes:
        path: The manifest as given.
        offsets: Where each line begins in the plain file, and where the last one ends (N + 1,) int64.
        durations: Seconds (N,) float64.
        text_bytes: Length of the text in UTF-8 (N,) int32; `NO_SUPERVISION` or `NO_TEXT` where there is none.
        teacher_bytes: Length of the teacher's text in UTF-8 (N,) int32; `NO_TEXT` where there is none.
        language: What language the cut names, as a place in `languages` (N,) int16.
        languages: Codes; names that Whisper does not know as they are; None where a cut names none.
        ids: A hash of each cut's id (N,) uint64; no two cuts have the same id.
        digest: SHA-256 of the plain manifest.
    """

    def __init__(self, path: str | Path):
        """Open a manifest, indexing it on first use.

        Raises:
            DataError: The file is missing, empty, a line is not a cut, or an id is there twice.
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
        self.teacher_bytes = np.load(self.folder / "teacher_bytes.npy", mmap_mode="r")
        self.language = np.load(self.folder / "language.npy", mmap_mode="r")
        self.ids = np.load(self.folder / "ids.npy", mmap_mode="r")
        self.languages: list[str | None] = orjson.loads((self.folder / "languages.json").read_bytes())
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

    def text(self, position: int) -> str:
        """Return the JSON of one cut without the line's end."""
        return self.line(position).decode().rstrip("\n")

    def __getitem__(self, position: int) -> Cut:
        """Return one cut, made from its line; it is looked at again, for the index may be another's."""
        line = self.line(position)
        check_line(line, f"{self.path}:{position + 1}")
        return deserialize_item(orjson.loads(line))

    def __iter__(self) -> Iterator[Cut]:
        return (self[position] for position in range(len(self)))

    def select(self, positions: Iterable[int]) -> Iterator[Cut]:
        """Yield some cuts."""
        return (self[int(position)] for position in positions)

    def remembered(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return an array about the cuts that is kept with the index: the first process that asks makes it.

        Args:
            name: Names all that it depends on beside the cuts.
            make: Takes long.
        """
        for folder in (self.folder, cache_folder("index") / f"{self.digest[:16]}.index"):
            path = folder / f"{name}.npy"
            try:
                if not path.is_file():
                    folder.mkdir(parents=True, exist_ok=True)
                    with locked(folder / f"{name}.making"):
                        if not path.is_file():
                            with atomic_file(path) as file:
                                np.lib.format.write_array(file, make(), allow_pickle=False)
                return np.load(path)
            except (OSError, MachineError):
                continue  # an index of somebody else's, on a disk that is not ours
        return make()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}  # a file descriptor means nothing in another process


def open_folder(path: Path, stamp: str) -> Path:
    """Return the complete index folder of a manifest, making it when there is none for this version of the file.

    The processes of a run ask for it at the same time: one makes it, the others wait for it.

    Raises:
        MachineError: There is no room, or no folder that can be written.
    """
    places = folders_of(path)
    caches = places[1:]
    for place in places:
        if (place / stamp / "digest").is_file():
            if place in caches:
                mark_used(place)
            return place / stamp
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with locked(place / "making"):
                if not (place / stamp / "digest").is_file():
                    make_folder(path, place / stamp)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise MachineError(f"{place} has no room for the index of {path}; make room, then repeat") from error
            fault = error
            continue
        if place in caches:
            sweep_unused(place.parent)
        return place / stamp
    raise MachineError(f"{path} cannot be indexed ({fault}); set EGRECHO_CACHE to a folder that can be written")


def folders_of(path: Path) -> list[Path]:
    """Return where the index of a manifest may be: beside it, else in the user's cache, else in the temporary folder.

    The last two are for data that cannot be written; they are found by the manifest's path.
    """
    name = f"{hashlib.blake2b(str(path.absolute()).encode(), digest_size=8).hexdigest()}.index"
    temporary = Path(tempfile.gettempdir()) / f"egrecho-{os.getuid()}"
    caches = [cache_folder("index") / name]
    if not temporary.exists() or temporary.stat().st_uid == os.getuid():  # anyone may make a folder there
        caches.append(temporary / name)
    return [path.with_name(f".{path.name}.index"), *caches]


def make_folder(path: Path, folder: Path) -> None:
    """Index a manifest into a folder that appears when complete; those of older versions of the manifest go."""
    with working_folder(folder) as working:
        scan(path, working)
    for old in folder.parent.iterdir():
        if old != folder and old.is_dir() and not TEMPORARY.search(old.name):
            shutil.rmtree(old, ignore_errors=True)


def mark_used(beside: Path) -> None:
    """Note that the index of a manifest is in use; those in a cache that nobody uses go after a while."""
    with suppress(OSError):
        if time.time() - beside.stat().st_mtime > UNUSED / 30:
            os.utime(beside)


def sweep_unused(root: Path) -> None:
    """Remove the indexes of a cache that were not used for long."""
    for beside in root.glob("*.index"):
        with suppress(OSError):
            if time.time() - beside.stat().st_mtime > UNUSED:
                shutil.rmtree(beside, ignore_errors=True)


def scan(path: Path, folder: Path) -> None:
    """Read a manifest once and write its index into a folder, the digest last."""
    refuse_media(path)
    packed = path.suffix == ".gz"
    offsets, columns = [0], Columns()
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
                columns.add(measure(line, path, number))
                offsets.append(offsets[-1] + len(line))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is cut off or not gzip ({error}); make the manifest again") from error
    if len(offsets) == 1:
        raise DataError(f"{path} holds no cuts; make the manifest again")
    check_unique(columns.arrays()["ids"], partial(describe_line, path))
    np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
    for name, values in columns.arrays().items():
        np.save(folder / f"{name}.npy", values)
    (folder / "languages.json").write_bytes(orjson.dumps(columns.languages))
    (folder / "digest").write_text(digest.hexdigest())


def describe_line(path: Path, position: int) -> tuple[str, str]:
    """Return file and line of a cut that is not indexed yet, and its id."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as lines:
        return f"{path}:{position + 1}", orjson.loads(next(islice(lines, position, None)))["id"]


def check_unique_over(indexes: Sequence[CutIndex]) -> None:
    """Refuse manifests that share ids.

    Raises:
        DataError: They do.
    """
    if len(indexes) < 2:
        return
    starts = np.cumsum([0, *map(len, indexes)])

    def describe(position: int) -> tuple[str, str]:
        part = int(np.searchsorted(starts, position, side="right")) - 1
        within = position - int(starts[part])
        return f"{indexes[part].path}:{within + 1}", indexes[part][within].id

    check_unique(np.concatenate([index.ids for index in indexes]), describe)


def open_all(paths: str | Sequence[str]) -> list[CutIndex]:
    """Open one or several manifests."""
    return [CutIndex(path) for path in ([paths] if isinstance(paths, str) else paths)]
