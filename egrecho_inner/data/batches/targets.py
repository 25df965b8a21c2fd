"""The target text of a cut: the reference or the teacher's text, with or without times and previous text, or silence.

In: cuts whose supervisions carry what `data/cuts/fields.py` lists. Out: the batches of `data/batches/tensors.py`.
Whether a cut gets timestamps and a prompt, or is replaced by noise without words, is drawn afresh for every epoch and a
pure function of (seed, epoch, id): a resumed run is the same run. With `beside_reference` a batch has a second set of
targets, from the true transcripts: `reference_input_ids` and `reference_labels` (B, L'); with a cache the teacher's
tokens, `top_ids` and `top_log_q` (B, L, K).
Left out: a second audio, noise in the prompt.
"""

import contextlib
import logging
import os
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from lhotse.cut import Cut

from egrecho_inner.data.audio.augment import Augmenter, applied
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.inputs import Texts
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.noise import Noise
from egrecho_inner.data.batches.options import TargetOptions
from egrecho_inner.data.batches.teacher_tokens import Choice, LogitCache, lay_out
from egrecho_inner.data.batches.tensors import CutBatches, check_fits
from egrecho_inner.data.cuts.fields import Transcript, reference_of, transcript_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import Labels, Segment

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetLabels(Labels):
    """Labels with what is learned beside them."""

    reference: Labels | None = None
    """Of the true transcript."""
    top: tuple[np.ndarray, np.ndarray] | None = None
    """The teacher's likeliest tokens (N, K) at the N targets, and their log probabilities."""


class TargetBatches(CutBatches):
    """Make batches whose targets are chosen by options; the first arguments are those of `CutBatches`.

    Args:
        options: What is learned for a cut.
        seed: Of the draws.
        beside_reference: Add the true transcripts as second targets.
        cache: Add the teacher's likeliest tokens.
    """

    inputs: LogMel

    def __init__(
        self,
        cuts: CutList,
        labels: Texts,
        inputs: LogMel,
        augmenter: Augmenter | None = None,
        options: TargetOptions = TargetOptions(),
        seed: int = 0,
        beside_reference: bool = False,
        cache: LogitCache | None = None,
    ):
        super().__init__(cuts, labels, inputs, augmenter)
        self.options, self.seed, self.beside_reference, self.cache = options, seed, beside_reference, cache
        self.noise = Noise(options.no_speech, seed)
        if cache is not None and options.no_speech:
            raise ConfigError("targets.no_speech: kd.teacher_logits has no tokens for noise; leave one of them out")
        if options.timestamps:
            parts = count_parts(cuts, options)
            joins = augmenter is not None and augmenter.options.concatenate is not None
            self.timed = max(parts, default=0) > 1 or (joins and max(parts, default=0) > 0)
            if parts and not max(parts) and os.environ.get("RANK", "0") == "0":
                logger.warning(
                    "targets.timestamps %g has no effect: none of %d cuts looked at has times in its %s text; "
                    "label with --decode.timestamps true, or pack utterances (egrecho pack)",
                    options.timestamps, len(parts), options.text,
                )  # fmt: skip

    def load(self, cut: Cut, epoch: int) -> Any:
        """Return a cut's input in an epoch, or that of the noise in its place."""
        if not self.noise.replaces(cut, epoch):
            return super().load(cut, epoch)
        return self.inputs.of_wave(self.noise.wave(cut, epoch), cut, epoch, self.augmenter)

    def label(self, cut: Cut, epoch: int) -> TargetLabels:
        """Return decoder inputs and targets of a cut in an epoch.

        Raises:
            DataError: The teacher's text is missing, or the tokens do not fit the decoder.
        """
        transcript = transcript_of(cut, self.options.text)
        if self.noise.replaces(cut, epoch):
            made = self.labels.encode("", transcript.language)
            return TargetLabels(made.inputs, made.targets, made if self.beside_reference else None)
        timestamps, previous = choose(self.options, self.seed, epoch, cut.id)
        if timestamps and self.augmenter is not None:
            transcript = played(transcript, applied(self.augmenter.speed(cut.id, epoch), cut.num_samples))
        made = encode(transcript, self.labels, timestamps, previous, cut.id)
        reference, top = None, None
        if self.beside_reference:
            true = reference_of(cut)
            if true.text is None:
                raise DataError(f"cut {cut.id} has no true transcript to learn beside the teacher's; leave it out")
            reference = encode(true, self.labels, timestamps=False, previous=False, cut_id=cut.id)
        if self.cache is not None:
            choice = Choice(cut.id, timestamps and bool(transcript.segments), previous and bool(transcript.previous))
            top = self.cache.rows(choice, made)
        return TargetLabels(made.inputs, made.targets, reference, top)

    def pad_labels(self, labels: list[Labels]) -> dict[str, torch.Tensor]:
        """Pad labels, and what is beside them, into one batch."""
        batch = super().pad_labels(labels)
        if self.beside_reference:  # a batch without a usable cut has one label, without a second
            inputs, targets = super().pad_labels([getattr(each, "reference", each) for each in labels]).values()
            batch |= {"reference_input_ids": inputs, "reference_labels": targets}
        if self.cache is not None:
            ids, log_q = lay_out(labels, [getattr(each, "top", None) for each in labels])
            batch |= {"top_ids": torch.from_numpy(ids), "top_log_q": torch.from_numpy(log_q)}
        return batch


def count_parts(cuts: CutList, options: TargetOptions, most: int = 64) -> list[int]:
    """Count the timed parts of some cuts, spread over all, that have a text; fewer are returned where others have none.

    Args:
        cuts: What is trained on.
        options: Which text.
        most: Cuts to look at.
    """
    found = []
    for position in range(0, len(cuts), max(len(cuts) // most, 1)):
        with contextlib.suppress(DataError):  # counted when it is its turn
            transcript = transcript_of(cuts[position], options.text)
            if transcript.text:
                found.append(len(transcript.segments))
    return found


def played(transcript: Transcript, speed: float) -> Transcript:
    """Return a transcript with the times it has when its audio is played at another speed."""
    if speed == 1.0:
        return transcript
    segments = tuple(
        Segment(each.start / speed, None if each.end is None else each.end / speed, each.text)
        for each in transcript.segments  # of one that is cut only the start is known
    )
    return replace(transcript, segments=segments)


def choose(options: TargetOptions, seed: int, epoch: int, cut_id: str) -> tuple[bool, bool]:
    """Draw whether a cut has timestamps and a prompt in an epoch."""
    rng = np.random.default_rng([seed, epoch, crc32(cut_id.encode())])
    timestamps, previous = rng.random(2)
    return bool(timestamps < options.timestamps), bool(previous < options.previous)


def encode(transcript: Transcript, labels: Texts, timestamps: bool, previous: bool, cut_id: str) -> Labels:
    """Make the labels of a transcript.

    Raises:
        DataError: They do not fit the decoder.
    """
    found = labels.encode(
        transcript.text,
        transcript.language,
        transcript.task,
        transcript.segments if timestamps else (),
        transcript.previous if previous else None,
    )
    check_fits(found, labels, cut_id)
    if transcript.truncated:  # a text that breaks off is never taught to be complete: no end, and no end time
        unknown = 2 if timestamps and transcript.segments else 1
        return Labels(found.inputs, found.targets[:-unknown] + [IGNORED] * unknown)
    return found
