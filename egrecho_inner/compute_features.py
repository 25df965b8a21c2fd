#!/usr/bin/env python
"""Cuts in, cuts with stored log-mel features out; killed at any point and repeated, it gives the same bytes.

The cuts are dealt into shards by their position alone. A shard is one task: it writes `feats-K.lca`, then its cuts,
then its done-marker, each by renaming. The final manifest is written last, from the shards in order; then their cuts
and markers go. `job.json` says which cuts and options the archives are of; another job starts anew.
Left out: several archives per worker or per day; the number of jobs must not change a byte of the result.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from lhotse import MonoCut

from egrecho_inner.config import run
from egrecho_inner.data.audio import load_audio
from egrecho_inner.data.cuts import scan_manifest
from egrecho_inner.data.feature_store import TICK_POWER, FeatureArchive, bytes_per_hour
from egrecho_inner.data.features import TAIL_FRAMES, log_mel
from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.files import free_space, read_lines, to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger

EXTRACTOR = "egrecho-log-mel-1"  # changes when the same wave would give other values
SHARDS = 64  # of a corpus of some size: enough work for as many cores
SHORTEST_SHARD, LONGEST_SHARD = 600, 7200  # seconds of audio; a kill loses at most one shard per worker


def compute_features(
    cuts: str,
    out: str,
    storage: str = "",
    features: Literal["offline", "none"] = "offline",
    num_mel_bins: Literal[80, 128] = 80,
    tick_power: int = TICK_POWER,
    jobs: int = 1,
    executor: str = "processes",
    max_skip_ratio: float = 0.01,
    ledger: str = "",
) -> None:
    """Compute Whisper's log-mel features of all cuts and store them.

    Args:
        cuts: Manifest of cuts, `.jsonl` or `.jsonl.gz`.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`; it appears when everything is done.
        storage: Folder of the archives; by default beside `out`, `_cuts_` in its name replaced by `_feats_`.
        features: `none` only writes the manifest: features are then computed while training.
        num_mel_bins: 80, or 128 for large-v3 and its kin.
        tick_power: Values are kept to multiples of 2^tick_power (see docs/features.md).
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
        max_skip_ratio: Largest share of cuts that may have no usable audio.
        ledger: File that names what was left out and why; by default `skipped.jsonl` beside `out`.
    """
    if not -14 <= tick_power <= -3:
        raise ConfigError(f"tick_power is {tick_power}; expected -14 (finest) to -3, default {TICK_POWER}")
    scan_manifest(cuts)
    if features == "none":
        print(f"{out}: {write_jsonl(out, read_lines(cuts))} cuts, features on the fly")
        return
    job = _Job.of(cuts, out, storage or _storage_beside(out), num_mel_bins, tick_power)
    if job.is_done():
        job.clean()
        print(f"{out}: already done")
        return
    job.begin()
    _check_room(job)
    try:
        for _ in map_unordered(compute_shard, job.open_shards(), jobs, executor):
            pass
    except MachineError as error:
        raise MachineError(f"{error}; all features of {cuts} need about {job.room / 1e6:,.0f} MB") from error
    skipped = Ledger(ledger or Path(out).with_name("skipped.jsonl"))
    for shard in range(job.shards):
        for skip in json.loads(job.path(shard, "done").read_text())["skips"]:
            skipped.add(**skip)
    if skipped.skips or skipped.path.exists():
        skipped.write(job.stage)
    skipped.check_limit(job.total, max_skip_ratio, cuts)
    kept = write_jsonl(out, (line for shard in range(job.shards) for line in read_lines(job.path(shard, "jsonl"))))
    job.clean()
    print(f"{out}: {skipped.summary(job.total, 'cuts')}; {job.seconds / 3600:.2f} h in {job.storage} ({kept} lines)")


@dataclass(frozen=True)
class Shard:
    """The work of one task."""

    index: int
    storage: str
    stage: str
    num_mel_bins: int
    tick_power: int
    lines: tuple[str, ...]
    """The cuts' JSON."""


def compute_shard(shard: Shard) -> int:
    """Compute and store the features of one shard; give the number of cuts that have them."""
    torch.set_num_threads(1)  # one core per task; threads would also change the order of sums
    lines, skips, folder = [], [], Path(shard.storage)
    with FeatureArchive(folder / f"feats-{shard.index}.lca", shard.tick_power) as archive:
        for line in shard.lines:
            cut = _read_cut(line)
            try:
                feats = log_mel(load_audio(cut), shard.num_mel_bins, TAIL_FRAMES)
            except DataError as error:
                skip = {"id": cut.id, "stage": shard.stage, "reason": "unusable audio", "value": str(error)}
                skips.append(skip | {"seconds": cut.duration})
                continue
            cut.features = archive.describe(cut, shard.num_mel_bins, archive.add(feats))
            lines.append(to_line(cut.to_dict()))
    write_jsonl(folder / f"feats-{shard.index}.jsonl", lines)
    write_jsonl(folder / f"feats-{shard.index}.done", [json.dumps({"skips": skips})])
    return len(lines)


@dataclass(frozen=True)
class _Job:
    """Which cuts become which files; all of it follows from the manifest and the options."""

    cuts: str
    sha256: str
    total: int
    seconds: float
    shards: int
    out: str
    storage: str
    num_mel_bins: int
    tick_power: int
    extractor: str = EXTRACTOR

    @staticmethod
    def of(cuts: str, out: str, storage: str, num_mel_bins: int, tick_power: int) -> "_Job":
        digest, total, seconds = hashlib.sha256(), 0, 0.0
        for line in read_lines(cuts):
            digest.update(line.encode() + b"\n")
            total += 1
            seconds += json.loads(line)["duration"]
        if not total:
            raise DataError(f"{cuts}: no cuts in it; make the cuts again (egrecho make-cuts)")
        shards = sum(1 for _ in _deal(cuts, _shard_seconds(seconds)))
        return _Job(cuts, digest.hexdigest(), total, seconds, shards, out, storage, num_mel_bins, tick_power)

    @property
    def room(self) -> float:
        """Give the bytes that the archives will need, roughly."""
        return self.seconds / 3600 * bytes_per_hour(self.num_mel_bins, self.tick_power)

    @property
    def stage(self) -> str:
        return f"features {Path(self.out).name.split('.')[0]}"

    def path(self, shard: int, ending: str) -> Path:
        return Path(self.storage) / f"feats-{shard}.{ending}"

    def is_done(self) -> bool:
        archives = all(self.path(shard, "lca").exists() for shard in range(self.shards))
        return Path(self.out).exists() and archives and self._is_noted()

    def begin(self) -> None:
        """Keep the finished shards of an earlier run of this very job; clear away everything else."""
        Path(self.out).unlink(missing_ok=True)  # its archives are about to change
        if not self._is_noted():
            for path in Path(self.storage).glob("feats-*"):
                path.unlink(missing_ok=True)
            write_jsonl(Path(self.storage) / "job.json", [json.dumps(asdict(self))])

    def open_shards(self) -> Iterator[Shard]:
        """Deal the cuts and pass over the shards that are done."""
        for index, lines in enumerate(_deal(self.cuts, _shard_seconds(self.seconds))):
            if not all(self.path(index, ending).exists() for ending in ("done", "jsonl", "lca")):
                yield Shard(index, self.storage, self.stage, self.num_mel_bins, self.tick_power, tuple(lines))

    def clean(self) -> None:
        """Remove what only an unfinished job needs."""
        for path in Path(self.storage).glob("feats-*"):
            if path.suffix != ".lca":
                path.unlink(missing_ok=True)

    def _is_noted(self) -> bool:
        note = Path(self.storage) / "job.json"
        return note.exists() and note.read_text() == json.dumps(asdict(self)) + "\n"


def _deal(cuts: str, seconds: float) -> Iterator[list[str]]:
    """Cut the manifest into runs of lines of so many seconds."""
    lines, held = [], 0.0
    for line in read_lines(cuts):
        lines.append(line)
        held += json.loads(line)["duration"]
        if held >= seconds:
            yield lines
            lines, held = [], 0.0
    if lines:
        yield lines


def _shard_seconds(total: float) -> float:
    return min(max(total / SHARDS, SHORTEST_SHARD), LONGEST_SHARD)


def _storage_beside(out: str) -> str:
    name = Path(out).name.split(".")[0]
    if "cuts" not in name:
        raise ConfigError(f"{out} has no 'cuts' in its name to derive a folder from; give --storage DIR")
    return str(Path(out).with_name("feats".join(name.rsplit("cuts", 1))))


def _read_cut(line: str) -> MonoCut:
    data = json.loads(line)
    if data.get("type") != "MonoCut":
        raise DataError(f"cut {data.get('id')} is a {data.get('type')}; features are stored of MonoCuts only")
    del data["type"]
    return MonoCut.from_dict(data)


def _check_room(job: _Job) -> None:
    """Refuse to start what surely does not fit: half of the usual need is missing."""
    need, have = job.room, free_space(Path(job.storage))
    if have < need / 2:
        raise MachineError(
            f"{job.storage}: the features need about {need / 1e6:,.0f} MB, {have / 1e6:,.0f} MB are free; make room, "
            "choose another folder, or compute them while training (--features none)"
        )


compute_features.positional = ["cuts", "out"]

if __name__ == "__main__":
    run(compute_features)
