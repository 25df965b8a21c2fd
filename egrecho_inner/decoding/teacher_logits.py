"""A teacher's likeliest tokens at every target of a cut, written down shard by shard for `egrecho cache-logits`.

In: the cuts, the teacher. Out: the rows of `data/batches/teacher_tokens.py`. Every choice of timestamps and previous
text that training may draw is computed, on the clean audio.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from lhotse.cut import Cut
from torch import Tensor

from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.data.batches.targets import encode
from egrecho_inner.data.batches.teacher_tokens import Choice, ShardWriter
from egrecho_inner.data.cuts.fields import transcript_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.recognize import label_encoder
from egrecho_inner.decoding.resumable import Placement
from egrecho_inner.errors import DataError
from egrecho_inner.model.loading import load_model, load_processor
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.runtime.passes import Fault, Shard
from egrecho_inner.text.constants import IGNORED, WINDOW_SECONDS
from egrecho_inner.text.labels import LabelEncoder, Labels
from egrecho_inner.text.languages import Task

STAGE = "cache-logits"


@dataclass(frozen=True)
class Example:
    """A cut's features with the labels of one choice."""

    choice: Choice
    labels: Labels
    feats: np.ndarray
    """(T + tail, F)."""
    length: int
    """T."""


class LogitWriter:
    """A teacher whose likeliest tokens are written down.

    Args:
        index: The cuts.
        teacher: Folder or hub id.
        targets: What is learned for a cut.
        spoken: Language of cuts that name none, and the task of the text.
        top_k: Tokens kept at each target.
        temperature: Of the softmax.
        place: Where it computes.
    """

    batch_size = 16
    padded = False
    """Whether batches are padded to 30 s, or to their longest cut."""

    def __init__(
        self,
        index: CutIndex,
        teacher: str,
        targets: TargetOptions,
        spoken: tuple[str | None, Task],
        top_k: int,
        temperature: float,
        place: Placement,
    ):
        self.index, self.teacher, self.targets, self.spoken = index, teacher, targets, spoken
        self.top_k, self.temperature, self.place = top_k, temperature, place

    @cached_property
    def model(self) -> Whisper:
        """The teacher; loaded when there is something to compute."""
        return load_model(self.teacher, self.place.dtype).to(self.place.device).eval()

    @cached_property
    def labels(self) -> LabelEncoder:
        """Its label encoder."""
        return label_encoder(self.model, load_processor(self.teacher).tokenizer, *self.spoken)

    @cached_property
    def features(self) -> LogMel:
        """Makes the teacher's input."""
        made = LogMel(self.model.config.num_mel_bins)
        made.check(self.index[0], None)
        return made

    def compute(self, shard: Shard) -> None:
        """Compute and write one shard."""
        rows, skips = ShardWriter(shard), []
        waiting: list[Example] = []
        for position in sorted(shard.positions, key=lambda at: -self.index.durations[at]):
            waiting += self.examples(position, skips)
            while len(waiting) >= self.batch_size:
                self.add(waiting[: self.batch_size], rows)
                waiting = waiting[self.batch_size :]
        if waiting:
            self.add(waiting, rows)
        rows.write(skips)

    def examples(self, position: int, skips: list[Skip]) -> list[Example]:
        """Return a cut with the labels of each choice; one that training could not use either goes to `skips`."""
        cut = self.index[position]
        try:
            variants = list(self.variants(cut))
        except DataError as error:
            skips.append(Skip(cut.id, STAGE, "not usable", str(error), cut.duration))
            return []
        try:
            feats, length = self.features.load(cut, 0, None)
        except DataError as error:
            skips.append(Fault(cut.id, STAGE, "unusable audio", str(error), cut.duration, position))
            return []
        return [Example(choice, labels, feats, length) for choice, labels in variants]

    def is_usable(self, position: int) -> bool:
        """Try a cut again whose audio could not be used at an earlier start."""
        skips: list[Skip] = []
        return bool(self.examples(position, skips)) and not skips

    def variants(self, cut: Cut) -> Iterator[tuple[Choice, Labels]]:
        """Yield the labels of every choice that may be drawn for a cut.

        Raises:
            DataError: It is too long, or has no text that fits.
        """
        if cut.duration > WINDOW_SECONDS:
            raise DataError(f"cut {cut.id} is longer than {WINDOW_SECONDS:g} s")
        transcript = transcript_of(cut, self.targets.text)
        with_times = drawn(self.targets.timestamps, bool(transcript.segments))
        for timestamps, previous in itertools.product(
            with_times, drawn(self.targets.previous, bool(transcript.previous))
        ):
            yield Choice(cut.id, timestamps, previous), encode(transcript, self.labels, timestamps, previous, cut.id)

    @torch.inference_mode()
    def add(self, batch: list[Example], rows: ShardWriter) -> None:
        """Compute a batch and add its rows to a shard."""
        inputs, _ = self.features.collate([(each.feats, each.length) for each in batch], self.padded)
        decoder_inputs = self.labels.pad([each.labels for each in batch])["decoder_input_ids"]
        place, dtype = self.model.device, self.model.dtype
        mask = inputs["attention_mask"].to(place) if "attention_mask" in inputs else None
        hidden = self.model.model(
            inputs["input_features"].to(place, dtype),
            attention_mask=mask,
            decoder_input_ids=torch.tensor(decoder_inputs, device=place),
            use_cache=False,
        ).last_hidden_state  # (B, L, D)
        for row, each in enumerate(batch):
            targets = torch.tensor(np.array(each.labels.targets) != IGNORED, device=place)
            ids, log_q = self.top(hidden[row, : len(targets)][targets])
            rows.add(each.choice, each.labels, ids.cpu().numpy(), log_q.cpu().numpy())

    def top(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the likeliest tokens (N, K) after hidden states (N, D), and their log probabilities."""
        logits = self.model.proj_out(hidden).float() / self.temperature
        log_q, ids = logits.log_softmax(-1).topk(min(self.top_k, logits.shape[-1]), -1)
        return ids, log_q


def drawn(probability: float, there: bool) -> list[bool]:
    """Return the outcomes of a draw that can happen and make a difference."""
    if not there or probability == 0:
        return [False]
    return [True] if probability == 1 else [False, True]
