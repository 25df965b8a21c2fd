"""Archives from strangers into a folder of recordings: never extractall, member by member, counted while copying.

In: a tar.gz, tar or zip of plain files without folders (`tar -czvf data.tar.gz -C my_folder .`), limits. Out: files of
audio, text and the three CSV files in a fresh folder, with mode 0600, each created by us and never through a link.
Links, devices, paths, odd names, names that differ in case only, and anything over a limit end it with an
`ArchiveError`, and nothing stays. The standard library's filters are not enough: links inside pass them, sizes are not
bounded.
"""

import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from egrecho_inner.data.sources.folder import AUDIO, TEXT_BYTES
from egrecho_inner.serve.options import Limits

PUNCTUATION = " ._()-"
NAME_BYTES = 200
TABLES = ("train_files.csv", "dev_files.csv", "test_files.csv")
TABLE_BYTES = 20_000_000
HEADER_BYTES = 64_000
"""Of extended headers between two members: names of 100 bytes need none."""
BLOCK = 1 << 20
SURE_BYTES = 10_000_000
"""Unpacked before the ratio is looked at."""
UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
OVERRIDES = re.compile("[\u202a-\u202e\u2066-\u2069]")


class ArchiveError(Exception):
    """An archive or file that is refused.

    Args:
        code: A word for programs.
        message: A sentence for people.
        status: Of HTTP: 422 for what is wrong, 413 for what is too much.
    """

    def __init__(self, code: str, message: str, status: int = 422):
        super().__init__(message)
        self.code, self.status = code, status


def unpack(archive: Path, folder: Path, limits: Limits) -> int:
    """Unpack an archive into a new folder; after an error the folder is gone.

    Returns:
        The number of files.

    Raises:
        ArchiveError: Anything in it is refused.
        OSError: The disk is full.
    """
    folder.mkdir(parents=True, mode=0o700)
    try:
        with open(archive, "rb") as file:
            head = file.read(4)
        members = zip_members if head.startswith(b"PK") else tar_members
        taker = Taker(folder, limits, archive.stat().st_size)
        for name, source in members(archive, taker):
            if not is_hidden(name):
                taker.take(name, source)
        if not taker.names:
            raise ArchiveError("bad_archive", "the archive holds no files; pack the files themselves, not their folder")
        return len(taker.names)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UNREADABLE):
            raise ArchiveError("bad_archive", f"the archive does not read: {str(error)[:100]}") from error
        raise


