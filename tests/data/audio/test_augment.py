"""Draws are a function of seed, epoch and utterance; effects do what they say; masks stay inside the utterance."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource

from egrecho_inner.data.audio import effects
from egrecho_inner.data.audio.augment import Augmenter, draw_masks, spec_augment
from egrecho_inner.data.audio.features import TAIL_FRAMES, WhisperLogMel, log_mel, num_frames
from egrecho_inner.data.audio.noises import Noises, mix_features
from egrecho_inner.data.batches.options import (
    AugmentOptions,
    MusanOptions,
    ReverbOptions,
    SpecAugmentOptions,
    SpeedOptions,
    TelephoneOptions,
    VolumeOptions,
)
from egrecho_inner.errors import ConfigError, DataError


def voice(num_samples: int, seed: int = 0) -> np.ndarray:
    """A harmonic tone in syllables."""
    rng = np.random.default_rng(seed)
    times = np.arange(num_samples) / 16000
    tone = sum(np.sin(2 * np.pi * 120 * k * times + rng.uniform(0, 6)) / k for k in range(1, 30))
    return (0.1 * tone * np.maximum(np.sin(2 * np.pi * 3 * times), 0.01)).astype(np.float32)


@pytest.fixture
def noise_cuts(tmp_path) -> str:
    """A manifest of two noises, a music and five voices."""
    lines = []
    for part, count in (("noise", 2), ("music", 1), ("speech", 5)):
        for index in range(count):
            name = f"{part}-{index}"
            samples = 0.05 * np.random.default_rng(len(lines)).standard_normal(96000)
            soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
            source = AudioSource("file", [0], str(tmp_path / f"{name}.wav"))
            recording = Recording(name, [source], 16000, 96000, 6.0, [0])
            cut = MonoCut(f"{name}-0", 0, 6.0, 0, [], None, recording, custom={"part": part})
            lines.append(json.dumps(cut.to_dict()))
    (tmp_path / "musan_cuts.jsonl").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "musan_cuts.jsonl")


@pytest.fixture
def everything(noise_cuts, tmp_path) -> AugmentOptions:
    (tmp_path / "rooms").mkdir()
    room = np.zeros(8000)
    room[100], room[900] = 1.0, 0.4
    soundfile.write(tmp_path / "rooms" / "a.wav", room, 16000)
    return AugmentOptions(
        speed=SpeedOptions(),
        reverb=ReverbOptions(str(tmp_path / "rooms"), probability=1),
        musan=MusanOptions(noise_cuts, probability=1),
        telephone=TelephoneOptions(probability=0.5),
        volume=VolumeOptions(probability=1),
        spec_augment=SpecAugmentOptions(probability=1, time_warp=10),
    )


def augment(augmenter: Augmenter, utterance_id: str, epoch: int) -> np.ndarray:
    samples = augmenter.wave(voice(20000), utterance_id, epoch)
    return augmenter.features(log_mel(samples, tail=TAIL_FRAMES), utterance_id, epoch)


def test_a_resumed_run_sees_the_same_and_a_new_epoch_something_new(everything) -> None:
    one, other = Augmenter(everything, seed=1), Augmenter(everything, seed=1)
    for epoch in (3, 0):  # in another order than the first run
        augment(other, "b", epoch)
    for epoch in (0, 3):
        np.testing.assert_array_equal(augment(one, "a", epoch), augment(other, "a", epoch))
    results = [augment(one, "a", epoch) for epoch in range(3)] + [augment(one, "b", 0)]
    results.append(augment(Augmenter(everything, seed=2), "a", 0))
    for index, result in enumerate(results):
        assert not any(np.array_equal(result, earlier) for earlier in results[:index])


def test_switching_one_effect_off_leaves_the_others_draws(everything) -> None:
    whole = Augmenter(everything, 0)
    without = Augmenter(replace(everything, reverb=None), 0)
    assert [whole.speed(str(i), 2) for i in range(50)] == [without.speed(str(i), 2) for i in range(50)]
    loud = replace(everything, **{name: None for name in ("speed", "reverb", "musan", "telephone")})
    noisy = replace(loud, musan=everything.musan)
    samples = voice(16000)
    difference = Augmenter(noisy, 0).wave(samples, "a", 0) - Augmenter(loud, 0).wave(samples, "a", 0)
    gain = np.linalg.norm(Augmenter(loud, 0).wave(samples, "a", 0)) / np.linalg.norm(samples)
    snr = 20 * np.log10(np.linalg.norm(samples) * gain / np.linalg.norm(difference))
    assert 10 <= snr <= 20  # the same volume in both, so the difference is the noise alone


def test_each_effect_is_off_by_null(everything) -> None:
    nothing = AugmentOptions(spec_augment=None)
    assert not Augmenter(nothing, 0).needs_wave
    samples = voice(16000)
    np.testing.assert_array_equal(Augmenter(nothing, 0).wave(samples, "a", 0), samples)
    feats = log_mel(samples)
    np.testing.assert_array_equal(Augmenter(nothing, 0).features(feats, "a", 0), feats)
    for option in fields(AugmentOptions):
        only = replace(nothing, **{option.name: getattr(everything, option.name)})
        # rows of several cuts are made by the plan, before anything is done to their audio
        assert Augmenter(only, 0).needs_wave == (option.name not in ("spec_augment", "concatenate"))


def test_all_three_speeds_come_and_none_passes_30_seconds() -> None:
    augmenter = Augmenter(AugmentOptions(speed=SpeedOptions()), 0)
    lengths = {len(augmenter.wave(voice(16000), str(i), 0)) for i in range(30)}
    assert lengths == {17778, 16000, 14545}  # as lhotse's perturb_speed counts them
    long = np.zeros(28 * 16000, dtype=np.float32)
    assert max(len(augmenter.wave(long, str(i), 0)) for i in range(30)) == len(long)
    assert len(augmenter.wave(voice(16000), "a", 0, speed=0.9)) == 17778


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0, 20.0])
def test_waves_are_mixed_at_the_ratio(snr: float) -> None:
    speech, noise = voice(16000), np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    added = effects.mix(speech, noise, snr) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(snr, abs=1e-2)
    silence = np.zeros(16000, dtype=np.float32)
    np.testing.assert_array_equal(effects.mix(speech, silence, snr), speech)


def test_reverberation_keeps_place_length_and_energy() -> None:
    click = np.zeros(4000, dtype=np.float32)
    click[1000] = 1
    room = np.zeros(3000, dtype=np.float32)
    room[[50, 800]] = (0.5, 0.25)
    wet = effects.reverberate(click, room)
    assert len(wet) == 4000 and wet.argmax() == 1000 and wet[1750] > 0.3
    assert np.sum(wet**2) == pytest.approx(1)


def test_the_telephone_band_is_narrow() -> None:
    def through(hertz: float) -> float:
        tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000).astype(np.float32)
        return float(np.sqrt(2 * np.mean(effects.telephone(tone)[2000:-2000] ** 2)))

    assert through(1000) == pytest.approx(1, abs=0.05)
    assert through(60) < 0.1 and through(5000) < 0.1
    assert len(effects.telephone(voice(15999))) == 15999


def test_babble_is_many_voices_and_noise_fills_any_length(noise_cuts) -> None:
    noises, rng = Noises(noise_cuts, ("noise", "music", "babble")), np.random.default_rng(0)
    for kind in ("noise", "music", "babble"):
        for num_samples in (100, 96000, 300001):
            assert noises.wave(kind, num_samples, rng).shape == (num_samples,)
        assert noises.features(kind, 1234, 128, rng).shape == (1234, 128)


@pytest.mark.parametrize("snr", [0.0, 5.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_mixing_features_is_near_to_mixing_waves(snr: float, n_mels: int) -> None:
    rng = np.random.default_rng(1)
    speech = voice(50000)
    noise = np.convolve(rng.standard_normal(60000), [1, 0.9, 0.8], "same")[:50000].astype(np.float32)
    waves = log_mel(effects.mix(speech, noise, snr), n_mels, TAIL_FRAMES)
    stored = mix_features(log_mel(speech, n_mels, TAIL_FRAMES), log_mel(noise, n_mels), snr)
    assert stored.shape == waves.shape
    error = stored - waves
    # 0.03 is 1.2 dB, the phases that features do not have; lhotse's own mix is 0.2 to 0.5 away
    assert np.abs(error[:-TAIL_FRAMES]).mean() < 0.03
    assert abs(error.mean()) < 0.015
    assert np.abs(error[-TAIL_FRAMES:]).mean() < 0.4  # 50000 is the worst length: no frame tells 5 ms


def test_noise_below_the_mel_bands_is_mixed_louder_into_features() -> None:
    """docs/features.md has the figures, benchmarks/feature_mixing.py prints them."""
    rng, speech = np.random.default_rng(1), voice(50000)
    hertz = np.fft.rfftfreq(50000, 1 / 16000)
    for slope, low, high in ((0, -0.2, 0.2), (1, 1.0, 2.1), (2, 4.0, 5.0)):  # white, pink, brown
        spectrum = np.fft.rfft(rng.standard_normal(50000)) / np.maximum(hertz, 1) ** (slope / 2)
        noise = np.fft.irfft(spectrum, 50000).astype(np.float32)
        clean, added = (WhisperLogMel.compute_energy(log_mel(wave)) for wave in (speech, noise))
        louder = 10 * np.log10(clean / added / (np.square(speech).mean() / np.square(noise).mean()))
        assert low < louder < high, f"1/f^{slope}: {louder:.2f} dB"


def test_stored_features_get_noise_without_their_waves(noise_cuts) -> None:
    options = AugmentOptions(musan=MusanOptions(noise_cuts, probability=1, stored=True), spec_augment=None)
    augmenter = Augmenter(options, 0)
    assert not augmenter.needs_wave
    feats = log_mel(voice(30000), tail=TAIL_FRAMES)
    np.testing.assert_array_equal(augmenter.wave(voice(30000), "a", 0), voice(30000))
    noisy = augmenter.features(feats, "a", 0)
    assert noisy.shape == feats.shape and noisy.mean() > feats.mean() + 0.05


@pytest.mark.parametrize("num_samples", [200, 1600, 8000, 96938])
def test_masks_hold_the_mean_of_the_utterance_and_leave_its_tail(num_samples: int) -> None:
    feats = log_mel(voice(num_samples), tail=TAIL_FRAMES)
    length = num_frames(num_samples)
    augmenter = Augmenter(AugmentOptions(spec_augment=SpecAugmentOptions(probability=1)), 0)
    for epoch in range(20):
        masked = augmenter.features(feats, "a", epoch)
        np.testing.assert_array_equal(masked[length:], feats[length:])
        changed = masked[:length] != feats[:length]
        np.testing.assert_allclose(masked[:length][changed], feats[:length].mean(), rtol=1e-5)


def test_time_masks_cover_no_more_than_their_share() -> None:
    options = SpecAugmentOptions(feature_masks=0)
    feats = np.random.default_rng(0).standard_normal((1000, 80)).astype(np.float32)
    covered = [
        (spec_augment(feats, draw_masks(1000, 80, np.random.default_rng(seed), options)) != feats).any(axis=1).mean()
        for seed in range(200)
    ]
    assert max(covered) <= 0.15 and np.mean(covered) > 0.03


def test_warping_moves_time_and_nothing_else() -> None:
    options = SpecAugmentOptions(time_masks=0, feature_masks=0, time_warp=50)
    ramp = np.repeat(np.linspace(-1, 1, 500, dtype=np.float32)[:, None], 80, axis=1)
    warped = spec_augment(ramp, draw_masks(*ramp.shape, np.random.default_rng(0), options))
    assert warped.shape == ramp.shape and not np.array_equal(warped, ramp)
    assert (np.diff(warped[:, 0]) > 0).all() and warped[0, 0] == -1 and warped[-1, 0] == pytest.approx(1)


def test_wrong_options_are_named(noise_cuts, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"volume.probability is 1.5"):
        Augmenter(AugmentOptions(volume=VolumeOptions(probability=1.5)), 0)
    with pytest.raises(ConfigError, match="lower ratio first"):
        Augmenter(AugmentOptions(musan=MusanOptions(noise_cuts, snr=(20.0, 10.0))), 0)
    with pytest.raises(DataError, match="no audio files"):
        Augmenter(AugmentOptions(reverb=ReverbOptions(str(tmp_path / "empty"))), 0)
    lines = [line for line in Path(noise_cuts).read_text().splitlines() if '"part": "speech"' not in line]
    (tmp_path / "noise_only.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="leave babble out"):
        Noises(str(tmp_path / "noise_only.jsonl"), ("noise", "babble"))
