"""Archives that do harm, each with the answer it deserves: (bytes, code, status)."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from egrecho_inner.serve.options import Limits

LIMITS = Limits(upload_mb=50, unpacked_mb=30, files=200, file_mb=5)


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **more) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in entries:
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def gz(entries: Iterable[tuple[tarfile.TarInfo, bytes]], **more) -> bytes:
    return gzip.compress(tar(entries, **more), mtime=0)


def put(folder: Path, content: bytes) -> Path:
    path = folder / "data.bin"
    path.write_bytes(content)
    return path


GOOD = [(entry("1.wav"), b"RIFF"), (entry("1.txt"), b"hello")]


def with_member(info: tarfile.TarInfo, content: bytes = b"x") -> bytes:
    return gz([*GOOD, (info, content)])


def zipped(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def zip_link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("2.wav")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def sparse() -> bytes:
    """Write the header of a GNU sparse file that claims a terabyte."""
    info = entry("2.wav", kind=tarfile.GNUTYPE_SPARSE)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(1 << 40, 12, tarfile.GNU_FORMAT)
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def big_header() -> bytes:
    """Write a PAX header of 20 MB: tarfile reads one into memory."""
    info = entry("2.wav")
    info.pax_headers = {"comment": "x" * 20_000_000}
    return tar([(info, b"")], form=tarfile.PAX_FORMAT)


REFUSED = {
    "parent": (with_member(entry("../evil.txt")), "unsafe_path", 422),
    "parent inside": (with_member(entry("a/../../evil.txt")), "unsafe_path", 422),
    "absolute": (with_member(entry("/etc/x.txt")), "unsafe_path", 422),
    "windows": (with_member(entry("C:\\x.txt")), "unsafe_path", 422),
    "folder in name": (with_member(entry("deep/x.txt")), "unsafe_path", 422),
    "200 levels": (with_member(entry("a/" * 200 + "x.txt")), "unsafe_path", 422),
    "link out": (
        with_member(entry("2.wav", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        "link_not_allowed",
        422,
    ),
    "link inside": (with_member(entry("2.wav", kind=tarfile.SYMTYPE, linkname="1.wav"), b""), "link_not_allowed", 422),
    "hard link": (with_member(entry("2.wav", kind=tarfile.LNKTYPE, linkname="1.wav"), b""), "link_not_allowed", 422),
    "fifo": (with_member(entry("2.wav", kind=tarfile.FIFOTYPE), b""), "unsupported_type", 422),
    "device": (with_member(entry("2.wav", kind=tarfile.CHRTYPE), b""), "unsupported_type", 422),
    "sparse": (gzip.compress(sparse()), "unsupported_type", 422),
    "bomb of many": (gz([(entry(f"{n}.wav"), bytes(4_000_000)) for n in range(7)]), "archive_too_large", 413),
    "bomb behind the end": (gzip.compress(tar(GOOD) + bytes(40_000_000)), "archive_too_large", 413),
    "one large file": (with_member(entry("2.wav"), os.urandom(5_100_000)), "file_too_large", 413),
    "many files": (gz([(entry(f"{n}.wav"), b"x") for n in range(201)]), "too_many_files", 413),
    "many folders": (gz([(entry(".", kind=tarfile.DIRTYPE), b"") for _ in range(201)]), "too_many_files", 413),
    "twice": (gz([*GOOD, (entry("1.txt"), b"other")]), "duplicate_name", 422),
    "twice by case": (gz([*GOOD, (entry("1.TXT"), b"other")]), "duplicate_name", 422),
    "twice by composition": (
        gz([(entry("caf\u00e9.txt"), b"a"), (entry("cafe\u0301.txt"), b"b")]),
        "duplicate_name",
        422,
    ),
    "newline": (with_member(entry("a\nb.txt")), "bad_name", 422),
    "escape": (with_member(entry("a\x1b[31m.txt")), "bad_name", 422),
    "dash": (with_member(entry("-i.wav")), "bad_name", 422),
    "long name": (with_member(entry("x" * 4000 + ".txt")), "bad_name", 422),
    "other type": (with_member(entry("run.sh")), "unsupported_type", 422),
    "nested": (with_member(entry("inner.tar.gz"), gz(GOOD)), "unsupported_type", 422),
    "large header": (gzip.compress(big_header()), "archive_too_large", 413),
    "not UTF-8": (with_member(entry("2.txt"), b"caf\xe9"), "bad_text", 422),
    "text reordered": (with_member(entry("2.txt"), "a\u202eb".encode()), "bad_text", 422),
    "text of 500 MB": (with_member(entry("2.txt"), b"a" * 20_000), "file_too_large", 413),
    "cut off": (gz(GOOD)[:-20], "bad_archive", 422),
    "bad checksum": (gz(GOOD)[:-8] + b"\0\0\0\0" + gz(GOOD)[-4:], "bad_archive", 422),
    "two streams": (gz(GOOD) + gz(GOOD), "bad_archive", 422),
    "no archive": (b"\xfd7zXZ\0" + bytes(5000), "bad_archive", 422),
    "text": (b"hello" * 1000, "bad_archive", 422),
    "empty file": (b"", "bad_archive", 422),
    "empty tar": (gz([]), "bad_archive", 422),
    "zip parent": (zipped(("../x.txt", b"x")), "unsafe_path", 422),
    "zip link": (zip_link(), "link_not_allowed", 422),
    "zip bomb": (zipped(*[(f"{n}.wav", bytes(4_900_000)) for n in range(7)]), "archive_too_large", 413),
    "zip of many": (zipped(*[(f"{n}.wav", b"x") for n in range(201)]), "too_many_files", 413),
    "zip cut off": (zipped(("1.wav", b"x"))[:-10], "bad_archive", 422),
}
