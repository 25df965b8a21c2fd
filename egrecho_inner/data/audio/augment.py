"""Augmentation: which effects an utterance gets, as options of a few lines, each off by setting it to null.

In: waves (N,) or features (T + tail, M), the utterance's id, the epoch. Out: the same, changed. Every draw is a pure
function of (seed, epoch, utterance id, effect): fresh each epoch, the same in a resumed run and on any number of
workers, and switching one effect off leaves the draws of the others as they were.
Order on the wave: speed, reverberation, noise, telephone, volume; then features: noise if asked for there, SpecAugment.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np
import soundfile
from lhotse.augmentation import Resample

from egrecho_inner.data.audio import effects
from egrecho_inner.data.audio.features import HOP, TAIL_FRAMES
from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.data.audio.noises import Noises, mix_features
from egrecho_inner.data.batches.options import AugmentOptions, SpecAugmentOptions
from egrecho_inner.errors import DataError
from egrecho_inner.text.constants import WHISPER_FRAMES


class Augmenter:
    """Applies the options; holds the noise list, no other state.

    Args:
        options: What to do.
        seed: Of the run.
    """

    def __init__(self, options: AugmentOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        self.noises = Noises(options.musan.cuts, options.musan.kinds) if options.musan else None
        self.rooms = _impulse_responses(options.reverb.folder) if options.reverb else []

    @property
    def needs_wave(self) -> bool:
        """Tell whether stored features will not do."""
        options = self.options
        on_wave = options.musan is not None and not options.musan.stored
        return on_wave or any((options.speed, options.reverb, options.telephone, options.volume))

    @property
    def mixes_stored(self) -> bool:
        """Tell whether noise is added to features, not to waves."""
        return self.options.musan is not None and self.options.musan.stored

    def wave(self, samples: np.ndarray, utterance_id: str, epoch: int, speed: float | None = None) -> np.ndarray:
        """Change a wave (N,).

        Args:
            samples: At 16 kHz.
            utterance_id: Of the cut.
            epoch: From 0.
            speed: Take this factor instead of drawing one.
        """
        options = self.options
        if speed is None:
            speed = self.speed(utterance_id, epoch)
        samples = effects.change_speed(samples, applied(speed, len(samples)))
        if rng := self._turn(options.reverb, "reverb", utterance_id, epoch):
            samples = effects.reverberate(samples, _load_response(self.rooms[rng.integers(len(self.rooms))]))
        if (rng := self._turn(options.musan, "musan", utterance_id, epoch)) and not options.musan.stored:
            noise = self.noises.wave(_choose(rng, options.musan.kinds), len(samples), rng)
            samples = effects.mix(samples, noise, rng.uniform(*options.musan.snr))
        if self._turn(options.telephone, "telephone", utterance_id, epoch):
            samples = effects.telephone(samples, options.telephone.mu_law)
        if rng := self._turn(options.volume, "volume", utterance_id, epoch):
            samples = effects.change_volume(samples, rng.uniform(*options.volume.decibels))
        return samples

    def features(self, feats: np.ndarray, utterance_id: str, epoch: int, num_frames: int | None = None) -> np.ndarray:
        """Change features (T + tail, M).

        Args:
            feats: In Whisper's scale.
            utterance_id: Of the cut.
            epoch: From 0.
            num_frames: T, where the tail is not of `TAIL_FRAMES`.
        """
        options = self.options
        length = max(1, len(feats) - TAIL_FRAMES) if num_frames is None else num_frames
        if (rng := self._turn(options.musan, "musan", utterance_id, epoch)) and options.musan.stored:
            noise = self.noises.features(_choose(rng, options.musan.kinds), length, feats.shape[1], rng)
            feats = mix_features(feats, noise, rng.uniform(*options.musan.snr))
        if masks := self.masks(utterance_id, epoch, length, feats.shape[1]):
            feats = np.concatenate([spec_augment(feats[:length], masks), feats[length:]])
        return feats

    def masks(self, utterance_id: str, epoch: int, frames: int, bins: int) -> "SpecMasks | None":
        """Draw SpecAugment's masks of an utterance, if it is its turn."""
        options = self.options.spec_augment
        rng = self._turn(options, "spec_augment", utterance_id, epoch)
        return draw_masks(frames, bins, rng, options) if rng else None

    def speed(self, utterance_id: str, epoch: int) -> float:
        """Draw the factor that `wave` will use."""
        if self.options.speed is None:
            return 1.0
        return _choose(self._rng("speed", utterance_id, epoch), self.options.speed.factors)

    def _rng(self, effect: str, utterance_id: str, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, crc32(utterance_id.encode()), crc32(effect.encode())])

    def _turn(self, options: object, effect: str, utterance_id: str, epoch: int) -> np.random.Generator | None:
        """Give the generator of an effect when it is this utterance's turn to get it."""
        if options is None:
            return None
        rng = self._rng(effect, utterance_id, epoch)
        return rng if rng.random() < options.probability else None


