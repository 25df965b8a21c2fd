"""Noise to mix into speech: drawn from a manifest of noise cuts (`musan_cuts.jsonl.gz`), as waves or as features.

In: a manifest whose cuts have `custom: {"part": "noise" | "music" | "speech"}`, a random generator. Out: noise of the
length asked for: `noise` or `music` as it is, or `babble`, a sum of three to seven voices of the part `speech`.
`mix_features` adds stored features in the domain of power; how far that is from mixing waves, see docs/features.md.
"""

import json

import numpy as np
from lhotse import MonoCut

from egrecho_inner.data.audio.features import (
    TAIL_FRAMES,
    WINDOW,
    WhisperLogMel,
    floor_value,
    from_power,
    log_mel,
    to_power,
)
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import check_stored, load_stored
from egrecho_inner.data.batches.options import Kind
from egrecho_inner.data.cuts.make import scan_manifest
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines

VOICES = (3, 7)  # of babble; Snyder et al. 2018, "X-vectors"

# An utterance's last window stands half over its end, the next one with its rim only: shares of a window's power there.
_HANN_POWER = np.cumsum(np.hanning(WINDOW + 1)[:WINDOW] ** 2)
TAIL_SHARES = (_HANN_POWER[[WINDOW // 2 - 1, WINDOW // 10 - 1]] / _HANN_POWER[-1]).astype(np.float32)


class Noises:
    """The noise cuts of one manifest, by part."""

    def __init__(self, cuts: str, kinds: tuple[Kind, ...]) -> None:
        scan_manifest(cuts)
        self.lines: dict[str, list[str]] = {}
        for line in read_lines(cuts):
            part = (json.loads(line).get("custom") or {}).get("part", "noise")
            self.lines.setdefault(part, []).append(line)
        for kind in kinds:
            if _part(kind) not in self.lines:
                raise DataError(f"{cuts}: no cut of the part {_part(kind)!r} for {kind}; leave {kind} out of the kinds")

    def wave(self, kind: Kind, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise as a wave (num_samples,)."""
        if kind != "babble":
            return self._one_wave(kind, num_samples, rng)
        voices = [self._one_wave("speech", num_samples, rng) for _ in range(rng.integers(VOICES[0], VOICES[1] + 1))]
        return np.sum([voice / max(float(np.sqrt(np.mean(voice**2))), 1e-5) for voice in voices], axis=0)

    def features(self, kind: Kind, frames: int, n_mels: int, rng: np.random.Generator) -> np.ndarray:
        """Draw noise as features (frames, n_mels)."""
        if kind != "babble":
            return self._one_feature(kind, frames, n_mels, rng)
        voices = [
            self._one_feature("speech", frames, n_mels, rng) for _ in range(rng.integers(VOICES[0], VOICES[1] + 1))
        ]
        power = sum(to_power(voice) / WhisperLogMel.compute_energy(voice) for voice in voices)
        return from_power(power / power.max())

    def _draw(self, part: str, rng: np.random.Generator) -> MonoCut:
        data = json.loads(self.lines[part][rng.integers(len(self.lines[part]))])
        data.pop("type")
        return MonoCut.from_dict(data)

    def _one_wave(self, part: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
        pieces, have = [], 0
        while have < num_samples:
            piece = load_audio(self._draw(part, rng))
            begin = int(rng.integers(max(1, len(piece) - (num_samples - have) + 1)))
            pieces.append(piece[begin : begin + num_samples - have])
            have += len(pieces[-1])
        return np.concatenate(pieces)

    def _one_feature(self, part: str, frames: int, n_mels: int, rng: np.random.Generator) -> np.ndarray:
        pieces, have = [], 0
        while have < frames:
            cut = self._draw(part, rng)
            if cut.has_features:
                check_stored(cut, n_mels)
                piece = load_stored(cut)[: cut.num_frames]
            else:
                piece = log_mel(load_audio(cut), n_mels)
            begin = int(rng.integers(max(1, len(piece) - (frames - have) + 1)))
            pieces.append(piece[begin : begin + frames - have])
            have += len(pieces[-1])
        return np.concatenate(pieces)


def mix_features(feats: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Add noise features to an utterance's so that the waves behind them would have this ratio of powers in dB.

    Args:
        feats: (T + tail, M) of the utterance; the tail has as much of the noise as its windows reach back.
        noise: (T, M) or longer.
        snr: In dB, over the whole utterance.
    """
    length = min(len(noise), len(feats))
    gain = WhisperLogMel.compute_energy(feats) / WhisperLogMel.compute_energy(noise[:length]) * 10 ** (-snr / 10)
    added = np.zeros_like(feats)
    added[:length] = to_power(noise[:length])
    for place, share in zip(range(length, min(length + TAIL_FRAMES, len(feats))), TAIL_SHARES, strict=False):
        added[place] = share * added[length - 1]
    mixed = from_power(to_power(feats) + np.float32(gain) * added)
    return np.maximum(mixed, np.float32(floor_value(mixed)))


def _part(kind: Kind) -> str:
    return "speech" if kind == "babble" else kind
