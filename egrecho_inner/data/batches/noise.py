"""Which cuts an epoch replaces by silence or noise, and by which: what teaches a model to write nothing.

In: a share, a seed. Out: for a cut and an epoch a decision and a wave, pure functions of (seed, epoch, id), so that a
resumed run is the same run. Left out: recorded noise, which `augment.musan` mixes into speech.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from lhotse.cut import Cut

LOUDEST, SOFTEST = 0.1, 0.001
"""Standard deviations of noise: -20 to -60 dB of full scale."""
STREAM = 1
"""Apart from other draws for the same seed, epoch and cut (`targets.choose`)."""


@dataclass(frozen=True)
class Noise:
    """Which cuts are replaced by noise in which epoch."""

    share: float = 0.0
    seed: int = 0

    def replaces(self, cut: Cut, epoch: int) -> bool:
        """Return whether a cut is replaced in an epoch."""
        # not the checksum itself: of ids that differ in the epoch alone it differs by one pattern of bits
        rng = np.random.default_rng([self.seed, epoch, crc32(cut.id.encode()), STREAM])
        return bool(rng.random() < self.share)

    def wave(self, cut: Cut, epoch: int) -> np.ndarray:
        """Return silence, or white or brown noise, as long as a cut (N,)."""
        rng = np.random.default_rng(crc32(repr((self.seed, epoch, cut.id)).encode()))
        kind, level = rng.integers(3), np.exp(rng.uniform(np.log(SOFTEST), np.log(LOUDEST)))
        wave = rng.standard_normal(cut.num_samples)
        if kind == 0:
            return np.zeros(cut.num_samples, dtype=np.float32)
        if kind == 1:
            wave = np.cumsum(wave - wave.mean())
            wave /= max(float(wave.std()), 1e-9)
        return (level * wave).clip(-1, 1).astype(np.float32)
