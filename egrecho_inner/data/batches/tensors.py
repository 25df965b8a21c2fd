"""From a batch plan to tensors: what worker processes do.

In: manifests of cuts, a batch plan. Out: one dict per batch, letters as in model/whisper.py:

    input_features     (B, F, T) float32 log-mel, from waves or from stored features, the same values
    attention_mask     (B, T) 1 on an utterance's own frames; absent when the batch is padded to 30 s
    decoder_input_ids  (B, L) and labels (B, L), from text/labels.py
    ids, seconds, padded_seconds, skipped        for logs and error messages, not for the model
"""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut, MonoCut
from torch.utils.data import DataLoader, Dataset, Sampler

from egrecho_inner.data.audio.augment import Augmenter, SpecMasks
from egrecho_inner.data.audio.features import SAMPLING_RATE, TAIL_FRAMES, collate_features, log_mel, num_frames
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.audio.store import check_stored, load_stored
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import AugmentOptions
from egrecho_inner.data.batches.plan import Batch, BatchPlan
from egrecho_inner.data.cuts.fields import reference_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import WHISPER_FRAMES, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder, Labels, pad_labels

logger = logging.getLogger(__name__)


class CutBatches(Dataset[dict[str, Any]]):
    """Make the tensors of a batch; indexed by `Batch`, not by number."""

    timed = False
    """Whether timestamps inside a window are learned, so that a model can be followed by them through long audio."""

    def __init__(self, cuts: CutList, labels: LabelEncoder, n_mels: int, augmenter: Augmenter | None = None):
        self.cuts, self.labels, self.n_mels, self.augmenter = cuts, labels, n_mels, augmenter
        self.waves = False
        """Whether batches hold waves, for `device_features.transform`."""
        if self.takes_stored(cuts[0]):  # features for another model are a fault of them all: said before training
            check_stored(cuts[0], n_mels)

    def hand_over_waves(self) -> None:
        """Leave the features to `device_features.transform`.

        Raises:
            ConfigError: Noise is to be mixed into stored features.
        """
        if self.augmenter is not None and self.augmenter.mixes_stored:
            raise ConfigError("augment.musan.stored mixes stored features; with data.features device set it false")
        self.waves = True

    def __getitem__(self, batch: Batch) -> dict[str, Any]:
        hear, collate = (self.wave, self.collate_waves) if self.waves else (self.features, self.collate)
        features, lengths, labels, ids, seconds, skipped = [], [], [], [], 0.0, []
        for position in batch.positions:
            cut = self.cuts[position]
            try:
                feature, length = hear(cut, batch.epoch)
                label = self.label(cut, batch.epoch)
            except DataError as error:
                skipped.append((cut.id, naming(cut.id, error)))
                continue
            features.append(feature)
            lengths.append(length)
            labels.append(label)
            ids.append(cut.id)
            seconds += cut.duration
        if not ids:  # nothing usable: silence without a target keeps this process in step with the others
            features, lengths = [np.full((100, self.n_mels), -1.5, dtype=np.float32)], [100]
            if self.waves:
                features, lengths = [np.zeros(SAMPLING_RATE, dtype=np.float32)], [None]
            labels = [Labels([self.labels.sot], [-100])]
        return collate(features, lengths, labels, batch.padded) | {
            "ids": ids,
            "seconds": seconds,
            "skipped": skipped,
            "state": batch.state,
        }

    def takes_stored(self, cut: Cut) -> bool:
        """Tell whether a cut's features are read; a mix of cuts is heard, so that it is that of the waves."""
        heard = self.augmenter is not None and self.augmenter.needs_wave
        return isinstance(cut, MonoCut) and cut.has_features and not heard

    def features(self, cut: Cut, epoch: int) -> tuple[np.ndarray, int]:
        """Return log-mel with its tail (T + tail, F) and its true length T, augmented."""
        if self.takes_stored(cut):
            check_stored(cut, self.n_mels)
            feature, length = load_stored(cut), num_frames(cut.num_samples)
        else:
            wave = load_audio(cut)
            if self.augmenter:
                wave = self.augmenter.wave(wave, cut.id, epoch)
            feature = log_mel(wave, self.n_mels, tail=TAIL_FRAMES)
            length = len(feature) - TAIL_FRAMES
        if self.augmenter:
            feature = self.augmenter.features(feature, cut.id, epoch, length)
        return feature, min(length, WHISPER_FRAMES)

    def wave(self, cut: Cut, epoch: int) -> tuple[np.ndarray, SpecMasks | None]:
        """Return a cut's augmented wave (N,), and the masks to lay on its features."""
        wave = load_audio(cut)
        if self.augmenter is None:
            return wave, None
        wave = self.augmenter.wave(wave, cut.id, epoch)[: int(WINDOW_SECONDS * SAMPLING_RATE)]
        return wave, self.augmenter.masks(cut.id, epoch, min(num_frames(len(wave)), WHISPER_FRAMES), self.n_mels)

    def label(self, cut: Cut, epoch: int) -> Labels:
        """Return decoder inputs and targets of a cut; the same in every epoch here."""
        spoken = reference_of(cut)
        return self.labels.encode(spoken.text, spoken.language)

    def collate_waves(
        self, waves: list[np.ndarray], masks: list[SpecMasks | None], labels: list[Labels], padded: bool
    ) -> dict[str, Any]:
        """Put waves, zero behind their ends, and labels into one batch for `device_features.transform`."""
        frames = [min(num_frames(len(wave)), WHISPER_FRAMES) for wave in waves]
        batch = self.collate_labels(labels) | {
            "waves": torch.zeros(len(waves), max(map(len, waves))),
            "samples": torch.tensor([len(wave) for wave in waves]),
            "masks": masks,
            "padded": padded,
            "padded_seconds": len(waves) * (WHISPER_FRAMES if padded else max(frames)) / 100,
        }
        for row, wave in zip(batch["waves"], waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
        return batch

    def collate(
        self, features: list[np.ndarray], lengths: list[int], labels: list[Labels], padded: bool
    ) -> dict[str, Any]:
        """Pad features and labels into one batch."""
        inputs, frames = collate_features(features, lengths, WHISPER_FRAMES if padded else None)
        batch = self.collate_labels(labels) | {
            "input_features": inputs,
            "padded_seconds": inputs.shape[0] * inputs.shape[2] / 100,
        }
        if not padded:
            batch["attention_mask"] = (torch.arange(inputs.shape[2])[None] < frames[:, None]).long()
        return batch

    def collate_labels(self, labels: list[Labels]) -> dict[str, Any]:
        """Pad decoder inputs and targets into one batch."""
        decoder_input_ids, targets = pad_labels(labels, self.labels.eot)
        return {"decoder_input_ids": torch.tensor(decoder_input_ids), "labels": torch.tensor(targets)}


def naming(cut_id: str, error: DataError) -> str:
    """Return an error's message with the cut it is about."""
    return str(error) if f"cut {cut_id}" in str(error) else f"cut {cut_id}: {error}"


class PlanSampler(Sampler[Batch]):
    """One process's batches from a step on; the step is asked for when iteration begins, after a resume."""

    def __init__(self, plan: BatchPlan, rank: int, step: Any):
        self.plan, self.rank, self.step = plan, rank, step

    def __iter__(self) -> Iterator[Batch]:
        return self.plan.batches(self.rank, self.step())


def make_loader(batches: CutBatches, sampler: PlanSampler, workers: int, pin: bool = False) -> DataLoader:
    """Make the loader of a process. It has no length, and accelerate must never prepare it: it is sharded already."""
    return DataLoader(
        batches,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=single_thread,
        # a generator of its own: otherwise every start draws from the global one and a resumed run is another run
        generator=torch.Generator().manual_seed(0),
    )


def single_thread(_: int) -> None:
    """Keep worker processes from competing for cores."""
    torch.set_num_threads(1)


def make_augmenter(options: AugmentOptions | None, seed: int) -> Augmenter | None:
    """Make the augmenter of training, or none."""
    return None if options is None else Augmenter(options, seed)
