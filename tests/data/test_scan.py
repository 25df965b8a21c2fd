"""Scanning many files: what is remembered is used only while it is true, and only as long as the file is whole."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.data import scan
from egrecho_inner.data.audio_checks import scan_audio
from egrecho_inner.data.scan import Source, scan_sources


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
    assert scan_sources(sources, remembered=memory) == first
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
