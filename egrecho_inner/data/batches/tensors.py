"""From a batch plan to tensors: what worker processes do.

In: manifests of cuts, a batch plan, a family's `Inputs` and `Texts` (`inputs.py`). Out: a `LoadedBatch`: what the
model's `forward` takes, and apart from it what logs, skips and resume need to know of the batch.
"""

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lhotse.cut import Cut
from torch.utils.data import DataLoader, Dataset, Sampler

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.inputs import Inputs, Texts
from egrecho_inner.data.batches.joining import join
from egrecho_inner.data.batches.options import AugmentOptions
from egrecho_inner.data.batches.plan import Batch, BatchPlan
from egrecho_inner.data.cuts.fields import reference_of
from egrecho_inner.errors import DataError
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import Labels

logger = logging.getLogger(__name__)


class LoadedBatch(NamedTuple):
    """A batch on its way to the model. (A named tuple: torch's loader pins and converts what is inside.)"""

    inputs: dict[str, Any]
    """What the model's `forward` takes, targets among it as `labels` (B, L)."""
    ids: list[str]
    """Of the cuts in it; empty where none could be used."""
    seconds: float
    """Of audio, without padding."""
    rows: int
    row_seconds: float
    """Of each row, with padding."""
    tokens: int
    """Positions of each row of targets, with padding."""
    targets: int
    """Tokens of all rows that the loss counts."""
    skipped: list[tuple[str, str]]
    """Cuts that were to be in it, by id, with the reason."""
    state: Any = None
    """Where a stream stands after it."""
    joined: int = 0
    """Cuts in it that stand in one row with others."""

    @property
    def padded_seconds(self) -> float:
        """Of audio, with padding; never less than the audio, of which frames may round a few milliseconds off."""
        return max(self.rows * self.row_seconds, self.seconds)


class CutBatches(Dataset[LoadedBatch]):
    """Make the tensors of a batch; indexed by `Batch`, not by number.

    Args:
        cuts: What is trained on.
        labels: Makes the targets.
        inputs: Makes the model's input.
        augmenter: What is done to the audio; None for nothing.

    Raises:
        UserError: The first cut has a fault that all would have.
    """

    timed = False
    """Whether timestamps inside a window are learned, so that a model can be followed by them through long audio."""

    def __init__(self, cuts: CutList, labels: Texts, inputs: Inputs, augmenter: Augmenter | None = None):
        self.cuts, self.labels, self.inputs, self.augmenter = cuts, labels, inputs, augmenter
        inputs.check(cuts[0], augmenter)

    def __getitem__(self, batch: Batch) -> LoadedBatch:
        items, labels, ids, seconds, joined = [], [], [], 0.0, 0
        skipped: list[tuple[str, str]] = []
        for positions, gap in batch.rows():
            for cuts, item, label in self.load_row([self.cuts[each] for each in positions], gap, batch.epoch, skipped):
                items.append(item)
                labels.append(label)
                ids += [cut.id for cut in cuts]
                seconds += sum(cut.duration for cut in cuts)
                joined += len(cuts) if len(cuts) > 1 else 0
        if not ids:  # nothing usable: silence without a target keeps this process in step with the others
            items, labels = [self.inputs.silence()], [self.labels.nothing()]
        inputs, row_seconds = self.inputs.collate(items, batch.padded)
        targets = self.pad_labels(labels)
        return LoadedBatch(
            inputs | targets,
            ids,
            seconds,
            rows=len(items),
            row_seconds=row_seconds,
            tokens=targets["labels"].shape[1],
            targets=int((targets["labels"] != IGNORED).sum()),
            skipped=skipped,
            state=batch.state,
            joined=joined,
        )

    def load(self, cut: Cut, epoch: int) -> Any:
        """Return a cut's input in an epoch."""
        return self.inputs.load(cut, epoch, self.augmenter)

    def load_row(
        self, cuts: list[Cut], gap: float, epoch: int, skipped: list[tuple[str, str]]
    ) -> Iterator[tuple[list[Cut], Any, Labels]]:
        """Yield the input and the labels of a cut, or of several joined; in halves where they cannot be used as one.

        Args:
            cuts: Of a row.
            gap: Seconds of silence between them.
            epoch: For what is drawn.
            skipped: Gets the cuts that cannot be used alone either.
        """
        try:
            cut = join(cuts, gap)
            item, label = self.load(cut, epoch), self.label(cut, epoch)
        except DataError as error:
            if len(cuts) == 1:
                skipped.append((cuts[0].id, naming(cuts[0].id, error)))
                return
            for half in (cuts[: len(cuts) // 2], cuts[len(cuts) // 2 :]):
                yield from self.load_row(half, gap, epoch, skipped)
        else:
            yield cuts, item, label

    def label(self, cut: Cut, epoch: int) -> Labels:
        """Return inputs and targets of a cut's text; the same in every epoch here.

        Raises:
            DataError: There is no text, or the tokens do not fit the decoder.
        """
        transcript = reference_of(cut)
        return check_fits(self.labels.encode(transcript.text, transcript.language), self.labels, cut.id)

    def pad_labels(self, labels: list[Labels]) -> dict[str, torch.Tensor]:
        """Pad inputs and targets of the texts into one batch."""
        return {name: torch.tensor(rows) for name, rows in self.labels.pad(labels).items()}


def check_fits(found: Labels, labels: Texts, cut_id: str) -> Labels:
    """Return the labels of a cut if the decoder has a position for each token.

    Raises:
        DataError: It has not.
    """
    if len(found.inputs) > labels.max_tokens:
        raise DataError(
            f"cut {cut_id}: {len(found.inputs)} tokens, the decoder has {labels.max_tokens} positions; leave it out"
        )
    return found


def naming(cut_id: str, error: DataError) -> str:
    """Return an error's message with the cut it is about."""
    return str(error) if f"cut {cut_id}" in str(error) else f"cut {cut_id}: {error}"


class PlanSampler(Sampler[Batch]):
    """One process's batches from a step on; the step is asked for when iteration begins, after a resume."""

    def __init__(self, plan: BatchPlan, rank: int, step: Any):
        self.plan, self.rank, self.step = plan, rank, step

    def __iter__(self) -> Iterator[Batch]:
        return self.plan.batches(self.rank, self.step())


def make_loader(
    batches: CutBatches, sampler: PlanSampler, workers: int, pin: bool = False, prefetch: int = 4
) -> DataLoader:
    """Make the loader of a process. It has no length, and accelerate must never prepare it: it is sharded already."""
    return DataLoader(
        batches,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
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
