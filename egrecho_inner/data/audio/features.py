"""Whisper's log-mel features, equal to `transformers.WhisperFeatureExtractor` without computing 30 s of padding.

In: mono waves (N,) at 16 kHz. Out: float32 (T, M) in Whisper's scale y = (log10(power) + 4) / 4.
Transformers pads the wave with zeros to 30 s first; every frame behind the audio then has one value, `floor_value`.
So only the frames that touch audio are computed: `num_frames` of them, and a tail of `TAIL_FRAMES` behind those whose
window still reaches back to the last samples. Stored with its tail, an utterance can be padded to 30 s exactly.
Left out: dither, and the truncation at 30 s (a longer wave gives more frames).

Letters: B utterances, T frames, M mel bins, N samples.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
from lhotse.features.base import FeatureExtractor, register_extractor
from transformers.audio_utils import mel_filter_bank

from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import WHISPER_FRAMES

SAMPLING_RATE = 16000
HOP = 160
WINDOW = 400
TAIL_FRAMES = 2
FLOOR = -1.5  # Whisper clamps power at 1e-10: (log10(1e-10) + 4) / 4
DYNAMIC_RANGE = 2.0  # and log10 power at 8 under the utterance's maximum: 8 / 4

_FRAMES_AT_ONCE = 512  # 0.8 MB of windows: fits a core's level-2 cache
_MELS_AT_ONCE = 16  # the filters are a band around the diagonal: multiplying by blocks skips most of the zeros


def num_frames(num_samples: int) -> int:
    """Count the 10 ms frames of a wave, half a frame rounded up (96938 samples -> 606)."""
    return (num_samples + HOP // 2) // HOP


def floor_value(feats: np.ndarray) -> float:
    """Give the value that digital silence has in Whisper's scale beside these features."""
    return max(float(feats.max()) - DYNAMIC_RANGE, FLOOR)


def log_mel(samples: np.ndarray | torch.Tensor, n_mels: int = 80, tail: int = 0) -> np.ndarray:
    """Compute one utterance's features.

    Args:
        samples: (N,) mono wave at 16 kHz.
        n_mels: 80, or 128 for large-v3.
        tail: Frames to give after `num_frames(N)`, at most `TAIL_FRAMES`.

    Returns:
        (num_frames(N) + tail, n_mels) float32.
    """
    return log_mel_batch([samples], n_mels, tail)[0]


def log_mel_batch(waves: Sequence[np.ndarray | torch.Tensor], n_mels: int = 80, tail: int = 0) -> list[np.ndarray]:
    """Compute the features of several utterances, each as `log_mel` would alone."""
    if not 0 <= tail <= TAIL_FRAMES:
        raise ValueError(f"tail must be 0..{TAIL_FRAMES}, got {tail}")
    waves = [_as_wave(wave, position) for position, wave in enumerate(waves)]
    counts = [num_frames(len(wave)) + TAIL_FRAMES for wave in waves]
    slots = [count + 2 for count in counts]  # frames apart: 2 more hops hold the rest of the last window
    buffer = np.zeros(sum(slots) * HOP + WINDOW, dtype=np.float32)
    begins = np.cumsum([0, *slots])
    for wave, begin in zip(waves, begins, strict=False):
        _lay(wave, buffer[begin * HOP :])
    feats = _mel_in_whispers_scale(buffer, int(begins[-1]), n_mels)
    return [
        _limit(feats[begin : begin + count], len(wave), position)[: count - TAIL_FRAMES + tail]
        for position, (wave, begin, count) in enumerate(zip(waves, begins, counts, strict=False))
    ]


