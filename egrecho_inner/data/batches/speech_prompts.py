"""Batches of a speech LLM: audio in windows of its encoder, and a prompt with the text.

    input_features  (R, F, T) log-mel or (R, T) waves of windows of up to 30 s, each utterance's in a row
    attention_mask  (R, T) 1 on a window's own part
    windows         (B,) how many each utterance has
    input_ids       (B, L) with AUDIO where the audio goes, and labels (B, L), from text/prompts.py

A recording of any length is taken as several windows of equal length. By `silence.share` a cut is replaced by silence
or noise of its length and an empty text: without that a language model writes something for everything. Prompts and
noise are drawn by (seed, epoch, id). Cuts without audio are text alone.
"""

from typing import Any, Protocol

import numpy as np
import torch
from lhotse.cut import Cut, MonoCut

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.audio.features import FLOOR, SAMPLING_RATE, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import check_stored, check_values, load_stored
from egrecho_inner.data.batches.noise import Noise
from egrecho_inner.data.batches.tensors import CutBatches
from egrecho_inner.data.cuts.fields import reference_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.labels import Labels
from egrecho_inner.text.prompts import AUDIO, PromptEncoder


class Shape(Protocol):
    """What an encoder takes (`model/audio_encoder.py`)."""

    kind: str
    n_mels: int
    normalize: bool

    def windows(self, length: int) -> list[int]:
        """Divide a length into windows."""
        ...


class SpeechWindows:
    """Cuts into windows of an encoder's input; the members are those of `inputs.Inputs`.

    Args:
        shape: What the encoder takes.
        max_seconds: Longest cut that leaves room for the text.
        noise: Which cuts are replaced.
    """

    def __init__(self, shape: Shape, max_seconds: float, noise: Noise = Noise()):
        self.shape, self.max_seconds, self.noise = shape, max_seconds, noise

    def reads_stored(self, cut: Cut, augmenter: Augmenter | None) -> bool:
        """Return whether a cut's stored features are read."""
        needs_wave = augmenter is not None and augmenter.needs_wave
        return self.shape.kind == "mel" and isinstance(cut, MonoCut) and cut.has_features and not needs_wave

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """Refuse stored features of another model, and masks on waves.

        Raises:
            UserError: Every cut would have the fault.
        """
        if not cut.has_recording and not cut.has_features:
            raise DataError(f"cut {cut.id} has no audio; leave model.encoder out to train on text alone")
        if self.reads_stored(cut, augmenter):
            check_stored(cut, self.shape.n_mels)
            if values:
                check_values(cut, self.shape.n_mels)
        if self.shape.kind == "wave" and augmenter is not None and augmenter.options.spec_augment is not None:
            raise ConfigError("augment.spec_augment masks log-mel, this encoder takes waves; set it null")

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> list[np.ndarray]:
        """Return the windows of a cut, (T, F) or (T,) each."""
        noisy = self.noise.replaces(cut, epoch)
        if not noisy and self.reads_stored(cut, augmenter):
            check_stored(cut, self.shape.n_mels)
            found, length = load_stored(cut), num_frames(cut.num_samples)
            if augmenter:
                found = augmenter.features(found, cut.id, epoch, length)
            return self.divide(found[:length])
        wave = self.noise.wave(cut, epoch) if noisy else load_audio(cut)
        if augmenter and not noisy:
            wave = augmenter.wave(wave, cut.id, epoch)
        if self.shape.kind == "wave" or augmenter is None:
            return self.of_wave(wave)
        found = log_mel(wave, self.shape.n_mels)
        return self.divide(augmenter.features(found, cut.id, epoch, len(found)))

    def of_wave(self, wave: np.ndarray) -> list[np.ndarray]:
        """Return the windows of a wave (N,)."""
        if self.shape.kind == "wave":
            return self.divide(normalized(wave) if self.shape.normalize else wave)
        return self.divide(log_mel(wave, self.shape.n_mels))

    def divide(self, whole: np.ndarray) -> list[np.ndarray]:
        """Divide features or a wave into windows."""
        if not len(whole):
            raise DataError("holds no audio; leave it out")
        return np.split(whole, np.cumsum(self.shape.windows(len(whole)))[:-1])

    def silence(self) -> list[np.ndarray]:
        """Return one second of digital silence."""
        if self.shape.kind == "wave":
            return [np.zeros(SAMPLING_RATE, dtype=np.float32)]
        return [np.full((100, self.shape.n_mels), FLOOR, dtype=np.float32)]

    def collate(self, items: list[list[np.ndarray]], padded: bool) -> tuple[dict[str, Any], float]:
        """Pad windows to the longest."""
        rows = [window for item in items for window in item]
        longest = max(map(len, rows))
        batch = torch.zeros(len(rows), longest, *rows[0].shape[1:])
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            batch[place, : len(row)] = torch.from_numpy(np.ascontiguousarray(row))
            mask[place, : len(row)] = 1
        windows = torch.tensor([len(item) for item in items])
        seconds = longest / (100 if self.shape.kind == "mel" else SAMPLING_RATE) * len(rows) / len(items)
        features = batch.transpose(1, 2).contiguous() if self.shape.kind == "mel" else batch
        return {"input_features": features, "attention_mask": mask, "windows": windows}, seconds

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Nothing is left to compute."""


class NoAudio:
    """Cuts of text alone; the members are those of `inputs.Inputs`."""

    max_seconds = float("inf")

    def check(self, cut: Cut, augmenter: Augmenter | None, values: bool = False) -> None:
        """Nothing can be wrong."""

    def load(self, cut: Cut, epoch: int, augmenter: Augmenter | None) -> float:
        """Return a cut's nominal seconds."""
        return float(cut.duration)

    def silence(self) -> float:
        """Return the seconds of nothing."""
        return 0.0

    def collate(self, items: list[float], padded: bool) -> tuple[dict[str, Any], float]:
        """Return no inputs."""
        return {}, max(items)

    def to_device(self, inputs: dict[str, Any], device: torch.device) -> None:
        """Nothing is left to compute."""


class SpeechTextBatches(CutBatches):
    """Batches whose text follows a prompt; the first arguments are those of `CutBatches`.

    Args:
        noise: Which cuts are replaced: their text is empty.
        seed: Of the prompts; None takes the first of each task.
    """

    labels: PromptEncoder

    def __init__(self, *given: Any, noise: Noise = Noise(), seed: int | None = None):
        super().__init__(*given)
        self.noise, self.seed = noise, seed

    def label(self, cut: Cut, epoch: int) -> Labels:
        """Return inputs and targets of a cut in an epoch."""
        custom = custom_of(cut)
        prompt = self.labels.prompt_of(custom, None if self.seed is None else (self.seed, epoch, cut.id))
        text = "" if self.noise.replaces(cut, epoch) else reference_of(cut).text
        return self.labels.build(prompt, text, custom.get("tokens", (AUDIO,)))


def custom_of(cut: Cut) -> dict[str, Any]:
    """Return the fields of a cut's first supervision."""
    return (cut.supervisions[0].custom or {}) if cut.supervisions else {}


def normalized(wave: np.ndarray) -> np.ndarray:
    """Bring a wave to mean 0 and variance 1, as the feature extractors of WavLM and HuBERT do."""
    return ((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).astype(np.float32)
