"""Scanning many files: what is remembered is used only while it is true, and only as long as the file is whole."""

import json
import os
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile

from egrecho_inner.data.audio.check import AudioScan, scan_audio
from egrecho_inner.data.sources import pipes, scan
from egrecho_inner.data.sources.scan import Source, scan_sources


def make_files(path: Path, count: int = 5) -> list[Source]:
    for index in range(count):
        soundfile.write(path / f"{index}.wav", np.full(1600 + index, 0.1), 16000, subtype="FLOAT")
    soundfile.write(path / "nan.wav", np.array([0.1, np.nan] * 20000), 16000, subtype="FLOAT")
    (path / "html.wav").write_bytes(b"<html>")
    names = [*(f"{index}.wav" for index in range(count)), "nan.wav", "html.wav", "none.wav"]
    return [Source(name, str(path / name)) for name in names]


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of the files that are really opened."""
    names: list[str] = []

    def watched(path: str, decode: bool) -> object:
        names.append(Path(path).name)
        return scan_audio(path, decode)

    monkeypatch.setattr(scan, "scan_audio", watched)
    return names


def test_a_remembered_scan_equals_a_new_one(tmp_path: Path, scanned: list[str]) -> None:
    sources, memory = make_files(tmp_path), tmp_path / "work" / "scans.jsonl"
    first = scan_sources(sources)
    assert scan_sources(sources, remembered=memory) == first
    scanned.clear()
    content = memory.read_bytes()
    assert scan_sources(sources, remembered=memory) == first
    assert memory.read_bytes() == content
    assert scanned == ["none.wav"]  # of a file that is not there nothing is remembered
    assert scan_sources(sources, decode=False, remembered=memory) == scan_sources(sources, decode=False)


def test_a_changed_file_is_scanned_again(tmp_path: Path, scanned: list[str]) -> None:
    sources, memory = make_files(tmp_path), tmp_path / "scans.jsonl"
    scan_sources(sources, remembered=memory)
    scanned.clear()
    soundfile.write(tmp_path / "2.wav", np.full(3200, 0.2), 16000)
    again = scan_sources(sources, remembered=memory)
    assert sorted(scanned) == ["2.wav", "none.wav"] and again["2.wav"].info.num_samples == 3200


@pytest.mark.parametrize("cut", range(1, 200, 23))
def test_a_torn_memory_costs_only_the_torn_scan(tmp_path: Path, scanned: list[str], cut: int) -> None:
    sources, memory = make_files(tmp_path), tmp_path / "scans.jsonl"
    first = scan_sources(sources, remembered=memory)
    memory.write_bytes(memory.read_bytes()[:-cut])
    assert scan_sources(sources, remembered=memory) == first
    scanned.clear()
    assert scan_sources(sources, remembered=memory) == first and scanned == ["none.wav"]


def unclosed(path: Path) -> Path:
    """Write the WAV of a recorder that was killed, or that Python's wave module sends to a pipe: its length is 0."""
    soundfile.write(path, np.full(1600, 0.1), 16000)
    content = bytearray(path.read_bytes())
    at = content.find(b"data") + 4
    content[4:8] = content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    return path


def test_a_wav_that_was_never_closed_is_read_to_its_end_from_a_copy(tmp_path: Path, scanned: list[str]) -> None:
    path, copies = unclosed(tmp_path / "a.wav"), tmp_path / "copies"
    content = path.read_bytes()
    scan = scan_sources([Source("a", str(path), folder=str(copies))])["a"]
    assert (scan.fault, scan.info.num_samples, Path(scan.path).parent) == ("", 1600, copies)
    assert len(soundfile.read(scan.path)[0]) == 1600 and path.read_bytes() == content
    assert scan_sources([Source("a", str(path), folder=str(copies))])["a"] == scan and len(list(copies.iterdir())) == 1
    os.utime(path, ns=(0, 0))  # another file under the same name is copied again
    assert scan_sources([Source("a", str(path), folder=str(copies))])["a"].path != scan.path
    assert scan_sources([Source("a", str(path))])["a"] == replace(scan, path=str(path))  # a look writes nothing
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 16000)
    assert scan_sources([Source("b", str(tmp_path / "b.wav"), folder=str(copies))])["b"].fault == "holds 0 samples"


def test_scans_of_an_earlier_version_are_made_again(tmp_path: Path, scanned: list[str]) -> None:
    sources, memory = make_files(tmp_path), tmp_path / "scans.jsonl"
    scan_sources(sources, remembered=memory)
    rows = [json.loads(line) for line in memory.read_text().splitlines()]
    for row in rows:
        row.pop("version")
    memory.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    scanned.clear()
    scan_sources(sources, remembered=memory)
    assert len(scanned) == len(sources)


def test_the_copy_of_a_command_belongs_to_its_input_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, runs = tmp_path / "in.wav", []
    soundfile.write(path, np.full(1600, 0.1), 16000)

    def run(arguments: list[str], **_: object) -> CompletedProcess:
        runs.append(arguments)
        return CompletedProcess(arguments, 0, path.read_bytes(), b"")

    monkeypatch.setattr(pipes.subprocess, "run", run)
    monkeypatch.setattr(pipes.shutil, "which", lambda name: name)

    def scan() -> AudioScan:
        source = Source("a", "", command=("flac", "-c", "-d", "-s", str(path)), folder=str(tmp_path / "copies"))
        return scan_sources([source])["a"]

    assert scan() == scan() and len(runs) == 1
    soundfile.write(path, np.full(3200, 0.1), 16000)
    assert scan().info.num_samples == 3200 and len(runs) == 2