def collate_features(
    feats: Sequence[np.ndarray], lengths: Sequence[int], window_frames: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad utterances into one batch with Whisper's features of silence.

    Args:
        feats: Per utterance (T_i, M), T_i at least its length; further rows are its tail.
        lengths: True frames per utterance.
        window_frames: 3000 gives what Transformers' extractor gives; None pads to the longest utterance, tails dropped.

    Returns:
        features (B, M, T) float32 and lengths (B,) int64.
    """
    longest = max(lengths)
    if window_frames is not None and longest > window_frames:
        raise DataError(
            f"an utterance of {longest} frames does not fit the window of {window_frames} frames; "
            "leave out utterances over 30 s, or cut them"
        )
    width = longest if window_frames is None else window_frames
    batch = torch.empty(len(feats), feats[0].shape[1], width, dtype=torch.float32)  # (B, M, T)
    for row, feat, length in zip(batch, feats, lengths, strict=True):
        keep = min(length if window_frames is None else len(feat), width)
        row[:, :keep] = torch.from_numpy(np.asarray(feat[:keep])).T
        row[:, keep:] = floor_value(feat)
    return batch, torch.tensor(lengths, dtype=torch.int64)


@lru_cache(maxsize=4)
def mel_filters(n_mels: int) -> np.ndarray:
    """Give Whisper's triangular Slaney filters, (201, n_mels) float32."""
    if n_mels not in (80, 128):
        raise ConfigError(f"num_mel_bins is {n_mels}; Whisper models have 80, or 128 for large-v3")
    filters = mel_filter_bank(201, n_mels, 0.0, 8000.0, SAMPLING_RATE, norm="slaney", mel_scale="slaney")
    return filters.astype(np.float32)


@dataclass
class WhisperLogMelConfig:
    """Options of `WhisperLogMel`, with the names of Lhotse's own extractor."""

    num_filters: int = 80
    device: str = "cpu"

    def to_dict(self) -> dict[str, int | str]:
        """Give the fields as Lhotse stores them."""
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, int | str]) -> "WhisperLogMelConfig":
        """Make the options from what `to_dict` gave."""
        return WhisperLogMelConfig(**data)


@register_extractor
class WhisperLogMel(FeatureExtractor):
    """Lhotse's face of `log_mel`, under the name that Lhotse's own extractor has.

    Registered last, it is what Lhotse asks to mix features of that type; Lhotse's own takes natural exponents of a
    base-10 scale, and needs librosa. Manifests written by either are read alike.
    """

    name = "whisper-fbank"
    config_type = WhisperLogMelConfig

    @property
    def frame_shift(self) -> float:
        """Give the seconds between frames."""
        return HOP / SAMPLING_RATE

    def feature_dim(self, sampling_rate: int) -> int:
        """Give the number of mel bins."""
        return self.config.num_filters

    @property
    def padding_value(self) -> float:
        """Give the value of digital silence in a loud utterance's absence."""
        return FLOOR

    def extract(self, samples: np.ndarray | torch.Tensor, sampling_rate: int) -> np.ndarray:
        """Compute (num_frames, M) features of a mono wave, (N,) or (1, N)."""
        if sampling_rate != SAMPLING_RATE:
            raise DataError(
                f"Whisper features need {SAMPLING_RATE} Hz, got {sampling_rate} Hz; resample the cuts first"
            )
        return log_mel(samples, self.config.num_filters)

    @staticmethod
    def mix(features_a: np.ndarray, features_b: np.ndarray, energy_scaling_factor_b: float) -> np.ndarray:
        """Add two signals' powers; the cross term, zero on average, is what mixing features cannot know."""
        mixed = from_power(to_power(features_a) + energy_scaling_factor_b * to_power(features_b))
        return np.maximum(mixed, floor_value(mixed))

    @staticmethod
    def compute_energy(features: np.ndarray) -> float:
        """Sum power over time and frequency, bands weighed so that ratios are those of the waves."""
        return max(float((to_power(features) @ _band_weights(features.shape[1])).sum()), 1e-10)

    @staticmethod
    def scale(features: np.ndarray, energy_scaling_factor: float) -> np.ndarray:
        """Scale a signal's power."""
        return np.maximum(features + np.float32(np.log10(energy_scaling_factor) / 4), FLOOR)


def to_power(features: np.ndarray) -> np.ndarray:
    """Give the mel power of features in Whisper's scale."""
    return np.power(np.float32(10), 4 * features - 4)


def from_power(power: np.ndarray) -> np.ndarray:
    """Give features in Whisper's scale of mel power."""
    return (np.log10(np.maximum(power, np.float32(1e-10))) + np.float32(4)) / np.float32(4)


