"""One look at a file: how much of it is there, whatever its header announces, and whether its samples are audio."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from egrecho_inner.data.audio.check import LOUDEST, scan_audio

RATE = 16000


def wave(path: Path, seconds: float = 2.0, **options: str) -> Path:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * RATE))
    soundfile.write(path, samples, RATE, **options)
    return path


def announce(path: Path, length: int, riff: int) -> Path:
    """Overwrite the lengths in a WAV's header."""
    content = bytearray(path.read_bytes())
    at = content.find(b"data") + 4
    content[at : at + 4], content[4:8] = struct.pack("<I", length), struct.pack("<I", riff)
    path.write_bytes(content)
    return path


def shorten(path: Path, bytes_less: int) -> Path:
    os.truncate(path, path.stat().st_size - bytes_less)
    return path


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.sph"])
def test_one_lost_buffer_is_used_and_counted_more_is_a_fault(tmp_path: Path, name: str, decode: bool) -> None:
    options = {"format": "NIST"} if name == "a.sph" else {}
    scan = scan_audio(shorten(wave(tmp_path / name, **options), 726), decode)  # what one recorder lost
    assert scan.fault == "" and scan.short == pytest.approx(726 / 2 / RATE, rel=0.02)
    assert scan.info.num_samples == pytest.approx(2 * RATE - 363, abs=1)
    assert scan_audio(shorten(tmp_path / name, 2200), decode).short == pytest.approx(0.0914, rel=0.02)
    scan = scan_audio(shorten(tmp_path / name, 600), decode)
    assert (scan.fault, scan.info) == ("is truncated", None) and "3,526 bytes" in scan.detail


def test_seconds_are_counted_from_the_samples_not_from_the_size_of_the_file(tmp_path: Path) -> None:
    content = wave(tmp_path / "a.wav").read_bytes()
    at = content.find(b"data")
    chunk = b"junk" + struct.pack("<I", 1_000_000) + bytes(1_000_000)
    (tmp_path / "b.wav").write_bytes(content[:at] + chunk + content[at:-6400])
    assert scan_audio(tmp_path / "b.wav").fault == "is truncated"


def test_a_whole_file_lacks_nothing(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"):
        assert scan_audio(wave(tmp_path / name)).short == 0


def test_an_ogg_without_its_last_page_is_a_fault_however_short(tmp_path: Path) -> None:
    assert scan_audio(shorten(wave(tmp_path / "a.ogg"), 20)).fault == "is truncated"


@pytest.mark.parametrize("length", [0x7FFFF000, 0x7FFF0000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF00])
def test_lengths_that_writers_to_a_pipe_leave_mean_to_the_end(tmp_path: Path, length: int) -> None:
    scan = scan_audio(announce(wave(tmp_path / "a.wav"), length, min(length + 36, 0xFFFFFFFF)))
    assert (scan.fault, scan.short, scan.info.num_samples) == ("", 0.0, 2 * RATE)


@pytest.mark.parametrize("value", [1e30, -1e30, 32768.0])
def test_samples_far_beyond_full_scale_are_no_audio(tmp_path: Path, value: float) -> None:
    samples = 0.3 * np.sin(np.arange(3 * RATE) / 9)
    samples[RATE + 5] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    scan = scan_audio(tmp_path / "a.wav")
    assert scan.bad_seconds == (1,) and scan.peak == pytest.approx(abs(value), rel=1e-6)
    assert abs(scan.offset) < 0.01 and scan.clipped == 0
    soundfile.write(tmp_path / "a.wav", np.clip(samples, -5, 5), RATE, subtype="FLOAT")  # loud, but sound
    scan = scan_audio(tmp_path / "a.wav")
    assert scan.bad_seconds == () and scan.peak == 5 < LOUDEST


def test_a_peak_is_of_the_samples_that_are_numbers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.25, np.nan, np.inf, -0.5] * 400), RATE, subtype="FLOAT")
    scan = scan_audio(tmp_path / "a.wav")
    assert (scan.peak, scan.bad_seconds) == (0.5, (0,))


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "c.wav").mkdir()
    monkeypatch.setattr(soundfile, "SoundFile", lambda path: pytest.fail(f"{path} was opened"))
    monkeypatch.setattr(io, "open", lambda path, *_: pytest.fail(f"{path} was opened"))
    faults = [
        scan_audio(path).fault for path in (tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav", "/dev/zero")
    ]
    kinds = ("FIFO", "FIFO", "folder", "device")
    assert faults == [f"is a {kind}, not an audio file" for kind in kinds]
