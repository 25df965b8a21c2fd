"""A teacher's likeliest tokens on disk: what a student learns from when the teacher itself does not fit beside it.

In: for a cut and a choice of timestamps and prompt, the K likeliest tokens at each target and their log probabilities.
Out: the same by cut id, checked against the decoder inputs they were computed for. A folder holds, for each shard,
`ids-N.npy` (tokens, K) and `log_q-N.npy` (tokens, K) float16, mapped and read where needed, and `rows-N.jsonl`, a line
for each cut and choice; `facts.json`, written last, names what they are of. K = 32 costs 192 bytes a token (64 bytes
of ids below 65,536, twice as much above).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file, read_lines, to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.runtime.passes import Shard
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import Labels

FACTS = "facts.json"


class Choice(NamedTuple):
    """Which labels of a cut: those with timestamps, those with a prompt."""

    cut: str
    timestamps: bool
    previous: bool


class Place(NamedTuple):
    """Where the rows of a choice are."""

    shard: int
    begin: int
    count: int
    digest: int


@dataclass
class ShardWriter:
    """Collects one shard and writes it, the lines of its rows last."""

    shard: Shard
    ids: list[np.ndarray] = field(default_factory=list)
    log_q: list[np.ndarray] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0

    def add(self, choice: Choice, labels: Labels, ids: np.ndarray, log_q: np.ndarray) -> None:
        """Add the rows of one choice: ids and log probabilities (N, K) of the N targets of its labels."""
        self.rows.append(
            {"cut": choice.cut, "timestamps": choice.timestamps, "previous": choice.previous}
            | {"begin": self.tokens, "count": len(ids), "digest": inputs_digest(labels)}
        )
        self.ids.append(ids.astype(np.uint16 if ids.max(initial=0) < 2**16 else np.uint32))
        self.log_q.append(log_q.astype(np.float16))
        self.tokens += len(ids)

    def write(self, skips: Iterable[Skip]) -> None:
        """Write the shard, and what was left out of it."""
        place = self.shard.path("jsonl").parent
        for name, parts in (("ids", self.ids), ("log_q", self.log_q)):
            array = np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.uint16)
            with atomic_file(place / f"{name}-{self.shard.number}.npy") as file:
                # np.save does not report a full disk
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
                file.write(array.data)
        self.shard.finish(map(to_line, self.rows), skips)


class LogitCache:
    """The rows of a folder; goes to worker processes without its open files.

    Attributes:
        facts: Of what it was made: teacher, temperature, k, shards, ...
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / FACTS).is_file():
            raise DataError(f"{folder} is no finished cache (no {FACTS}); make it with egrecho cache-logits")
        self.facts: dict[str, Any] = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
        self.places: dict[Choice, Place] = {}
        for shard in range(self.facts["shards"]):
            for line in read_lines(self.folder / f"rows-{shard}.jsonl"):
                row = json.loads(line)
                choice = Choice(row["cut"], row["timestamps"], row["previous"])
                self.places[choice] = Place(shard, row["begin"], row["count"], row["digest"])
        self._files: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def rows(self, choice: Choice, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
        """Return ids (N, K) and log probabilities (N, K) for the N targets of a cut's labels.

        Raises:
            DataError: They are not there, or were computed for other decoder inputs.
        """
        place = self.places.get(choice)
        if place is None:
            raise DataError(
                f"cut {choice.cut} is not in {self.folder} (timestamps {choice.timestamps}, previous text "
                f"{choice.previous}); make the cache with the cuts and targets of the training"
            )
        if place.digest != inputs_digest(labels):
            raise DataError(f"cut {choice.cut}: {self.folder} was made from another text; make it again")
        if place.shard not in self._files:
            self._files[place.shard] = tuple(
                np.load(self.folder / f"{name}-{place.shard}.npy", mmap_mode="r") for name in ("ids", "log_q")
            )
        part = slice(place.begin, place.begin + place.count)
        ids, log_q = self._files[place.shard]
        return ids[part].astype(np.int64), log_q[part].astype(np.float32)


def inputs_digest(labels: Labels) -> int:
    """Return a number that other decoder inputs or targets would not have."""
    return crc32(np.array([*labels.inputs, IGNORED, *labels.targets], dtype=np.int64).tobytes())


def lay_out(labels: list[Labels], rows: list[tuple[np.ndarray, np.ndarray] | None]) -> tuple[np.ndarray, np.ndarray]:
    """Put the rows of a batch where their targets are: ids (B, L, K), log probabilities (B, L, K)."""
    longest = max(len(each.targets) for each in labels)
    k = next((found[0].shape[1] for found in rows if found is not None), 1)
    ids = np.zeros((len(labels), longest, k), dtype=np.int64)
    log_q = np.full((len(labels), longest, k), -1e4, dtype=np.float32)
    for place, (each, found) in enumerate(zip(labels, rows, strict=True)):
        if found is not None:
            targets = np.array(each.targets) != IGNORED
            ids[place, : len(targets)][targets], log_q[place, : len(targets)][targets] = found
    return ids, log_q
