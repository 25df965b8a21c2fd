"""Hostile archives leave nothing behind; honest ones come out as plain files of mode 0600."""

import gzip
import stat
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hostile import GOOD, LIMITS, REFUSED, big_header, entry, gz, put, tar, zipped

from egrecho_inner.serve.archive import ArchiveError, unpack


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path: Path, case: str) -> None:
    content, code, status = REFUSED[case]
    archive, target = put(tmp_path, content), tmp_path / "out"
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, target, LIMITS)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.bin"]
    assert "\n" not in str(caught.value)


def test_an_honest_archive_comes_out(tmp_path: Path) -> None:
    entries = [(entry("./", kind=tarfile.DIRTYPE), b""), (entry("./._1.wav"), b"left by a Mac"), *GOOD]
    entries += [
        (entry("./बात 2.txt", mode=0o4755), "बात".encode()),
        (entry("train_files.csv"), b"uid,file_name,text\n"),
    ]
    assert unpack(put(tmp_path, gz(entries)), tmp_path / "out", LIMITS) == 4
    found = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert found.keys() == {"1.wav", "1.txt", "बात 2.txt", "train_files.csv"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found.values()} == {0o600}
    assert found["1.txt"].read_bytes() == b"hello"


@pytest.mark.parametrize("pack", [tar, lambda entries: zipped(*[(info.name, content) for info, content in entries])])
def test_plain_tar_and_zip_are_taken_too(tmp_path: Path, pack) -> None:
    assert unpack(put(tmp_path, pack(GOOD)), tmp_path / "out", LIMITS) == 2


def test_a_header_of_gigabytes_is_never_held(tmp_path: Path) -> None:
    archive = put(tmp_path, gzip.compress(big_header()))
    tracemalloc.start()
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path / "out", LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


def test_an_existing_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack(put(tmp_path, gz(GOOD)), tmp_path / "out", LIMITS)
