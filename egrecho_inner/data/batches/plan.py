"""The batch plan: which cuts go together, in which order, on which process. A pure function of its arguments.

In: durations (N,), options, seed, world size, accumulation. Out: for each epoch a list of steps of equal length for
every process. Cuts are sorted by duration with a little jitter, cut into batches of bounded padded duration, and
world x accumulation neighbouring batches make one step: ranks finish together, and the cuts of a step do not depend on
how it is divided. Resuming is arithmetic: step s of the run is step s - first(epoch) of its epoch; a file in the run
folder remembers where epochs begin, so that earlier ones need not be planned again.
Left out: buckets; a sorted order is their limit of many.
"""

import bisect
import hashlib
import json
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from egrecho_inner import __version__
from egrecho_inner.data.batches.joining import CutRows, join_rows
from egrecho_inner.data.batches.options import BatchOptions, RowOptions
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import write_json
from egrecho_inner.text.constants import WINDOW_SECONDS

Padding = bool | Literal["zeros"]
"""Whether a batch is padded to 30 s: False, True for silence behind the audio, "zeros" for zeros of the log-mel."""
JITTER = 0.03
"""Cuts within this share of each other's duration change places between epochs; costs about that share of padding."""


ZEROING = 0x7A65726F
"""Sets the draws of what is padded with zeros apart from those of the plan."""


class Batch(NamedTuple):
    """What one process works on at once."""

    epoch: int
    positions: np.ndarray
    """Of the cuts, in the plan's list (B,); of joined ones one after the other."""
    padded: Padding
    """Whether it is padded to 30 s."""
    state: dict[str, int] | None = None
    """Of a stream, when this batch has been taken."""
    sizes: np.ndarray | None = None
    """Cuts of each row (R,); None where each has one."""
    gaps: np.ndarray | None = None
    """Seconds of silence between the cuts of a row (R,)."""

    def rows(self) -> Iterator[tuple[list[int], float]]:
        """Yield each row's cuts and the silence between them."""
        if self.sizes is None or self.gaps is None:
            yield from (([int(position)], 0.0) for position in self.positions)
            return
        parts = np.split(self.positions, np.cumsum(self.sizes)[:-1])
        yield from ((part.tolist(), float(gap)) for part, gap in zip(parts, self.gaps, strict=True))


def make_batch(
    epoch: int, rows: CutRows, chosen: np.ndarray, padded: Padding, state: dict[str, int] | None = None
) -> Batch:
    """Make the batch of some rows."""
    taken = rows.take(chosen)
    if len(taken.positions) == len(taken.gaps):
        return Batch(epoch, taken.positions, padded, state)
    return Batch(epoch, taken.positions, padded, state, taken.sizes, taken.gaps)