class Taker:
    """Write members into a folder, counting.

    Args:
        folder: Empty.
        limits: Of one upload.
        packed: Bytes of the archive.
    """

    def __init__(self, folder: Path, limits: Limits, packed: int = 0):
        self.folder, self.limits, self.packed = folder, limits, packed
        self.names: set[str] = set()
        self.bytes = self.count = 0

    def met(self) -> None:
        """Count one member, whatever it is."""
        self.count += 1
        if self.count > self.limits.files:
            raise ArchiveError("too_many_files", f"more than {self.limits.files:,} files; send fewer", 413)

    def take(self, name: str, source: IO[bytes]) -> Path:
        """Write one file under a checked name.

        Raises:
            ArchiveError: Its name, type, size or text is refused.
        """
        name = check_name(name)
        if (folded := name.casefold()) in self.names:
            raise ArchiveError("duplicate_name", f"{name!r} is in the archive twice, or differs in case only")
        self.names.add(folded)
        path, most = self.folder / name, self.most(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        size = 0
        with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
            while block := source.read(BLOCK):
                size += len(block)
                self.bytes += len(block)
                if size > most:
                    raise ArchiveError("file_too_large", f"{name!r} has over {most:,} bytes", 413)
                self.check_sum()
                out.write(block)
        if path.suffix.lower() == ".txt":
            check_text(path)
        return path

    def most(self, name: str) -> int:
        """Return how many bytes a file of this name may have."""
        if name in TABLES:
            return TABLE_BYTES
        return TEXT_BYTES if name.lower().endswith(".txt") else int(self.limits.file_mb * 1e6)

    def check_sum(self) -> None:
        """Refuse too much, in all or for the archive's own size."""
        if self.bytes > self.limits.unpacked_mb * 1e6:
            raise ArchiveError("archive_too_large", f"over {self.limits.unpacked_mb:,.0f} MB unpacked", 413)
        if self.packed and self.bytes > max(SURE_BYTES, self.limits.ratio * self.packed):
            raise ArchiveError("archive_too_large", f"unpacks to over {self.limits.ratio:g} times its size", 413)


def check_name(name: str) -> str:
    """Return a member's name as a plain file name.

    Raises:
        ArchiveError: It is a path, has other characters than letters, digits, space and ._()-, or is of another type.
    """
    plain = unicodedata.normalize("NFC", name.removeprefix("./"))
    if plain.startswith(("/", "\\")) or ".." in plain.replace("\\", "/").split("/") or re.match(r"[A-Za-z]:", plain):
        raise ArchiveError("unsafe_path", f"{name[:80]!r} leads out of the archive")
    if "/" in plain or "\\" in plain:
        raise ArchiveError("unsafe_path", f"{name[:80]!r} is in a folder; pack the files only: tar -czf X -C folder .")
    sound = all(unicodedata.category(c)[0] in "LNM" or c in PUNCTUATION for c in plain) and plain[:1].isalnum()
    if not sound or len(plain.encode()) > NAME_BYTES:
        raise ArchiveError("bad_name", f"{name[:80]!r}: use letters, digits, space and ._()- in file names, 200 bytes")
    if plain not in TABLES and not plain.lower().endswith((*AUDIO, ".txt")):
        raise ArchiveError("unsupported_type", f"{plain!r} is neither audio ({' '.join(AUDIO)}) nor .txt")
    return plain


def is_hidden(name: str) -> bool:
    """Tell whether a member is one of the dot files that a Mac or this project adds; those are passed over."""
    plain = name.removeprefix("./")
    return plain.startswith(".") and "/" not in plain and not plain.startswith("..")


def check_text(path: Path) -> None:
    """Refuse a transcript that is not UTF-8 or turns the direction of text around."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchiveError("bad_text", f"{path.name!r} is not UTF-8") from error
    if "\0" in text or OVERRIDES.search(text):
        raise ArchiveError("bad_text", f"{path.name!r} holds characters that control or reorder text")


class Gunzip:
    """The content of one gzip stream, whose checksum must be right and behind which nothing but zeros may come.

    Args:
        source: The packed file.
    """

    def __init__(self, source: IO[bytes]):
        self.source, self.packed = source, b""
        self.engine = zlib.decompressobj(wbits=31)

    def read(self, size: int = -1) -> bytes:
        """Read at most so many bytes.

        Raises:
            EOFError: The stream is cut off.
            ValueError: Another one follows it.
        """
        while not self.engine.eof:
            self.packed = self.packed or self.source.read(BLOCK)
            if not self.packed:
                raise EOFError("it is cut off")
            block = self.engine.decompress(self.packed, max(size, 0) or BLOCK)
            self.packed = self.engine.unconsumed_tail
            if block:
                return block
        rest = self.engine.unused_data + self.source.read(BLOCK)
        if rest.strip(b"\0"):
            raise ValueError("something follows the gzip stream")
        return b""


class Bounded:
    """A stream that may deliver so many bytes between two members; tar reads extended headers into memory.

    Args:
        source: The unpacked archive.
        taker: Counts what files take; headers and padding are what it did not take.
    """

    def __init__(self, source: IO[bytes], taker: Taker):
        self.source, self.taker = source, taker
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Read, and refuse headers that are larger than headers are."""
        block = self.source.read(size)
        self.read_bytes += len(block)
        overhead = self.read_bytes - self.taker.bytes
        if overhead > HEADER_BYTES * (self.taker.count + 1) + tarfile.RECORDSIZE + BLOCK:
            raise ArchiveError("archive_too_large", "the archive's headers are too large", 413)
        return block


def tar_members(archive: Path, taker: Taker) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the files of a tar, plain or gzipped, in a stream: nothing is read ahead or sought.

    Raises:
        ArchiveError: A member is neither a plain file nor the folder itself.
    """
    with open(archive, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        source = Gunzip(raw) if packed else raw
        with tarfile.open(fileobj=Bounded(source, taker), mode="r|", errorlevel=2) as tar:
            for member in tar:
                taker.met()
                if member.isdir() and member.name in (".", "./", ""):
                    continue
                if member.issym() or member.islnk():
                    raise ArchiveError("link_not_allowed", f"{member.name[:80]!r} is a link; pack files only")
                if member.isdir():
                    raise ArchiveError("unsafe_path", f"{member.name[:80]!r} is a folder; pack the files themselves")
                if not member.isreg() or member.issparse() or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise ArchiveError("unsupported_type", f"{member.name[:80]!r} is no plain file")
                if member.size > taker.most(member.name):
                    raise ArchiveError("file_too_large", f"{member.name[:80]!r} has {member.size:,} bytes", 413)
                if (content := tar.extractfile(member)) is not None:
                    yield member.name, content
        while source.read(BLOCK) if packed else False:  # to the end, so that the checksum is looked at
            taker.bytes += BLOCK
            taker.check_sum()


def zip_members(archive: Path, taker: Taker) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the files of a zip."""
    check_directory(archive, taker.limits.files)
    with zipfile.ZipFile(archive) as found:
        for member in found.infolist():
            taker.met()
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                raise ArchiveError("link_not_allowed", f"{member.filename[:80]!r} is a link; pack files only")
            if member.is_dir():
                raise ArchiveError("unsafe_path", f"{member.filename[:80]!r} is a folder; pack the files themselves")
            plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not member.flag_bits & 1
            if kind not in (0, stat.S_IFREG) or not plain:
                raise ArchiveError("unsupported_type", f"{member.filename[:80]!r} is no plain file")
            with found.open(member) as content:
                yield member.filename, content


def check_directory(archive: Path, files: int) -> None:
    """Refuse a zip whose directory is too large to be read, before it is.

    Raises:
        ArchiveError: It is, or there is none.
    """
    with open(archive, "rb") as file:
        file.seek(max(0, archive.stat().st_size - 66_000))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ArchiveError("bad_archive", "the zip has no directory; it is cut off")
    count, size = struct.unpack("<HI", tail[end + 10 : end + 16])
    if count > files or size > files * 400:  # an entry has 46 bytes and its name; zip64 has the largest numbers here
        raise ArchiveError("too_many_files", f"more than {files:,} files; send fewer", 413)
