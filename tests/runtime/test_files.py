"""Files appear complete or not at all, whoever else writes, and whoever was killed before."""

import gzip
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egrecho_inner.errors import MachineError
from egrecho_inner.runtime import files
from egrecho_inner.runtime.files import atomic_file, locked, read_lines, working_folder, write_json, write_jsonl


@pytest.fixture(autouse=True)
def fresh() -> None:
    """A process that has swept nothing yet."""
    files._sweep_once.cache_clear()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_the_same_lines_are_the_same_bytes_and_read_back(tmp_path: Path, name: str, monkeypatch) -> None:
    lines = ['{"a": "ự"}', '{"b": 2}']
    assert write_jsonl(tmp_path / "deep" / name, lines) == 2
    first = (tmp_path / "deep" / name).read_bytes()
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: 2e9)
        write_jsonl(tmp_path / name, iter(lines))
    assert (tmp_path / name).read_bytes() == first
    assert list(read_lines(tmp_path / name)) == lines
    assert name.endswith("gz") is (first[:2] == b"\x1f\x8b")
    if name.endswith("gz"):
        assert gzip.decompress(first).decode() == "".join(f"{line}\n" for line in lines)


def test_the_same_manifest_written_again_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_jsonl(path, ["{}"])
    os.utime(path, (1, 1))
    write_jsonl(path, ["{}"])
    assert path.stat().st_mtime == 1
    write_jsonl(path, ["[]"])
    assert path.stat().st_mtime > 1 and path.read_text() == "[]\n"
    assert [each.name for each in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_fault_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"old": True})
    with pytest.raises(RuntimeError), atomic_file(tmp_path / "x.json") as file:
        file.write(b"half")
        raise RuntimeError
    assert json.loads((tmp_path / "x.json").read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(MachineError, match=r"cannot write .*big\.jsonl .*MB are free there"):
            write_jsonl(tmp_path / "big.jsonl", ["x" * 100] * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_listed_once_however_many_files_are_written(tmp_path: Path, monkeypatch) -> None:
    for number in range(500):
        (tmp_path / f"there-{number}").touch()
    listed, real = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or real(path))
    monkeypatch.setattr(Path, "iterdir", None)
    for number in range(50):
        write_json(tmp_path / f"{number}.json", number)
    assert len(listed) == 1


@pytest.mark.parametrize("host", ["gpu", "gpu-2", "a-1.b"])
def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path: Path, monkeypatch, host: str) -> None:
    # the host `gpu` once read `x.tmp-gpu-2-17` as its own, of process "2-17"
    monkeypatch.setattr(files.socket, "gethostname", lambda: host)
    files.machine_name.cache_clear()
    machine = files.machine_name()
    left = tmp_path / f"other.jsonl.tmp-{machine}-{dead_pid()}.0"
    left.touch()
    folder = tmp_path / f".model.tmp-{machine}-{dead_pid()}.3"
    folder.mkdir()
    (folder / "weights").touch()
    kept = [
        tmp_path / f"mine.jsonl.tmp-{machine}-{os.getpid()}.0",
        tmp_path / f"theirs.jsonl.tmp-{machine}-2-{dead_pid()}.0",
        tmp_path / f"theirs.jsonl.tmp-gpu-2-9.402-{dead_pid()}.0",
        tmp_path / "named.tmp-by-a-user",
    ]
    for path in kept:
        path.touch()
    old = tmp_path / "theirs.jsonl.tmp-gone-77.0"
    old.touch()
    os.utime(old, (1, 1))
    write_json(tmp_path / "x.json", 1)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "x.json"])
    files.machine_name.cache_clear()


def test_a_working_folder_takes_its_name_when_complete(tmp_path: Path) -> None:
    place = tmp_path / "model"
    with working_folder(place) as working:
        (working / "a").write_text("1")
        assert not place.exists() and working.parent == tmp_path
    assert [path.name for path in place.iterdir()] == ["a"]
    with pytest.raises(KeyboardInterrupt), working_folder(place) as working:
        (working / "b").write_text("2")
        raise KeyboardInterrupt
    assert [path.name for path in place.iterdir()] == ["a"], "the old one stays"
    with working_folder(place) as working:
        (working / "b").write_text("2")
    assert [path.name for path in place.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["folder", "file"])
def test_one_process_at_a_time_holds_a_lock(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    context = multiprocessing.get_context("fork")
    inside = context.Value("i", 0)
    most = context.Value("i", 0)

    def work() -> None:
        with locked(tmp_path / name) as held:
            assert held
            inside.value += 1
            most.value = max(most.value, inside.value)
            time.sleep(0.05)
            inside.value -= 1

    running = [context.Process(target=work) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert most.value == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_file_system_without_locks_is_no_fault(tmp_path: Path, monkeypatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuses)
    with locked(tmp_path) as held:
        assert held is False