class BatchPlan:
    """All batches of a run.

    Args:
        durations: Seconds of every cut (N,).
        options: How cuts are put together.
        seed: Of the run.
        world_size: Processes.
        accumulation: Batches per process and optimizer step.
        padded_share: Share of cuts padded to 30 s: 0 for window longest, 1 for 30s, between for mixed.
        rows: What is in a row, and which rows are padded how.
        alike: Only cuts of one number may be joined (N,).
    """

    def __init__(
        self,
        durations: np.ndarray,
        options: BatchOptions,
        seed: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        padded_share: float = 0.0,
        rows: RowOptions = RowOptions(),
        alike: np.ndarray | None = None,
    ):
        self.durations = np.asarray(durations, dtype=np.float64)
        self.row_options = rows
        self.alike = np.zeros(len(self.durations), dtype=np.int64) if alike is None else alike
        self.options, self.seed = options, seed
        self.world_size, self.accumulation = world_size, accumulation
        self.padded_share = padded_share
        if len(self.durations) < world_size * accumulation:
            raise DataError(
                f"{len(self.durations)} cuts cannot fill one step of {world_size} processes x {accumulation} batches; "
                "use fewer, or give more data"
            )
        self.steps_of = lru_cache(maxsize=2)(self._steps_of)
        self._first = [0]  # step of the run at which each epoch begins

    def _steps_of(self, epoch: int) -> list[list[Batch]]:
        """Return the steps of an epoch; each has world_size x accumulation batches."""
        rng = np.random.default_rng([self.seed, epoch])
        rows = self.rows(epoch)
        costs, padded = rows.seconds, np.zeros(len(rows.seconds), dtype=bool)
        if self.padded_share > 0 and epoch >= self.row_options.padded_from:
            padded = rng.random(len(costs)) < padded_chance(costs, self.padded_share, self.row_options.by_time)
            costs = np.where(padded, WINDOW_SECONDS, costs)
        keys = costs * (1 + rng.uniform(-JITTER, JITTER, len(costs)))
        order = rng.permutation(len(keys))
        order = order[np.argsort(keys[order], kind="stable")]
        group = self.world_size * self.accumulation
        if self.options.batch_size is not None:
            spare = len(order) % (self.options.batch_size * group)
            if spare < group:  # too few for one cut each: they wait for the next epoch's draw
                order = np.delete(order, rng.choice(len(order), spare, replace=False))
            parts = divide_last(np.split(order, cut_batches(costs[order], self.options)[:-1]), group)
        else:
            parts = halve_largest(np.split(order, cut_batches(costs[order], self.options)[:-1]), group, rng)
        zeros = np.random.default_rng([self.seed, epoch, ZEROING]).random(len(parts)) < self.row_options.zeros
        batches = [
            make_batch(epoch, rows, part, bool(padded[part].any()) and ("zeros" if zero else True))
            for part, zero in zip(parts, zeros, strict=True)
        ]
        steps = [batches[begin : begin + group] for begin in range(0, len(batches), group)]
        if self.options.short_first and epoch == 0:
            return steps
        return [steps[i] for i in rng.permutation(len(steps))]

    def rows(self, epoch: int = 0) -> CutRows:
        """Return what stands in the rows of an epoch."""
        return join_rows(self.durations, self.alike, self.row_options.concatenate, [self.seed, epoch])

    def joined_seconds(self) -> np.ndarray:
        """Return how long the rows of several cuts are in epoch 0; empty where none are joined."""
        rows = self.rows()
        return rows.seconds[rows.sizes > 1]

    def steps_per_epoch(self, epoch: int = 0) -> int:
        """Return the optimizer steps of an epoch."""
        return len(self.steps_of(epoch))

    def first_step(self, epoch: int) -> int:
        """Return the step of the run at which an epoch begins."""
        while len(self._first) <= epoch:
            self._first.append(self._first[-1] + self.steps_per_epoch(len(self._first) - 1))
        return self._first[epoch]

    @property
    def key(self) -> str:
        """Name everything that the plan depends on; how a step's batches are divided is not among it."""
        group = self.world_size * self.accumulation
        facts = repr((__version__, self.options, self.seed, group, self.padded_share, self.row_options))
        return hashlib.sha256(facts.encode() + self.durations.tobytes() + self.alike.tobytes()).hexdigest()[:16]

    def remember(self, path: Path) -> None:
        """Write down where the epochs planned so far begin."""
        write_json(path, {"key": self.key, "first_steps": self._first}, indent=None)

    def recall(self, path: Path) -> None:
        """Take over what `remember` wrote, if it was this plan's."""
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["key"] == self.key and len(known["first_steps"]) > len(self._first):
                self._first = [int(step) for step in known["first_steps"]]
        except (OSError, ValueError, KeyError, TypeError):
            return

    def locate(self, step: int) -> tuple[int, int]:
        """Return epoch and step within it for a step of the run."""
        epoch = bisect.bisect_right(self._first, step) - 1
        while self.first_step(epoch + 1) <= step:
            epoch += 1
        return epoch, step - self.first_step(epoch)

    def epochs_at(self, step: int) -> float:
        """Return how many epochs are done before a step."""
        epoch, within = self.locate(step)
        return epoch + within / (self.first_step(epoch + 1) - self.first_step(epoch))

    def batches(self, rank: int = 0, step: int = 0) -> Iterator[Batch]:
        """Yield one process's batches, endlessly, from a step of the run on."""
        epoch, within = self.locate(step)
        while True:
            for group in self.steps_of(epoch)[within:]:
                yield from group[rank :: self.world_size]
            epoch, within = epoch + 1, 0

    def largest(self) -> Batch:
        """Return the batch of epoch 0 with the most padded seconds: what memory must hold."""
        first = math.ceil(self.row_options.padded_from) if self.padded_share else 0  # where something is padded
        batches = [batch for step in self.steps_of(first) for batch in step]
        return max(batches, key=lambda batch: self.padded_seconds(batch))

    def padded_seconds(self, batch: Batch) -> float:
        """Return what a batch costs in seconds, padding included."""
        if batch.sizes is None:
            longest = WINDOW_SECONDS if batch.padded else float(self.durations[batch.positions].max())
            return len(batch.positions) * longest
        seconds = [
            float(self.durations[positions].sum()) + gap * (len(positions) - 1) for positions, gap in batch.rows()
        ]
        return len(seconds) * (WINDOW_SECONDS if batch.padded else max(seconds))

    def padding_share(self, epoch: int = 0) -> float:
        """Return the share of an epoch's computed seconds that is padding."""
        batches = [batch for step in self.steps_of(epoch) for batch in step]
        total = sum(map(self.padded_seconds, batches))
        return 1 - sum(float(self.durations[batch.positions].sum()) for batch in batches) / total