@lru_cache(maxsize=4)
def _band_weights(n_mels: int) -> np.ndarray:
    """Weights w of the mel bands for which mel power @ w is nearest to the sum over all STFT bins."""
    # Slaney's filters have unit area: narrow low bands count a hertz up to ten times as much as wide high ones.
    filters = mel_filters(n_mels).astype(np.float64)
    return np.linalg.lstsq(filters, np.ones(len(filters)), rcond=None)[0].astype(np.float32)


def _as_wave(samples: np.ndarray | torch.Tensor, position: int) -> np.ndarray:
    """Give one utterance as a float32 (N,) array, or raise what is wrong with it."""
    wave = np.asarray(samples, dtype=np.float32)
    if wave.ndim == 2 and len(wave) == 1:
        wave = wave[0]
    if wave.ndim != 1:
        raise DataError(f"utterance {position} of the batch has shape {wave.shape}; expected one channel (samples,)")
    if not len(wave):
        raise DataError(f"utterance {position} of the batch has 0 samples; leave it out")
    return wave


def _lay(wave: np.ndarray, slot: np.ndarray) -> None:
    """Write a wave where the STFT's frames begin: mirrored in front, zeros behind."""
    half, n = WINDOW // 2, len(wave)
    slot[half : half + n] = wave
    slot[:half] = slot[WINDOW:half:-1]
    end = WHISPER_FRAMES * HOP
    if end - half < n <= end:  # at the end of 30 s there is no room for zeros: Transformers mirrors there
        slot[half + end : 2 * half + end] = slot[half + end - 2 : end - 2 : -1]


@torch.inference_mode()
def _mel_in_whispers_scale(buffer: np.ndarray, frames: int, n_mels: int) -> np.ndarray:
    """Give mel power (T, M) in Whisper's scale, unlimited, of the frames that begin at each hop of the buffer."""
    windows = torch.from_numpy(buffer).unfold(0, WINDOW, HOP)  # (T, N) view
    power = torch.empty(frames, n_mels)
    for begin in range(0, frames, _FRAMES_AT_ONCE):
        end = min(begin + _FRAMES_AT_ONCE, frames)
        spectrum = torch.fft.rfft(windows[begin:end] * _window())  # (T, 201) complex
        parts = spectrum.numpy().view(np.float32)  # real, imaginary, real, ...
        np.square(parts, out=parts)  # torch's complex abs would take roots
        bins = torch.from_numpy(parts[:, ::2] + parts[:, 1::2])
        for low, high, mels, block in _filter_blocks(n_mels):
            torch.mm(bins[:, low:high], block, out=power[begin:end, mels])
    with np.errstate(divide="ignore"):  # the log of silence is minus infinity until it meets the floor
        scaled = np.log(power.numpy(), out=power.numpy())  # numpy's log takes a third of the time of torch's or log10
    scaled *= np.float32(np.log10(np.e) / 4)
    return scaled


def _limit(feats: np.ndarray, num_samples: int, position: int) -> np.ndarray:
    """Raise what is far below one utterance's maximum, in place."""
    own = feats[:WHISPER_FRAMES] if num_samples <= WHISPER_FRAMES * HOP else feats
    maximum = own.max()
    if not maximum < np.inf:
        raise DataError(f"utterance {position} of the batch has NaN or infinite samples; leave it out")
    return np.maximum(feats, max(maximum - np.float32(DYNAMIC_RANGE), np.float32(FLOOR)), out=feats)


@lru_cache(maxsize=1)
def _window() -> torch.Tensor:
    return torch.hann_window(WINDOW)


@lru_cache(maxsize=4)
def _filter_blocks(n_mels: int) -> list[tuple[int, int, slice, torch.Tensor]]:
    """Cut the filter matrix into blocks (first bin, end bin, mels, weights) without its empty corners."""
    filters = torch.from_numpy(mel_filters(n_mels))
    blocks = []
    for begin in range(0, n_mels, _MELS_AT_ONCE):
        mels = slice(begin, min(begin + _MELS_AT_ONCE, n_mels))
        used = filters[:, mels].any(dim=1).nonzero()
        low, high = int(used[0]), int(used[-1]) + 1
        # times 10^4, which is the + 4 of Whisper's scale
        blocks.append((low, high, mels, 1e4 * filters[low:high, mels]))
    return blocks
