"""What can be done to a wave, as pure functions: speed, volume, mixing, telephone band, reverberation.

In and out: float32 (N,) at 16 kHz; the result is as long as the input, but for `change_speed`. Nothing is clipped:
features are computed from floats. Randomness is the caller's (`augment.py`).
"""

import numpy as np
from lhotse.augmentation import Speed
from lhotse.utils import perturb_num_samples
from scipy.signal import butter, oaconvolve, resample_poly, sosfilt

from egrecho_inner.data.audio.files import SAMPLING_RATE

TELEPHONE_BAND = butter(4, (300, 3400), "bandpass", fs=8000, output="sos")  # ITU-T G.712


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play a wave faster or slower, pitch and all, with the resampler that makes perturbed cuts."""
    if factor == 1.0:
        return samples
    return Speed(factor)(samples[None], SAMPLING_RATE)[0][: perturb_num_samples(len(samples), factor)]


def change_volume(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Amplify a wave."""
    return samples * np.float32(10 ** (decibels / 20))


def mix(samples: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise (N,) so that the mean powers have this ratio in dB; silence on either side changes nothing."""
    signal_power, noise_power = _power(samples), _power(noise)
    if signal_power == 0 or noise_power == 0:
        return samples
    return samples + noise * np.float32(np.sqrt(signal_power / noise_power * 10 ** (-snr / 10)))


def telephone(samples: np.ndarray, mu_law: bool = True) -> np.ndarray:
    """Send a wave through a telephone line: 8 kHz, 300-3400 Hz, 8-bit mu-law."""
    narrow = sosfilt(TELEPHONE_BAND, resample_poly(samples, 1, 2))
    if mu_law:
        narrow = _through_mu_law(narrow)
    return _fit(resample_poly(narrow, 2, 1), len(samples))


def reverberate(samples: np.ndarray, impulse_response: np.ndarray) -> np.ndarray:
    """Put a wave into a room: the direct path stays where it was, and the energy what it was."""
    direct = int(np.argmax(np.abs(impulse_response)))
    wet = _fit(oaconvolve(samples, impulse_response)[direct:], len(samples))
    power = _power(wet)
    return wet * np.float32(np.sqrt(_power(samples) / power)) if power > 0 else samples


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0


def _through_mu_law(samples: np.ndarray) -> np.ndarray:
    """Round to the 256 levels of G.711's curve; louder than full scale is limited, as a line does."""
    level = np.sign(samples) * np.log1p(255 * np.minimum(np.abs(samples), 1)) / np.log(256)
    level = np.round(level * 127) / 127
    return np.sign(level) * np.expm1(np.abs(level) * np.log(256)) / 255


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Trim or zero-pad to a length, as float32."""
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)