def padded_chance(seconds: np.ndarray, share: float, by_time: bool) -> np.ndarray:
    """Return each row's chance to be padded to 30 s (R,).

    Args:
        seconds: Of the rows (R,).
        share: Of the rows; with `by_time` of the seconds that are computed, padding included. A row's chance grows with
            its length then: padding says as much behind twenty words as behind one, and costs the same.
        by_time: What the share is of.
    """
    if not by_time or share in (0.0, 1.0):
        return np.full(len(seconds), share)
    low, high = 0.0, WINDOW_SECONDS / float(seconds.min()) * 2  # chances q * seconds / 30 at most 1: solved by halving
    for _ in range(60):
        middle = (low + high) / 2
        chances = np.minimum(middle * seconds / WINDOW_SECONDS, 1.0)
        padded = WINDOW_SECONDS * chances.sum()
        low, high = (middle, high) if padded < share * (padded + ((1 - chances) * seconds).sum()) else (low, middle)
    return chances


def cut_batches(costs: np.ndarray, options: BatchOptions) -> list[int]:
    """Return where batches end in costs that grow but for jitter (N,)."""
    n = len(costs)
    if options.batch_size is not None:
        return [*range(options.batch_size, n, options.batch_size), n]
    if options.quadratic_duration:
        costs = costs + costs**2 / options.quadratic_duration
    limit, ends, begin = options.max_duration, [], 0
    while begin < n:
        most = max(int(limit / max(costs[begin] * (1 - 2 * JITTER), 1e-3)) + 1, 1)
        longest = np.maximum.accumulate(costs[begin : begin + most])
        fits = longest * np.arange(1, len(longest) + 1) <= limit
        begin += max(int(fits.sum()), 1)  # one cut longer than the limit still makes a batch
        ends.append(begin)
    return ends


def divide_last(batches: list[np.ndarray], group: int) -> list[np.ndarray]:
    """Share the cuts of the last, incomplete step among all its batches: the same cuts however a step is divided."""
    whole = len(batches) // group * group
    rest = batches[whole:]
    return [*batches[:whole], *(np.array_split(np.concatenate(rest), group) if rest else [])]


def halve_largest(batches: list[np.ndarray], group: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Halve the batches of most cuts until steps are whole; where each has but one cut, leave out some at random.

    No batch grows, and no length is preferred: leaving out the last ones would never train on the longest cuts.
    """
    while missing := -len(batches) % group:
        sizes = np.array([len(batch) for batch in batches])
        chosen = np.argsort(-sizes, kind="stable")[:missing]
        chosen = set(chosen[sizes[chosen] > 1].tolist())
        if not chosen:
            spare = set(rng.choice(len(batches), len(batches) % group, replace=False).tolist())
            return [batch for place, batch in enumerate(batches) if place not in spare]
        halves = [np.array_split(batch, 2) if place in chosen else [batch] for place, batch in enumerate(batches)]
        batches = [half for parts in halves for half in parts]
    return batches
