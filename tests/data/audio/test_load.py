"""Waves of cuts: the fast way equals Lhotse's, lengths are exact, faults are named."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from egrecho_inner.data.audio.load import SAMPLING_RATE, load_audio, probe
from egrecho_inner.errors import DataError


def wave(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Make noise with a slope of loudness, so that a shifted or swapped segment cannot look right."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    return (samples * np.linspace(0.1, 1, len(samples))[:, None]).astype(np.float32)


def recording(path: Path, channels: list[int] | None = None, transforms: list | None = None) -> Recording:
    info = probe(path)
    channels = list(range(info.channels)) if channels is None else channels
    source = AudioSource("file", channels, str(path))
    return Recording("r", [source], info.sampling_rate, info.num_samples, info.duration, channels, transforms)


def cut_of(rec: Recording, start: float = 0.0, duration: float | None = None, channel: int = 0) -> MonoCut:
    duration = rec.duration - start if duration is None else duration
    return MonoCut("c", start, duration, channel, [SupervisionSegment("u", "r", 0, duration)], recording=rec)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize(("start", "duration"), [(0, None), (0.3, 0.51234), (0.7, None)])
def test_fast_way_equals_lhotse(tmp_path: Path, rate: int, start: float, duration: float | None) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.23, rate, 2), rate)
    cut = cut_of(recording(tmp_path / "a.wav").resample(SAMPLING_RATE), start, duration, channel=1)
    samples = load_audio(cut)
    assert samples.dtype == np.float32 and samples.shape == (cut.num_samples,)
    np.testing.assert_array_equal(samples, cut.load_audio()[0])


@pytest.mark.parametrize("format", ["FLAC", "MP3", "OGG", "AIFF", "NIST"])
def test_formats_of_libsndfile_are_read(tmp_path: Path, format: str) -> None:
    soundfile.write(tmp_path / "a", wave(1.5, 44100), 44100, format=format)
    cut = cut_of(recording(tmp_path / "a").resample(SAMPLING_RATE))
    assert load_audio(cut).shape == (24000,)


@pytest.mark.parametrize("rate", [8000, 44100])
def test_downmix_is_the_mean_of_the_channels(tmp_path: Path, rate: int) -> None:
    stereo = wave(1.0, rate, 2)
    soundfile.write(tmp_path / "two.wav", stereo, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", stereo.mean(axis=1), rate, subtype="FLOAT")
    mixed = recording(tmp_path / "two.wav", [0], [{"name": "Downmix", "kwargs": {}}]).resample(SAMPLING_RATE)
    cut = cut_of(mixed, 0.25, 0.5)
    expected = load_audio(cut_of(recording(tmp_path / "one.wav").resample(SAMPLING_RATE), 0.25, 0.5))
    np.testing.assert_allclose(load_audio(cut), expected, atol=1e-6)
    np.testing.assert_allclose(cut.load_audio()[0], expected, atol=1e-6)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_perturbed_mixed_and_padded_cuts_have_the_length_they_say(tmp_path: Path, factor: float) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.237, 8000), 8000)
    cut = cut_of(recording(tmp_path / "a.wav").resample(SAMPLING_RATE))
    fast = cut.perturb_speed(factor)
    for variant in (fast, fast.pad(duration=3.0), cut.mix(fast, snr=10)):
        assert load_audio(variant).shape == (variant.num_samples,)


def test_a_cut_at_another_rate_comes_out_at_16_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.0, 8000), 8000)
    assert load_audio(cut_of(recording(tmp_path / "a.wav"))).shape == (16000,)


@pytest.mark.parametrize(("lost", "refused"), [(300, False), (1000, True)])  # of 16,000 samples; 400 are 25 ms
def test_only_a_few_missing_samples_are_forgiven(tmp_path: Path, lost: int, refused: bool) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.0, 16000), 16000)
    cut = cut_of(recording(tmp_path / "a.wav"))
    soundfile.write(tmp_path / "a.wav", wave(1.0, 16000)[:-lost], 16000)
    if not refused:
        assert load_audio(cut).shape == (16000,)
        return
    with pytest.raises(DataError, match=r"cut c: .*a\.wav holds 0\.938 s where the cut says 1\.000 s"):
        load_audio(cut)


def test_a_file_at_another_rate_than_its_manifest_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.0, 16000), 16000)
    cut = cut_of(recording(tmp_path / "a.wav"))
    soundfile.write(tmp_path / "a.wav", wave(2.0, 8000), 8000)
    with pytest.raises(DataError, match="is 8000 Hz, its manifest says 16000 Hz"):
        load_audio(cut)


def test_not_a_number_never_leaves_the_loader(tmp_path: Path) -> None:
    samples = wave(1.0, 16000)
    samples[8000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"cut c: .* holds NaN"):
        load_audio(cut_of(recording(tmp_path / "a.wav")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", r"is empty \(0 bytes\)"),
        (b"\n<!DOCTYPE html><html>404</html>", "looks like HTML"),
        (b"\0\0\0\x18ftypM4A ", r"\.wav is no format of libsndfile; transcode"),
        (bytes(range(256)), "is not audio that libsndfile can read"),
    ],
)
def test_probe_says_what_the_file_is(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        probe(path)
    assert str(path) in str(caught.value)


def test_a_file_that_vanished_is_named_with_its_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(1.0, 16000), 16000)
    cut = cut_of(recording(tmp_path / "a.wav"))
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match=r"cut c: .*a\.wav no such file"):
        load_audio(cut)
