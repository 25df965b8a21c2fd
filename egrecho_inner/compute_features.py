#!/usr/bin/env python
"""Cuts in, cuts with stored log-mel features out; killed at any point and repeated, it gives the same bytes.

    egrecho compute-features data/cuts/mine_cuts_train.jsonl data/fbank_whisper80/mine_cuts_train.jsonl.gz --jobs 8

A pass over the manifest (`runtime/passes.py`), in shards of some seconds of audio. A shard is one task: it writes
`feats-K.lca`, then its cuts. `job.json` beside the archives holds what they are of: the cuts, their audio by size and
time of change, and the settings. Repeated, only shards are computed of which one of these is another now.
Left out: several archives per worker; the number of jobs must not change a byte of the result.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from egrecho_inner.config import run
from egrecho_inner.config_names import manifest_name
from egrecho_inner.config_types import TICK_POWER, ClosedUnitInterval, PositiveInt, TickPower
from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.files import free_space, read_lines, to_line, write_jsonl
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.passes import Fault, Pass, Shard, watched

if TYPE_CHECKING:
    from lhotse import MonoCut

    from egrecho_inner.data.cuts.index import CutIndex

EXTRACTOR = "egrecho-log-mel-1"  # changes when the same wave would give other values
SHARDS = 64  # of a corpus of some size: enough work for as many cores
SHORTEST_SHARD, LONGEST_SHARD = 600, 7200  # seconds of audio; a kill loses at most one shard per worker


def compute_features(
    cuts: str,
    out: str,
    storage: str = "",
    features: Literal["offline", "none"] = "offline",
    num_mel_bins: Literal[80, 128] = 80,
    tick_power: TickPower = TICK_POWER,
    jobs: PositiveInt = 1,
    executor: str = "processes",
    max_skip_ratio: ClosedUnitInterval = 0.01,
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
    from egrecho_inner.data.audio.store import bytes_per_hour
    from egrecho_inner.data.cuts.index import CutIndex

    if not Path(cuts).exists():
        raise DataError(f"{cuts}: no such file; make the cuts first (egrecho make-cuts)")
    place = Path(out)
    if features == "offline" and not storage:
        storage = storage_beside(place)
    index = CutIndex(cuts)
    if features == "none":
        print(f"{out}: {write_jsonl(out, read_lines(cuts))} cuts, features on the fly")
        return
    settings = {"extractor": EXTRACTOR, "storage": storage, "num_mel_bins": num_mel_bins, "tick_power": tick_power}
    job, skipped = make_pass(index, place, settings), Ledger(ledger or place.with_name("skipped.jsonl"))
    if not job.begin(partial(is_usable, index)):
        print(f"{out}: already done" + (f"; what was left out still fails, see {skipped.path}" * job.has_faults()))
        return
    shards = job.open()
    room = sum(index.durations[shard.first : shard.last].sum() for shard in shards) / 3600
    room *= bytes_per_hour(num_mel_bins, tick_power)
    check_room(Path(storage), room)
    tasks = (Task(shard, settings, os.getcwd(), tuple(map(index.text, shard.positions))) for shard in shards)
    try:
        for _ in watched(map_unordered(compute_shard, tasks, jobs, executor), len(shards), "features"):
            pass
    except MachineError as error:
        raise MachineError(f"{error}; all features of {cuts} need about {room / 1e6:,.0f} MB") from error
    job.collect(skipped, max_skip_ratio, cuts)
    job.finalize(lambda: {"settings": settings, "shards": job.summary()})
    hours = index.durations.sum() / 3600
    print(f"{out}: {skipped.summary(len(index), 'cuts')}; {hours:.2f} h in {storage}")


compute_features.positional = ["cuts", "out"]


def make_pass(index: CutIndex, out: Path, settings: dict[str, str | int]) -> Pass:
    """Divide a manifest into shards by its seconds alone: the number of jobs does not change a byte of the result."""
    from egrecho_inner.data.cuts.inputs import parts_of, timed_runs

    seconds = min(max(float(index.durations.sum()) / SHARDS, SHORTEST_SHARD), LONGEST_SHARD)
    parts = parts_of(index, timed_runs(index.durations.tolist(), seconds))
    folder, stage = Path(settings["storage"]), f"features {plain_name(out)}"
    return Pass(stage, folder, "feats", folder / "job.json", settings, parts, out, products=("lca",))


@dataclass(frozen=True)
class Task:
    """The work of one shard, complete in itself: a worker may be anywhere that sees the files."""

    shard: Shard
    settings: dict[str, str | int]
    folder: str
    """That paths of the manifest are relative to."""
    lines: tuple[str, ...]
    """The cuts' JSON."""


