"""Checkpoints that are either complete or not there.

A checkpoint is written beside its place and renamed; `_COMPLETE.json` (files, sizes, hashes of the small ones, step,
world size, fingerprints of config and data) is written last. Resuming takes the newest complete one and logs which it
passed over and why. A checkpoint is deleted only after a newer one is complete. Shards that several processes write
(DeepSpeed's, random states) are counted against the world size, when sealing and when resuming.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from egrecho_inner.errors import MachineError
from egrecho_inner.runtime.files import sweep as sweep_unfinished
from egrecho_inner.runtime.files import write_json
from egrecho_inner.training.checkpoints.leases import choose, is_chooser_live, spared
from egrecho_inner.training.checkpoints.scores import MARKER, best_scored, is_scored

logger = logging.getLogger(__name__)

PREFIX = "checkpoint-"
WRITING = ".writing"
EVALUATION = "evaluation.json"
"""Development scores of a checkpoint; written after it is complete, so not among its sealed files."""
SMALL = 64_000_000
"""Bytes up to which a file's content is hashed; larger ones are known by their size."""
WAITING = 5
"""Checkpoints beyond those to keep that wait for their score, at most: a slow evaluator cannot fill the disk."""


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the marker of a checkpoint whose files are all there, after bringing them to the disk.

    Raises:
        MachineError: A process wrote its part elsewhere.
    """
    missing = missing_shard(folder, facts["world_size"])
    if missing:
        raise MachineError(f"{folder}: {missing}; all processes must see the same run folder (a shared file system)")
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MARKER):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if size <= SMALL else None
        files[str(path.relative_to(folder))] = {"bytes": size, "sha256": digest}
    write_json(folder / MARKER, {**facts, "files": files})


def missing_shard(folder: Path, world_size: int) -> str | None:
    """Name the process's part that a checkpoint lacks, or None."""
    states = "rng_state.pth" if world_size == 1 else "rng_state_{}.pth"
    for rank in range(world_size):
        if not (folder / states.format(rank)).is_file():
            return f"{states.format(rank)} of process {rank} of {world_size} is missing"
    for shards in folder.glob("global_step*"):  # DeepSpeed's
        if not (folder / "latest").is_file():
            return f"{shards.name} is there without `latest`"
        found = len(list(shards.glob("*_optim_states.pt")))
        if found and found != world_size:
            return f"{shards.name} has the optimizer of {found} processes instead of {world_size}"
    return None


def sharded(folder: Path) -> bool:
    """Return whether a checkpoint's optimizer lies in one file per process."""
    return any(folder.glob("global_step*"))


def fault(folder: Path, contents: bool = True) -> str | None:
    """Return why a checkpoint cannot be used, or None; without `contents` no file is read but the marker."""
    marker = folder / MARKER
    if not marker.is_file():
        return f"no {MARKER}: it was not written to the end"
    try:
        facts = json.loads(marker.read_text())
        for name, known in facts["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != known["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {known['bytes']:,}"
            if contents and known["sha256"] and hashlib.sha256(path.read_bytes()).hexdigest() != known["sha256"]:
                return f"{name} has another content than when it was written"
        return missing_shard(folder, facts["world_size"])
    except (ValueError, KeyError, TypeError) as error:
        return f"{MARKER} does not read: {error}"


def steps(run: Path) -> list[tuple[int, Path]]:
    """Return all checkpoint folders of a run by step, newest first."""
    found = [(int(p.name[len(PREFIX) :]), p) for p in run.glob(PREFIX + "*") if p.name[len(PREFIX) :].isdigit()]
    return sorted(found, reverse=True)


def newest(run: Path, quiet: bool = False) -> Path | None:
    """Return the newest complete checkpoint of a run, naming in the log those passed over."""
    for _, folder in steps(run):
        reason = fault(folder)
        if reason is None:
            return folder
        if not quiet:
            logger.warning("checkpoint %s is passed over: %s", folder, reason)
    return None


def facts(folder: Path) -> dict[str, Any]:
    """Return what the marker of a complete checkpoint holds."""
    return json.loads((folder / MARKER).read_text())


def sweep(run: Path) -> None:
    """Remove what a killed run left half written; only the holder of the run's lock may."""
    sweep_unfinished(run)
    leftovers = [run / WRITING, *run.glob(".*.old"), *run.glob("*.tmp"), *run.glob(".probe-*")]
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def rotate(run: Path, keep: int, best: Path | None) -> None:
    """Delete the oldest complete checkpoints beyond `keep`, but not the best one, nor one that is being evaluated.

    While an evaluator that chooses the result lives, the newest `WAITING` of those that nobody has scored stay, too,
    and the best of those that have been. Incomplete ones go.
    """
    complete = []
    for _, folder in steps(run):
        if fault(folder, contents=False) is None:
            complete.append(folder)
        elif complete:  # a newer one is complete
            shutil.rmtree(folder, ignore_errors=True)
    with spared(run) as names:
        if best is not None:
            names.add(best.name)
        old = [folder for folder in complete[max(keep, 1) :] if folder.name not in names]
        kept = awaited(run, old) if is_chooser_live(run) else set()
        for folder in old:
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def awaited(run: Path, old: list[Path]) -> set[str]:
    """Return which of these checkpoints, newest first, an evaluator that chooses still needs."""
    open_ones = [folder.name for folder in old if not is_scored(run, folder.name)]
    if len(open_ones) > WAITING:
        logger.warning("deleted before they were scored, as training is faster: %s", open_ones[WAITING:])
    found = best_scored(run, [path.name for _, path in steps(run)])
    return {*open_ones[:WAITING], *([found["checkpoint"]] if found else [])}


def choose_best(run: Path) -> None:
    """Note which of the scored checkpoints that are there is the best."""
    if found := best_scored(run, [path.name for _, path in steps(run)]):
        choose(run, found)


def check_space(run: Path, need: int) -> None:
    """Refuse to start writing what the disk cannot hold.

    Raises:
        MachineError: Free space is under 1.2 times the need.
    """
    free = shutil.disk_usage(run).free
    if free < 1.2 * need:
        raise MachineError(
            f"{run}: a checkpoint needs about {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            "free space and repeat the command, the checkpoints so far are untouched"
        )
