"""What a model learns to say for a cut: the reference or the teacher's text, with or without times and previous text.

In: cuts whose supervisions carry what `data/transcripts.py` lists. Out: the batches of `data/dataset.py`. Whether a cut
gets timestamps and a prompt is drawn afresh for every epoch, and is a pure function of (seed, epoch, id): a resumed run
is the same run. With `beside_reference` a batch has a second set of targets, from the true transcripts:
`reference_input_ids` and `reference_labels` (B, L').
Left out: a second audio, noise in the prompt.
"""

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from lhotse.cut import Cut

from egrecho_inner.data.augment import Augmenter
from egrecho_inner.data.dataset import CutBatches, CutList
from egrecho_inner.data.transcripts import Source, Transcript, reference_of, teacher_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.labels import IGNORED, MAX_TOKENS, LabelEncoder, Labels, pad_labels


@dataclass(frozen=True)
class TargetOptions:
    """What is learned for a cut."""

    text: Source = "reference"
    """The true transcript, or the teacher's."""
    timestamps: float = 0.0
    """Probability that a cut with timed segments is learned with timestamps."""
    previous: float = 0.0
    """Probability that a cut with a known previous text has it as a prompt."""

    def __post_init__(self) -> None:
        for name in ("timestamps", "previous"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"targets.{name} is {getattr(self, name)}; expected a probability, 0 to 1")


@dataclass(frozen=True)
class PairedLabels(Labels):
    """Labels with those of the true transcript beside them."""

    reference: Labels


class TargetBatches(CutBatches):
    """Make batches whose targets are chosen by options; the other arguments are those of `CutBatches`."""

    def __init__(
        self,
        cuts: CutList,
        labels: LabelEncoder,
        n_mels: int,
        augmenter: Augmenter | None = None,
        options: TargetOptions = TargetOptions(),
        seed: int = 0,
        beside_reference: bool = False,
    ):
        super().__init__(cuts, labels, n_mels, augmenter)
        self.options, self.seed, self.beside_reference = options, seed, beside_reference

    def label(self, cut: Cut, epoch: int) -> Labels:
        """Return decoder inputs and targets of a cut in an epoch.

        Raises:
            DataError: The teacher's text is missing, or the tokens do not fit the decoder.
        """
        spoken = cut.supervisions[0]
        transcript = teacher_of(spoken) if self.options.text == "teacher" else reference_of(spoken)
        found = encode(transcript, self.labels, *choose(self.options, self.seed, epoch, cut.id), cut.id)
        if not self.beside_reference:
            return found
        if spoken.text is None:
            raise DataError(f"cut {cut.id} has no true transcript to learn from beside the teacher's; leave it out")
        return PairedLabels(
            found.inputs, found.targets, encode(reference_of(spoken), self.labels, False, False, cut.id)
        )

    def collate(
        self, features: list[np.ndarray], lengths: list[int], labels: list[Labels], padded: bool
    ) -> dict[str, Any]:
        """Pad features and labels, the second ones too, into one batch."""
        batch = super().collate(features, lengths, labels, padded)
        if self.beside_reference:  # a batch without a usable cut has one label, without a second
            inputs, targets = pad_labels([getattr(each, "reference", each) for each in labels], self.labels.eot)
            batch |= {"reference_input_ids": torch.tensor(inputs), "reference_labels": torch.tensor(targets)}
        return batch


def choose(options: TargetOptions, seed: int, epoch: int, cut_id: str) -> tuple[bool, bool]:
    """Draw whether a cut has timestamps and a prompt in an epoch."""
    rng = np.random.default_rng([seed, epoch, crc32(cut_id.encode())])
    timestamps, previous = rng.random(2)
    return bool(timestamps < options.timestamps), bool(previous < options.previous)


def encode(transcript: Transcript, labels: LabelEncoder, timestamps: bool, previous: bool, cut_id: str) -> Labels:
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
    if len(found.inputs) > MAX_TOKENS:
        raise DataError(
            f"cut {cut_id}: {len(found.inputs)} tokens, the decoder has {MAX_TOKENS} positions; leave it out"
        )
    if transcript.truncated:  # a text that breaks off is never taught to be complete
        return Labels(found.inputs, [*found.targets[:-1], IGNORED])
    return found