def compute_shard(task: Task) -> int:
    """Compute and store the features of one shard; return the number of cuts that have them."""
    import torch

    from egrecho_inner.data.audio.features import TAIL_FRAMES, log_mel
    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.data.audio.store import FeatureArchive

    torch.set_num_threads(1)  # one core per task; threads would also change the order of sums
    shard, n_mels = task.shard, int(task.settings["num_mel_bins"])
    path = shard.path("lca")
    named = f"{task.settings['storage']}/{path.name}"
    lines, skips = [], []
    with FeatureArchive(path, int(task.settings["tick_power"]), named) as archive:
        for position, line in zip(shard.positions, task.lines, strict=True):
            cut = read_cut(line)
            try:
                feats = log_mel(load_audio(anchored(cut, task.folder)), n_mels, TAIL_FRAMES)
            except DataError as error:
                skips.append(Fault(cut.id, "", "unusable audio", str(error), cut.duration, position))
                continue
            cut.features = archive.describe(cut, n_mels, archive.add(feats))
            lines.append(to_line(cut.to_dict()))
    return shard.finish(lines, skips)


def is_usable(index: CutIndex, position: int) -> bool:
    """Try audio again that failed at an earlier start."""
    from egrecho_inner.data.audio.load import load_audio

    try:
        load_audio(index[position])
    except DataError:
        return False
    return True


def read_cut(line: str) -> MonoCut:
    """Make a cut of its line.

    Raises:
        DataError: It is a mix, for instance.
    """
    from lhotse import MonoCut

    data = json.loads(line)
    if data.get("type") != "MonoCut":
        raise DataError(f"cut {data.get('id')} is a {data.get('type')}; features are stored of MonoCuts only")
    del data["type"]
    return MonoCut.from_dict(data)


def anchored(cut: MonoCut, folder: str) -> MonoCut:
    """Return a cut whose audio is found from any working folder."""
    if cut.recording is None or folder == os.getcwd():
        return cut
    sources = [
        replace(each, source=os.path.join(folder, each.source)) if each.type == "file" else each
        for each in cut.recording.sources
    ]
    return replace(cut, recording=replace(cut.recording, sources=sources))


def storage_beside(out: Path) -> str:
    """Name the folder of the archives of a manifest.

    Raises:
        ConfigError: Its name has no `cuts` to replace.
    """
    name = plain_name(out)
    if "cuts" not in name:
        raise ConfigError(f"{out} has no 'cuts' in its name to derive a folder from; give --storage DIR")
    return str(out.with_name("feats".join(name.rsplit("cuts", 1))))


def plain_name(out: Path) -> str:
    """Return the name of a manifest without its endings; it may have dots of its own."""
    return manifest_name(out)


def check_room(folder: Path, need: float) -> None:
    """Refuse to start what surely does not fit: half of the usual need in bytes is missing.

    Raises:
        MachineError: It is.
    """
    have = free_space(folder)
    if have < need / 2:
        raise MachineError(
            f"{folder}: the features need about {need / 1e6:,.0f} MB, {have / 1e6:,.0f} MB are free; make room, "
            "choose another folder, or compute them while training (--features none)"
        )


if __name__ == "__main__":
    run(compute_features)
