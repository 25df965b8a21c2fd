"""Features equal what Transformers computes on the same waves; stored ones within their precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.features.base import create_default_feature_extractor
from transformers import WhisperFeatureExtractor

from egrecho_inner.data.audio.features import (
    TAIL_FRAMES,
    WhisperLogMel,
    collate_features,
    floor_value,
    log_mel,
    log_mel_batch,
    num_frames,
)
from egrecho_inner.data.audio.store import FeatureArchive, check_stored, load_stored
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import WHISPER_FRAMES

EXTRACTORS = {n_mels: WhisperFeatureExtractor(feature_size=n_mels) for n_mels in (80, 128)}
# odd lengths, one window, one hop, the spec's sample, and the last samples before 30 s, where the mirror matters
LENGTHS = [1, 79, 80, 159, 160, 200, 201, 400, 401, 16000, 96938, 112096, 479759, 479960, 479999, 480000]


def speech_like(num_samples: int, seed: int = 0) -> np.ndarray:
    """Noise in syllables with pauses, some louder than others."""
    rng = np.random.default_rng(seed)
    syllables = np.maximum(np.sin(np.arange(num_samples) / 1500), 0) * np.sin(np.arange(num_samples) / 20000 + 1)
    return (0.2 * syllables * rng.standard_normal(num_samples)).astype(np.float32)


def transformers_features(samples: np.ndarray, n_mels: int) -> np.ndarray:
    return EXTRACTORS[n_mels](samples, sampling_rate=16000, return_tensors="np").input_features[0]  # (M, 3000)


def cut_of(num_samples: int, start: int = 0) -> MonoCut:
    recording = Recording("u", [AudioSource("file", [0], "u.wav")], 16000, num_samples, num_samples / 16000, [0])
    return MonoCut("u-0", start / 16000, (num_samples - start) / 16000, 0, [], None, recording)


def test_the_specs_sample_has_606_frames() -> None:
    assert num_frames(96938) == 606


@settings(max_examples=200)
@given(st.integers(1, 2_000_000))
def test_frames_are_counted_as_lhotse_counts_them(num_samples: int) -> None:
    from lhotse.utils import compute_num_frames

    assert num_frames(num_samples) == compute_num_frames(num_samples / 16000, 0.01, 16000)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("num_samples", LENGTHS)
def test_a_padded_batch_equals_transformers(num_samples: int, n_mels: int) -> None:
    samples = speech_like(num_samples)
    feats = log_mel(samples, n_mels, TAIL_FRAMES)
    batch, lengths = collate_features([feats], [num_frames(num_samples)], WHISPER_FRAMES)
    np.testing.assert_allclose(batch[0].numpy(), transformers_features(samples, n_mels), atol=1e-5, rtol=0)
    assert lengths.tolist() == [num_frames(num_samples)]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_stored_features_equal_transformers_within_their_precision(tmp_path, n_mels: int) -> None:
    for tick_power in (-5, -8, -10):
        with FeatureArchive(tmp_path / "feats-0.lca", tick_power) as archive:
            keys = [archive.add(log_mel(speech_like(n, n), n_mels, TAIL_FRAMES)) for n in LENGTHS]
        for num_samples, key in zip(LENGTHS, keys, strict=True):
            cut = cut_of(num_samples)
            cut.features = archive.describe(cut, n_mels, key)
            batch, _ = collate_features([load_stored(cut)], [num_frames(num_samples)], WHISPER_FRAMES)
            expected = transformers_features(speech_like(num_samples, num_samples), n_mels)
            np.testing.assert_allclose(batch[0].numpy(), expected, atol=2 ** (tick_power - 1) + 1e-5, rtol=0)


def test_lhotse_reads_what_is_stored_and_no_tail(tmp_path) -> None:
    feats = log_mel(speech_like(96938), 80, TAIL_FRAMES)
    with FeatureArchive(tmp_path / "feats-0.lca") as archive:
        key = archive.add(feats)
    cut = cut_of(96938)
    cut.features = archive.describe(cut, 80, key)
    assert cut.load_features().shape == (606, 80)
    assert len(key.split(",")) == 3  # an offset and two chunks, as in the spec's sample
    # a piece of the cut, with the tail only where the audio ends
    late = cut.truncate(offset=2.0)
    np.testing.assert_array_equal(load_stored(late), load_stored(cut)[200:])
    assert len(load_stored(cut.truncate(duration=2.0))) == 200


def test_storing_leaves_the_features_as_they_were(tmp_path) -> None:
    feats = log_mel(speech_like(5000), 80)
    before = feats.copy()
    with FeatureArchive(tmp_path / "feats-0.lca", -5) as archive:
        archive.add(feats)  # lilcom rounds its input in place
    np.testing.assert_array_equal(feats, before)


def test_a_torn_archive_and_wrong_mels_are_named(tmp_path) -> None:
    with FeatureArchive(tmp_path / "feats-0.lca") as archive:
        key = archive.add(log_mel(speech_like(96938)))
    cut = cut_of(96938)
    cut.features = archive.describe(cut, 80, key)
    check_stored(cut, 80)
    with pytest.raises(DataError, match="80 mel bins, the model needs 128"):
        check_stored(cut, 128)
    (tmp_path / "feats-0.lca").write_bytes((tmp_path / "feats-0.lca").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"u-0.*feats-0\.lca"):
        load_stored(cut)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_a_batch_is_its_utterances(n_mels: int) -> None:
    waves = [speech_like(n, n) for n in (333, 96938, 5000, 480000, 160)]
    for wave, feats in zip(waves, log_mel_batch(waves, n_mels, 1), strict=True):
        np.testing.assert_allclose(feats, log_mel(wave, n_mels, 1), atol=1e-6)


def test_short_batches_are_padded_with_each_utterances_silence() -> None:
    loud, quiet = speech_like(16000), 1e-4 * speech_like(8000, 1)
    feats = [log_mel(loud, tail=2), log_mel(quiet, tail=2)]
    batch, lengths = collate_features(feats, [100, 50], None)
    assert batch.shape == (2, 80, 100) and lengths.tolist() == [100, 50]
    np.testing.assert_array_equal(batch[1, :, :50].T, feats[1][:50])
    assert (batch[1, :, 50:] == floor_value(feats[1])).all()


def test_silence_is_the_floor() -> None:
    feats = log_mel(np.zeros(1000, dtype=np.float32))
    assert (feats == -1.5).all() and floor_value(feats) == -1.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 8000, 15999])
def test_broken_samples_are_an_error_wherever_they_are(value: float, place: int) -> None:
    samples = speech_like(16000)
    samples[place] = value
    with pytest.raises(DataError, match="NaN or infinite"):
        log_mel(samples)


def test_wrong_input_is_named() -> None:
    with pytest.raises(DataError, match="0 samples"):
        log_mel(np.zeros(0, dtype=np.float32))
    with pytest.raises(DataError, match=r"\(2, 100\)"):
        log_mel(np.zeros((2, 100), dtype=np.float32))
    with pytest.raises(ConfigError, match="num_mel_bins is 100"):
        log_mel(np.zeros(500, dtype=np.float32), 100)
    with pytest.raises(DataError, match="3100 frames"):
        collate_features([np.zeros((3100, 80), dtype=np.float32)], [3100], WHISPER_FRAMES)


def test_lhotse_mixes_stored_features_with_our_arithmetic() -> None:
    ours = create_default_feature_extractor("whisper-fbank")
    assert isinstance(ours, WhisperLogMel)
    feats = log_mel(speech_like(16000))
    assert ours.extract(speech_like(16000)[None], 16000).shape == (100, 80)
    # a signal mixed with itself at equal level has twice the power: 3 dB, and 40 dB is 1.0 in this scale
    np.testing.assert_allclose(ours.mix(feats, feats, 1.0) - feats, np.log10(2) / 4, atol=1e-5)
    inside = feats > -1.4
    np.testing.assert_allclose((ours.scale(feats, 10.0) - feats)[inside], 0.25, atol=1e-5)
    assert ours.compute_energy(ours.scale(feats, 10.0)) == pytest.approx(10 * ours.compute_energy(feats), rel=1e-3)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_energies_of_features_are_in_the_ratio_of_the_waves(n_mels: int) -> None:
    def tone(hertz: float) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)

    energies = [WhisperLogMel.compute_energy(log_mel(tone(hertz), n_mels)) for hertz in (150, 440, 1000, 3000, 7000)]
    assert max(energies) / min(energies) < 1.3  # unweighed Slaney bands: 5 and more
