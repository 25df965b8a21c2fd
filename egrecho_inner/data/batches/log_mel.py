"""Whisper's input: log-mel of a cut, from its audio or from stored features, the same values.

input_features  (B, F, T) float32
attention_mask  (B, T) 1 on an utterance's own frames; absent when the batch is padded to 30 s

Programs differ in what they pad short audio to 30 s with. Transformers' extractor and whisper.cpp put digital silence
behind the wave, so that every frame there has the floor of the log-mel. openai-whisper (`transcribe.py`: silence is
appended, but a segment ends with the audio, at `content_frames`, and `pad_or_trim` fills it up) and faster-whisper
(`transcribe.py`: `pad_or_trim(segment)`) pad the log-mel itself with 0.0, which is no silence. A batch is padded in
one of both ways.
"""

from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut, MonoCut

from egrecho_inner.data.audio.augment import Augmenter, SpecMasks
from egrecho_inner.data.audio.device import transform
from egrecho_inner.data.audio.features import SAMPLING_RATE, TAIL_FRAMES, collate_features, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import check_stored, check_values, load_stored
from egrecho_inner.data.batches.plan import Padding
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.constants import WHISPER_FRAMES, WINDOW_SECONDS


class LogMel:
    """Log-mel computed by the loader's processes, or read where it is stored.

    Args:
        n_mels: Mel bins, 80 or 128.
    """

    max_seconds = WINDOW_SECONDS

    def __init__(self, n_mels: int):
        self.n_mels = n_mels

    def reads_stored(self, cut: Cut, augmenter: Augmenter | None) -> bool:
        """Return whether a cut's features are read; those of a mix of cuts are computed from its wave."""
        needs_wave = augmenter is not None and augmenter.needs_wave
        return isinstance(cut, MonoCut) and cut.has_features and not needs_wave

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """Refuse stored features of another extractor or model; with `values` compare them with the audio.

        Raises:
            DataError: They do not fit.
        """
        if self.reads_stored(cut, augmenter):
            check_stored(cut, self.n_mels)
            if values:
                check_values(cut, self.n_mels)

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> tuple[np.ndarray, int]:
        """Return log-mel with its tail (T + tail, F) and its true length T, augmented."""
        if self.reads_stored(cut, augmenter):
            check_stored(cut, self.n_mels)
            return self.masked(load_stored(cut), num_frames(cut.num_samples), cut, epoch, augmenter)
        wave = load_audio(cut)
        if augmenter:
            wave = augmenter.wave(wave, cut.id, epoch)
        return self.of_wave(wave, cut, epoch, augmenter)

    def of_wave(self, wave: np.ndarray, cut: Cut, epoch: int, augmenter: Augmenter | None) -> Any:
        """Return what `load` does, of a wave (N,) in place of the cut's own; only features are augmented."""
        feature = log_mel(wave, self.n_mels, tail=TAIL_FRAMES)
        return self.masked(feature, len(feature) - TAIL_FRAMES, cut, epoch, augmenter)

    def masked(
        self, feature: np.ndarray, length: int, cut: Cut, epoch: int, augmenter: Augmenter | None
    ) -> tuple[np.ndarray, int]:
        """Return features with their augmentation, and their true length."""
        if augmenter:
            feature = augmenter.features(feature, cut.id, epoch, length)
        return feature, min(length, WHISPER_FRAMES)

    def silence(self) -> tuple[np.ndarray, int]:
        """Return one second of digital silence."""
        return np.full((100, self.n_mels), -1.5, dtype=np.float32), 100

    def collate(self, items: list[tuple[np.ndarray, int]], padded: Padding) -> tuple[dict[str, Any], float]:
        """Pad features to their longest, or to 30 s with silence or zeros."""
        features, lengths = [feature for feature, _ in items], [length for _, length in items]
        inputs, frames = collate_features(features, lengths, WHISPER_FRAMES if padded else None)
        if padded == "zeros":
            inputs *= torch.arange(WHISPER_FRAMES)[None, None] < frames[:, None, None]
        batch: dict[str, Any] = {"input_features": inputs}
        if not padded:
            batch["attention_mask"] = (torch.arange(inputs.shape[2])[None] < frames[:, None]).long()
        return batch, inputs.shape[2] / 100

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Nothing is left to compute."""


class LogMelOnDevice(LogMel):
    """Log-mel computed beside the model: the loader hands over augmented waves and the masks for their features."""

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """Refuse noise that is mixed into stored features, besides what `LogMel` refuses.

        Raises:
            ConfigError: Noise is to be mixed into stored features.
        """
        super().check(cut, augmenter, values)
        if augmenter is not None and augmenter.mixes_stored:
            raise ConfigError("augment.musan.stored mixes stored features; with data.features device set it false")

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> tuple[np.ndarray, SpecMasks | None]:
        """Return a cut's augmented wave (N,), and the masks to lay on its features."""
        wave = load_audio(cut)
        if augmenter:
            wave = augmenter.wave(wave, cut.id, epoch)
        return self.of_wave(wave, cut, epoch, augmenter)

    def of_wave(
        self, wave: np.ndarray, cut: Cut, epoch: int, augmenter: Augmenter | None
    ) -> tuple[np.ndarray, SpecMasks | None]:
        """Return what `load` does, of a wave (N,) in place of the cut's own; only features are augmented."""
        if augmenter is None:
            return wave, None
        wave = wave[: int(WINDOW_SECONDS * SAMPLING_RATE)]
        return wave, augmenter.masks(cut.id, epoch, min(num_frames(len(wave)), WHISPER_FRAMES), self.n_mels)

    def silence(self) -> tuple[np.ndarray, None]:
        """Return one second of digital silence."""
        return np.zeros(SAMPLING_RATE, dtype=np.float32), None

    def collate(
        self, items: list[tuple[np.ndarray, SpecMasks | None]], padded: Padding
    ) -> tuple[dict[str, Any], float]:
        """Put waves, zero behind their ends, into one batch for `to_device`."""
        waves = [wave for wave, _ in items]
        frames = [min(num_frames(len(wave)), WHISPER_FRAMES) for wave in waves]
        batch: dict[str, Any] = {
            "waves": torch.zeros(len(waves), max(map(len, waves))),
            "samples": torch.tensor([len(wave) for wave in waves]),
            "masks": [masks for _, masks in items],
            "padded": padded,
        }
        for row, wave in zip(batch["waves"], waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
        return batch, (WHISPER_FRAMES if padded else max(frames)) / 100

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Replace the waves by their features."""
        transform(inputs, self.n_mels, device)
