"""Lhotse Shar folders as training data: tar files read from front to back, for sets too large for single files.

In: folders with `cuts.*.jsonl.gz` and `recording.*.tar` (`egrecho to-shar`). Out: what `CutList` and `BatchPlan` are to
manifests: `CutStream` knows lengths and texts from the cuts' lines, `StreamPlan` asks Lhotse's DynamicBucketingSampler
for batches. Shards are shuffled anew in every epoch, cuts within a buffer. A batch carries the sampler's state, which
goes into the checkpoint; a resumed run passes over the epoch's batches up to there, at the speed of reading. There is
no last step: `train.max_steps` ends a run. Every process reads all shards and keeps its own batches.
"""

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.cuts.index import check_unique_over
from egrecho_inner.data.sources.shar import ShardIndex, find_shards, read_shard
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.text.constants import WINDOW_SECONDS

BUFFER = 10_000
"""Cuts that wait to be put together, with their audio: what is shuffled, and what memory must hold."""


class CutStream(CutList):
    """The cuts of Shar folders. A plan hands over the cuts themselves: indexed by one, it returns it.

    Raises:
        DataError: A folder has no shards, some are missing, or two cuts have the same id.
    """

    def __init__(self, folders: Sequence[str]):
        self.indexes = [ShardIndex(shard) for folder in folders for shard in find_shards(folder)]
        check_unique_over(self.indexes)
        self.key = "data.train"
        self.keep_all()

    def __getitem__(self, position: int | Cut) -> Cut:
        return position if isinstance(position, Cut) else super().__getitem__(position)

    @property
    def digest(self) -> str:
        """One hash over all shards."""
        return hashlib.sha256("".join(sorted(index.digest for index in self.indexes)).encode()).hexdigest()

    def read(self, seed: int) -> CutSet:
        """Read the kept cuts with their audio, shard by shard in an order drawn by a seed."""
        return CutSet(KeptCuts(self, seed))


class KeptCuts:
    """The kept cuts of a stream, read anew by every iteration."""

    def __init__(self, stream: CutStream, seed: int):
        self.indexes, self.seed = stream.indexes, seed
        self.kept = np.zeros(int(stream.starts[-1]), dtype=bool)
        self.kept[stream.kept] = True
        self.starts = stream.starts

    def __iter__(self) -> Iterator[Cut]:
        order = list(range(len(self.indexes)))
        random.Random(self.seed).shuffle(order)
        for place in order:
            kept = self.kept[self.starts[place] :]
            yield from (cut for within, cut in enumerate(read_shard(self.indexes[place].shard)) if kept[within])


class StreamPlan:
    """Batches of a stream without end; takes the place of `BatchPlan`.

    Args:
        cuts: The stream.
        options: How cuts are put together.
        seed: Of the run.
        world_size: Processes.
        accumulation: Batches per process and optimizer step.
        padded_share: Share of cuts padded to 30 s; all or none here.
        state: Of the sampler, from a checkpoint.
    """

    def __init__(
        self,
        cuts: CutStream,
        options: BatchOptions,
        seed: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        padded_share: float = 0.0,
        state: dict[str, int] | None = None,
    ):
        if padded_share not in (0.0, 1.0):
            raise ConfigError("window mixed wants a manifest; from Shar folders take window longest or 30s")
        if options.short_first:
            raise ConfigError("batch.short_first wants a manifest; Shar folders are read in their own order")
        self.cuts, self.options, self.seed, self.world_size = cuts, options, seed, world_size
        self.padded, self.state = padded_share == 1.0, state
        seconds = np.full(len(cuts), WINDOW_SECONDS) if self.padded else cuts.durations
        batches = len(cuts) / options.batch_size if options.batch_size else seconds.sum() / options.max_duration
        self.steps = max(math.ceil(batches / world_size / accumulation), 1)

    def sampler(self, rank: int, epoch: int) -> DynamicBucketingSampler:
        """Make Lhotse's sampler of an epoch."""
        options, seconds = self.options, self.cuts.durations
        most = options.batch_size
        if self.padded and most is None:
            most = max(int(options.max_duration / WINDOW_SECONDS), 1)
        sampler = DynamicBucketingSampler(
            self.cuts.read(self.seed + epoch),
            max_duration=None if most else options.max_duration,
            max_cuts=most,
            quadratic_duration=None if most else options.quadratic_duration,
            duration_bins=duration_bins(seconds),
            buffer_size=BUFFER,
            shuffle=True,
            seed=self.seed,
            world_size=self.world_size,
            rank=rank,
        )
        sampler.set_epoch(epoch)
        return sampler

    def batches(self, rank: int = 0, step: int = 0) -> Iterator[Batch]:
        """Yield one process's batches, endlessly, from the state on.

        Raises:
            ModelError: A run is continued whose checkpoint knows of no stream.
        """
        if step and self.state is None:
            raise ModelError("the checkpoint was not trained from Shar folders; give its manifests, or another --out")
        state = self.state or {"epoch": 0, "taken": 0}
        epoch, passed = state["epoch"], state["taken"] // self.world_size
        while True:
            for number, cuts in enumerate(self.sampler(rank, epoch), 1):
                if number > passed:
                    state = {"epoch": epoch, "taken": number * self.world_size}
                    yield Batch(epoch, list(cuts), self.padded, state)
            epoch, passed = epoch + 1, 0

    def steps_per_epoch(self, epoch: int = 0) -> int:
        """Refuse: nobody knows before the shards are read.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("Shar folders are read in a stream: set train.max_steps instead of train.num_epochs")

    first_step = steps_per_epoch

    def epochs_at(self, step: int) -> float:
        """Return about how many epochs are done before a step."""
        return step / self.steps

    def largest(self) -> None:
        """Return no batch: a stream cannot be asked for its longest cuts."""


def open_cuts(train: list[str] | str) -> CutList:
    """Open what is trained on.

    Raises:
        ConfigError: Manifests and Shar folders are mixed.
    """
    paths = [train] if isinstance(train, str) else train
    streams = [path for path in paths if is_shar(path)]
    if not streams:
        return CutList(paths)
    if len(streams) < len(paths):
        raise ConfigError(f"data.train: {streams[0]} is a Shar folder, others are manifests; give one kind")
    return CutStream(paths)


def is_shar(path: str) -> bool:
    """Tell whether a path is a Shar folder."""
    return Path(path).is_dir()


def duration_bins(durations: np.ndarray, buckets: int = 30) -> list[float]:
    """Return where buckets of equal total duration begin, without the first; never two at one place."""
    ordered = np.sort(durations)
    total = np.cumsum(ordered)
    places = np.searchsorted(total, total[-1] * np.arange(1, buckets) / buckets)
    bins = np.unique(ordered[np.minimum(places, len(ordered) - 1)])
    return bins.tolist()
