"""Lhotse Shar folders as training data: tar files read from front to back, for sets too large for single files.

In: folders with `cuts.*.jsonl.gz` and `recording.*.tar` (`egrecho to-shar`). Out: what `CutList` and `BatchPlan` are to
manifests: `CutStream` knows lengths and texts from the cuts' lines, `StreamPlan` asks Lhotse's DynamicBucketingSampler
for batches. Shards are shuffled anew in every epoch, cuts within a buffer. A batch carries the sampler's state, which
goes into the checkpoint; a resumed run passes over the epoch's batches up to there, at the speed of reading. There is
no last step: `train.max_steps` ends a run. Every process reads all shards and keeps its own batches.
"""

import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.serialization import deserialize_item

from egrecho_inner.data.batching import WINDOW_SECONDS, Batch
from egrecho_inner.data.cut_list import MIN_SECONDS, CutList
from egrecho_inner.data.index import Columns, measure
from egrecho_inner.data.options import BatchOptions
from egrecho_inner.errors import ConfigError, DataError, ModelError

BUFFER = 10_000
"""Cuts that wait to be put together, with their audio: what is shuffled, and what memory must hold."""


class ShardIndex:
    """Lengths and texts of the cuts of one shard, as `CutIndex` has them."""

    def __init__(self, path: Path):
        self.path = path
        digest, columns = hashlib.sha256(), Columns()
        for number, line in enumerate(self.lines(), 1):
            digest.update(line)
            line = line.replace(b'"type": "shar"', b'"type": "memory"')  # stands for what is in the tar
            columns.add(measure(line, path, number))
        self.languages = columns.languages
        for name, values in columns.arrays().items():
            setattr(self, name, values)
        self.digest = digest.hexdigest()

    def lines(self) -> Iterator[bytes]:
        """Read the shard."""
        try:
            with gzip.open(self.path, "rb") if self.path.suffix == ".gz" else open(self.path, "rb") as lines:
                yield from lines
        except (EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path} is cut off or not gzip ({error}); write the shards again") from error

    def __len__(self) -> int:
        return len(self.durations)

    def __getitem__(self, position: int) -> Cut:
        """Return one cut without its audio."""
        return next(deserialize_item(json.loads(line)) for n, line in enumerate(self.lines()) if n == position)


class CutStream(CutList):
    """The cuts of Shar folders. A plan hands over the cuts themselves: indexed by one, it returns it.

    Raises:
        DataError: A folder has no shards, or a field has not as many as the cuts.
    """

    def __init__(self, folders: Sequence[str]):
        self.fields = find_fields([Path(folder) for folder in folders])
        self.indexes = [ShardIndex(Path(path)) for path in self.fields["cuts"]]
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
        longest = float(self.durations.max())

        def usable(cut: Cut) -> bool:
            if any(source.type != "memory" for source in cut.recording.sources):
                raise DataError(f"cut {cut.id}: its audio is not in the shard's tar; write the shards again")
            return MIN_SECONDS <= cut.duration <= longest and self.has_text(cut)

        cuts = CutSet.from_shar(fields=self.fields, shuffle_shards=True, stateful_shuffle=False, seed=seed)
        return cuts.filter(usable)


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
            raise ModelError("the checkpoint was not trained from Shar folders; give its manifests, or another outdir")
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


def is_shar(path: str) -> bool:
    """Tell whether a path is a Shar folder."""
    return Path(path).is_dir()


def find_fields(folders: list[Path]) -> dict[str, list[str]]:
    """Return the shards of each field, in one order.

    Raises:
        DataError: A folder is not one of Shar, or shards are missing.
    """
    fields: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.[0-9]*.*")):
            fields.setdefault(path.name.split(".")[0], []).append(str(path))
        if not list(folder.glob("cuts.*")) or not list(folder.glob("recording.*")):
            raise DataError(f"{folder} is no Shar folder with audio; expected cuts.*.jsonl.gz and recording.*.tar")
    for name, paths in fields.items():
        if len(paths) != len(fields["cuts"]):
            both = f"{len(fields['cuts'])} shards of cuts, {len(paths)} of {name}"
            raise DataError(f"{folders[0]}: {both}; copy all of them, or write them again")
    return fields


def duration_bins(durations: np.ndarray, buckets: int = 30) -> list[float]:
    """Return where buckets of equal total duration begin, without the first; never two at one place."""
    ordered = np.sort(durations)
    total = np.cumsum(ordered)
    places = np.searchsorted(total, total[-1] * np.arange(1, buckets) / buckets)
    bins = np.unique(ordered[np.minimum(places, len(ordered) - 1)])
    return bins.tolist()
