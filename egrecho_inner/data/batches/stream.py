"""Lhotse Shar folders as training data: shards of some hundred cuts, for sets too large for single files.

In: folders with `cuts.*.jsonl.gz` and `recording.*.tar` (`egrecho to-shar`). Out: what `CutList` and `BatchPlan` are to
manifests. `CutStream` knows lengths and texts from the shards' indexes and reads a cut by its position. `StreamPlan`
deals the shards of an epoch out to the processes, in another order each time; a process puts the cuts of some shards
(about ten thousand cuts) together into batches, then goes on to the next. So each process reads its part of the bytes,
from few files at a time, in its loader's workers; every cut comes once an epoch over all processes.
Where a run stands is a number of batches: shards before it are passed over by their counts, without reading them. There
is no last step: `train.max_steps` ends a run, and a process that is through with its part begins the next epoch.
"""

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lhotse.cut import Cut

from egrecho_inner.data.batches.cut_list import TEXTS, CutList
from egrecho_inner.data.batches.inputs import Texts
from egrecho_inner.data.batches.joining import join_rows
from egrecho_inner.data.batches.options import BatchOptions, RowOptions
from egrecho_inner.data.batches.plan import JITTER, ZEROING, Batch, Padding, cut_batches, make_batch
from egrecho_inner.data.cuts.index import check_unique_over
from egrecho_inner.data.sources.shar import find_shards
from egrecho_inner.data.sources.shard_index import ShardIndex, ShardReader
from egrecho_inner.errors import ConfigError, DataError, ModelError
from egrecho_inner.text.constants import WINDOW_SECONDS

logger = logging.getLogger(__name__)

TOGETHER = 10_000
"""Cuts that batches are made of at a time: enough to find some of like length, few enough to be in few files."""
OPEN_SHARDS = 48
"""Whose lines a process holds, about 1 MB each: those of some blocks, since workers are ahead of each other."""
EVEN = 8
"""Blocks for each process from which on they are dealt out as they are, without dividing them to be even."""
COUNTED = 100_000
"""Cuts whose lines a start reads at most to count the tokens of long texts: about 20 s."""


class CutStream(CutList):
    """The cuts of Shar folders, read by position.

    Raises:
        DataError: A folder has no shards, some are missing, or two cuts have the same id.
    """

    def __init__(self, folders: Sequence[str]):
        self.indexes = [ShardIndex(shard) for folder in folders for shard in find_shards(folder)]
        check_unique_over(self.indexes)
        self.key = "data.train"
        self.readers: dict[int, ShardReader] = {}
        self.keep_all()

    def __getitem__(self, position: int) -> Cut:
        where = int(self.kept[position])
        part = int(np.searchsorted(self.starts, where, side="right")) - 1
        reader = self.readers.pop(part, None) or ShardReader(self.indexes[part])
        self.readers[part] = reader  # the last one in the dict is the last one used
        while len(self.readers) > OPEN_SHARDS:
            del self.readers[next(iter(self.readers))]
        return reader[where - int(self.starts[part])]

    def alike(self, same_speaker: bool) -> np.ndarray:
        """Number the kept cuts by language and speaker (N,).

        Raises:
            ConfigError: All lines of a large stream would be read for their speakers.
        """
        if same_speaker and self.starts[-1] > COUNTED:
            raise ConfigError(
                f"augment.concatenate.same_speaker would read all {self.starts[-1]:,} lines of the Shar folders for "
                "their speakers before the first step; set it false"
            )
        return super().alike(same_speaker)

    def too_long(self, labels: Texts, limit: int | None = None) -> np.ndarray:
        """Return the cuts whose text does not fit the decoder, or has more tokens than a limit (N,).

        Of a large stream none: to count tokens all its lines would be read at the first start, over half an hour for
        ten million windows. The loader leaves a text that does not fit out when it comes to it, counted as a skip.
        """
        name = f"{TEXTS[self.source]}_bytes"
        lines = sum(len(index) for index in self.indexes if (getattr(index, name) > labels.always_fits).any())
        if limit is None and lines > COUNTED:
            logger.info("texts of over %d tokens are left out when they are read, not before", labels.max_tokens)
            return np.zeros(int(self.starts[-1]), dtype=bool)
        return super().too_long(labels, limit)

    @property
    def digest(self) -> str:
        """One hash over all shards."""
        return hashlib.sha256("".join(sorted(index.digest for index in self.indexes)).encode()).hexdigest()


class Block(NamedTuple):
    """Shards whose cuts are put together."""

    shards: np.ndarray
    piece: int = 0
    """Of its cuts every n-th is taken, from this one on, where there are fewer blocks than processes."""
    pieces: int = 1


