"""From a batch plan to tensors: what worker processes do.

In: manifests of cuts, a batch plan. Out: one dict per batch, letters as in model/whisper.py:

    input_features     (B, F, T) float32 log-mel, from waves or from stored features, the same values
    attention_mask     (B, T) 1 on an utterance's own frames; absent when the batch is padded to 30 s
    decoder_input_ids  (B, L) and labels (B, L), from text/labels.py
    ids, seconds, padded_seconds, skipped        for logs and error messages, not for the model
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut, MonoCut
from torch.utils.data import DataLoader, Dataset, Sampler

from egrecho_inner.data.audio import load_audio
from egrecho_inner.data.augment import Augmenter, SpecMasks
from egrecho_inner.data.batching import WINDOW_SECONDS, Batch, BatchPlan
from egrecho_inner.data.feature_store import check_stored, load_stored
from egrecho_inner.data.features import (
    SAMPLING_RATE,
    TAIL_FRAMES,
    WHISPER_FRAMES,
    collate_features,
    log_mel,
    num_frames,
)
from egrecho_inner.data.index import CutIndex
from egrecho_inner.data.options import AugmentOptions
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.labels import LabelEncoder, Labels, pad_labels

logger = logging.getLogger(__name__)

MIN_SECONDS = 0.1


class CutList:
    """The cuts of several manifests as one list, read by position, with what cannot be used left out and counted."""

    def __init__(self, paths: Sequence[str] | str):
        self.indexes = [CutIndex(path) for path in ([paths] if isinstance(paths, str) else paths)]
        if not self.indexes:
            raise ConfigError("no manifest of cuts is given; set data.train")
        self.starts = np.cumsum([0, *map(len, self.indexes)])
        self.kept = np.arange(self.starts[-1])
        self.left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, position: int) -> Cut:
        where = int(self.kept[position])
        part = int(np.searchsorted(self.starts, where, side="right")) - 1
        return self.indexes[part][where - int(self.starts[part])]

    @property
    def durations(self) -> np.ndarray:
        """Seconds of the kept cuts (N,)."""
        return np.concatenate([index.durations for index in self.indexes])[self.kept]

    @property
    def digest(self) -> str:
        """One hash over all manifests."""
        return "+".join(index.digest for index in self.indexes)

    def keep_trainable(self, labels: LabelEncoder, max_skip_ratio: float) -> None:
        """Leave out what training cannot use, count it, and stop if it is too much.

        Raises:
            DataError: More than `max_skip_ratio` of the cuts, or all, would be left out.
        """
        seconds = np.concatenate([index.durations for index in self.indexes])
        text_bytes = np.concatenate([index.text_bytes for index in self.indexes])
        reasons = {
            f"over {WINDOW_SECONDS:.0f} s": seconds > WINDOW_SECONDS,
            f"under {MIN_SECONDS} s": seconds < MIN_SECONDS,
            "without supervision": text_bytes < 0,
        }
        # most texts are too short to reach 448 tokens, whatever the tokenizer; only the others are tokenised
        long = np.flatnonzero(text_bytes > 440)
        reasons["over 448 tokens"] = np.zeros(len(seconds), dtype=bool)
        for position in long:
            reasons["over 448 tokens"][position] = not fits(self[int(position)], labels)
        bad = np.logical_or.reduce(list(reasons.values()))
        self.left_out = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
        self.kept = np.flatnonzero(~bad)
        share = bad.mean()
        if share > max_skip_ratio or not len(self.kept):
            raise DataError(
                f"{int(bad.sum())} of {len(bad)} training cuts cannot be used ({self.summary()}), more than "
                f"data.max_skip_ratio {max_skip_ratio:g}; mend the data or raise the limit"
            )

    def keep_short(self, max_seconds: float) -> None:
        """Keep cuts up to a length, by choice: they are not counted as skips."""
        self.kept = self.kept[self.durations <= max_seconds]
        if not len(self.kept):
            raise ConfigError(f"data.max_seconds {max_seconds:g} leaves no cut; raise it")

    def draw(self, limit: int | None, seed: int) -> None:
        """Keep at most `limit` cuts, drawn once."""
        if limit is not None and limit < len(self.kept):
            self.kept = np.sort(np.random.default_rng(seed).choice(self.kept, limit, replace=False))

    def summary(self) -> str:
        """Say what was left out."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items()) or "none left out"


class CutBatches(Dataset[dict[str, Any]]):
    """Make the tensors of a batch; indexed by `Batch`, not by number."""

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
                skipped.append((cut.id, str(error)))
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
        supervision = cut.supervisions[0]
        return self.labels.encode(supervision.text or "", supervision.language)

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


def fits(cut: Cut, labels: LabelEncoder) -> bool:
    """Tell whether a cut's text fits the decoder; what no label can be made of is skipped and counted later."""
    supervision = cut.supervisions[0]
    try:
        return labels.fits(supervision.text or "", supervision.language)
    except DataError:
        return True


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