def applied(speed: float, num_samples: int) -> float:
    """Return the speed at which an utterance is played: its own where it would become longer than the window."""
    return speed if num_samples / speed <= WHISPER_FRAMES * HOP else 1.0


class SpecMasks(NamedTuple):
    """What SpecAugment does to one utterance (T, M); Park et al. 2019, arXiv:1904.08779."""

    source: np.ndarray | None
    """Where each frame is taken from, between frames (T,); None without a warp."""
    times: list[tuple[int, int]]
    """First frame and width of each mask over time."""
    bins: list[tuple[int, int]]
    """First bin and width of each mask over frequency."""


def draw_masks(frames: int, bins: int, rng: np.random.Generator, options: SpecAugmentOptions) -> SpecMasks:
    """Draw what SpecAugment does to an utterance of a length."""
    source = _draw_warp(frames, rng, options.time_warp) if options.time_warp else None
    covered = int(options.time_share * frames)
    masks = min(options.time_masks, -(-covered // max(options.time_width, 1)))
    times, bands = [], []
    for _ in range(masks):
        width = int(rng.integers(min(options.time_width, covered // masks) + 1))
        times.append((int(rng.integers(frames - width + 1)), width))
    for _ in range(options.feature_masks):
        width = int(rng.integers(min(options.feature_width, bins) + 1))
        bands.append((int(rng.integers(bins - width + 1)), width))
    return SpecMasks(source, times, bands)


def spec_augment(feats: np.ndarray, masks: SpecMasks) -> np.ndarray:
    """Warp and mask the features of one utterance (T, M); its input is left as it was."""
    feats = feats.copy() if masks.source is None else _warp(feats, masks.source)
    mean = feats.mean()
    for begin, width in masks.times:
        feats[begin : begin + width] = mean
    for begin, width in masks.bins:
        feats[:, begin : begin + width] = mean
    return feats


def _draw_warp(frames: int, rng: np.random.Generator, most: int) -> np.ndarray | None:
    """Draw where frames come from when one inner frame moves by at most `most`."""
    if frames < 2 * most + 2:
        return None
    centre = int(rng.integers(most + 1, frames - most))
    moved = centre + int(rng.integers(-most, most + 1))
    return np.interp(np.arange(frames), [0, moved, frames - 1], [0, centre, frames - 1]).astype(np.float32)


def _warp(feats: np.ndarray, source: np.ndarray) -> np.ndarray:
    low = np.minimum(source.astype(int), len(feats) - 2)
    share = (source - low)[:, None]
    return feats[low] * (1 - share) + feats[low + 1] * share


def _choose(rng: np.random.Generator, items: tuple) -> object:
    return items[rng.integers(len(items))]


def _impulse_responses(folder: str) -> list[str]:
    formats = {f".{name.lower()}" for name in soundfile.available_formats()}
    found = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in formats)
    if not found:
        raise DataError(f"{folder}: no audio files in it; augment.reverb.folder must hold impulse responses")
    return found


@lru_cache(maxsize=256)
def _load_response(path: str) -> np.ndarray:
    """Load the first channel of an impulse response at 16 kHz."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: not an impulse response that can be read ({error}); remove it") from error
    samples = samples[:, :1].T
    if not samples.any():
        raise DataError(f"{path}: this impulse response is silent; remove it")
    return (samples if rate == SAMPLING_RATE else Resample(rate, SAMPLING_RATE)(samples))[0]