class StreamPlan:
    """Batches of a stream without end; takes the place of `BatchPlan`.

    Args:
        cuts: The stream.
        options: How cuts are put together.
        seed: Of the run.
        world_size: Processes.
        accumulation: Batches per process and optimizer step.
        padded_share: Share of cuts padded to 30 s; all or none here.
        state: Of a checkpoint: how many batches all processes have taken.
        rows: What is in a row, and what the padding is.
        alike: Only cuts of one number may be joined (N,).
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
        rows: RowOptions = RowOptions(),
        alike: np.ndarray | None = None,
    ):
        if padded_share not in (0.0, 1.0):
            raise ConfigError("window mixed wants a manifest; from Shar folders take window longest or 30s")
        if options.short_first:
            raise ConfigError("batch.short_first wants a manifest; Shar folders are read in their own order")
        if len(cuts) < world_size:
            raise DataError(f"{len(cuts)} cuts are too few for {world_size} processes; use fewer, or give more data")
        self.cuts, self.options, self.seed, self.world_size = cuts, options, seed, world_size
        self.padded, self.state, self.row_options = padded_share == 1.0, state, rows
        self.alike = np.zeros(len(cuts), dtype=np.int64) if alike is None else alike
        self.edges = np.searchsorted(cuts.kept, cuts.starts)
        self.durations = cuts.durations
        seconds = len(cuts) * WINDOW_SECONDS if self.padded else float(self.durations.sum())
        batches = len(cuts) / options.batch_size if options.batch_size else seconds / options.max_duration
        self.steps = max(math.ceil(batches / world_size / accumulation), 1)

    def blocks(self, epoch: int) -> list[Block]:
        """Return the blocks of an epoch, which together hold every cut once."""
        counts = np.diff(self.edges)
        order = np.random.default_rng([self.seed, epoch]).permutation(np.flatnonzero(counts))
        counts = counts[order]
        wanted = max(min(TOGETHER, int(counts.sum()) // self.world_size), 1)
        number = (np.cumsum(counts) - counts) // wanted
        whole = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        if len(whole) >= EVEN * self.world_size:
            return [Block(shards) for shards in whole]
        pieces = self.world_size // math.gcd(len(whole), self.world_size)
        return [Block(shards, piece, pieces) for shards in whole for piece in range(pieces)]

    def batches_of(self, epoch: int, block: Block) -> list[Batch]:
        """Return the batches of a block: cuts, or rows of joined ones, of like length."""
        runs = [np.arange(self.edges[shard], self.edges[shard + 1]) for shard in block.shards]
        positions = np.concatenate(runs)[block.piece :: block.pieces]
        if not len(positions):
            return []
        seed = [self.seed, epoch, int(block.shards[0]), block.piece]
        rng = np.random.default_rng(seed)
        positions = rng.permutation(positions)
        rows = join_rows(self.durations[positions], self.alike[positions], self.row_options.concatenate, seed)
        rows = rows._replace(positions=positions[rows.positions])
        costs = np.full(len(rows.seconds), WINDOW_SECONDS) if self.padded else rows.seconds
        order = np.argsort(costs * (1 + rng.uniform(-JITTER, JITTER, len(costs))), kind="stable")
        parts = np.split(order, cut_batches(costs[order], self.options)[:-1])
        zeros = np.random.default_rng([*seed, ZEROING]).random(len(parts)) < self.row_options.zeros
        ways: list[Padding] = [self.padded and ("zeros" if zero else True) for zero in zeros]
        return [make_batch(epoch, rows, parts[place], ways[place]) for place in rng.permutation(len(parts))]

    def batches(self, rank: int = 0, step: int = 0) -> Iterator[Batch]:
        """Yield one process's batches, endlessly, from the state on.

        Raises:
            ModelError: A run is continued whose checkpoint knows of no stream, or of one that was read otherwise.
        """
        if step and self.state is None:
            raise ModelError("the checkpoint was not trained from Shar folders; give its manifests, or another --out")
        state = self.state or {"taken": 0}
        if "epoch" in state:
            raise ModelError("the checkpoint was trained from shards in another order; train again from its weights")
        taken, epoch = state["taken"] // self.world_size, 0
        passed = taken
        while True:
            # another process begins each time, so that none of them has the larger part in every epoch
            for block in self.blocks(epoch)[(rank + epoch) % self.world_size :: self.world_size]:
                for batch in self.batches_of(epoch, block):
                    if passed:
                        passed -= 1
                        continue
                    taken += 1
                    yield batch._replace(state={"taken": taken * self.world_size})
            epoch += 1

    def joined_seconds(self) -> np.ndarray:
        """Return how long the rows of several cuts are in one block; empty where none are joined."""
        batches = self.batches_of(0, self.blocks(0)[0]) if self.row_options.concatenate else []
        rows = [row for batch in batches for row in batch.rows() if len(row[0]) > 1]
        return np.array([self.durations[cuts].sum() + gap * (len(cuts) - 1) for cuts, gap in rows])

    def steps_per_epoch(self, epoch: int = 0) -> int:
        """Refuse: processes do not begin an epoch together.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("Shar folders are read in a stream: set train.max_steps instead of train.num_epochs")

    first_step = steps_per_epoch

    def epochs_at(self, step: int) -> float:
        """Return about how many epochs are done before a step."""
        return step / self.steps

    def largest(self) -> None:
        """Return no batch: a stream is not searched for its longest cuts."""


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
