"""From clean synthetic speech to something a telephone, a room or a cheap microphone might have recorded.

In: int16 samples of any rate. Out: int16 at 16 kHz. `clean` only resamples, trims eSpeak's own silence and varies the
level; `varied` adds, each by chance: a tone control, a small room, an 8 kHz channel, silence around and noise behind.
A nano model that has only met clean 16 kHz speech does not recognise people; one that has met this begins to.
No recorded noise or room responses: all is drawn from the generator given, so the same seed gives the same samples.
"""

from typing import Literal

import numpy as np
from scipy.signal import fftconvolve, firwin2, resample_poly

SAMPLING_RATE = 16_000

Acoustics = Literal["clean", "varied"]


def record(samples: np.ndarray, rate: int, acoustics: Acoustics, rng: np.random.Generator) -> np.ndarray:
    """Turn synthetic speech into a 16 kHz recording.

    Args:
        samples: int16 (num_samples,), one utterance.
        rate: its sampling rate in Hz.
        acoustics: `clean` or `varied`.
        rng: the source of chance.

    Returns:
        int16 (num_samples at 16 kHz,).
    """
    wave = _resample(_trim(samples.astype(np.float64) / 32768), rate)
    if acoustics == "varied":
        wave = _vary(wave, rng)
    else:
        wave = _surround(wave, rng, longest=0.2)
    peak = 10 ** (rng.uniform(-24, -1) / 20)
    return np.round(wave * (peak / max(np.abs(wave).max(), 1e-9)) * 32767).astype(np.int16)


def _vary(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.6:
        wave = _equalise(wave, rng)
    if rng.random() < 0.4:
        wave = _reverberate(wave, rng)
    if rng.random() < 0.7:
        wave = _surround(wave, rng, longest=0.3)
    if rng.random() < 0.75:
        wave = _add_noise(wave, rng)
    if rng.random() < 0.5:  # an 8 kHz recording, as the telephone and much old data have it
        wave = resample_poly(resample_poly(wave, 1, 2), 2, 1)
    return wave


def _resample(wave: np.ndarray, rate: int) -> np.ndarray:
    common = np.gcd(SAMPLING_RATE, rate)
    return resample_poly(wave, SAMPLING_RATE // common, rate // common)


def _trim(wave: np.ndarray, threshold: float = 0.02) -> np.ndarray:
    """Cut leading and trailing samples below a share of the peak."""
    loud = np.flatnonzero(np.abs(wave) > threshold * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave


def _surround(wave: np.ndarray, rng: np.random.Generator, longest: float) -> np.ndarray:
    before, after = (int(rng.uniform(0, longest) * SAMPLING_RATE) for _ in range(2))
    return np.pad(wave, (before, after))


def _equalise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Filter with a smooth random curve of up to +-9 dB."""
    bands = np.array([0, 150, 400, 1000, 2200, 4000, 8000]) / (SAMPLING_RATE / 2)
    gains = 10 ** (rng.uniform(-9, 9, len(bands)) / 20)
    return fftconvolve(wave, firwin2(257, bands, gains), mode="same")


def _reverberate(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a direct sound and an exponentially decaying tail (60 dB in 0.1 to 0.4 s)."""
    decay = rng.uniform(0.1, 0.4)
    time = np.arange(int(decay * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail *= 10 ** (rng.uniform(-20, -5) / 20) / np.sqrt(np.sum(tail**2))  # energy of the room below the direct sound
    tail[0] += 1
    return fftconvolve(wave, tail)[: len(wave) + int(0.05 * SAMPLING_RATE)]


def _add_noise(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise with a spectrum between white and brown at 15 to 40 dB under the speech."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(wave))
    ratio = 10 ** (-rng.uniform(15, 40) / 20)
    return wave + noise * (ratio * np.sqrt(np.mean(wave**2) / max(np.mean(noise**2), 1e-12)))
