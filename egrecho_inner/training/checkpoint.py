"""Checkpoints that are either complete or not there.

A checkpoint is written beside its place and renamed; `_COMPLETE.json` (files, sizes, hashes of the small ones, step,
world size, fingerprints of config and data) is written last. Resuming takes the newest complete one and says which it
passed over and why. A checkpoint is deleted only after a newer one is complete.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from egrecho_inner.errors import MachineError

logger = logging.getLogger(__name__)

MARKER = "_COMPLETE.json"
PREFIX = "checkpoint-"
SMALL = 1_000_000
"""Bytes up to which a file's content is hashed; larger ones are known by their size."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or absent."""
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w", encoding="utf-8") as out:
        json.dump(content, out, indent=1, ensure_ascii=False)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    os.replace(beside, path)


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write the marker of a checkpoint whose files are all there, after bringing them to the disk."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MARKER):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        size = path.stat().st_size
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if size <= SMALL else None
        files[str(path.relative_to(folder))] = {"bytes": size, "sha256": digest}
    write_json(folder / MARKER, {**facts, "files": files})


def publish(folder: Path, final: Path) -> None:
    """Rename a sealed folder to its place; an incomplete one of that name gives way."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(folder, final)
    handle = os.open(final.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def fault(folder: Path) -> str | None:
    """Say why a checkpoint cannot be used, or None."""
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
            if known["sha256"] and hashlib.sha256(path.read_bytes()).hexdigest() != known["sha256"]:
                return f"{name} has another content than when it was written"
    except (ValueError, KeyError, TypeError) as error:
        return f"{MARKER} does not read: {error}"
    return None


def steps(run: Path) -> list[tuple[int, Path]]:
    """Return all checkpoint folders of a run by step, newest first."""
    found = [(int(p.name[len(PREFIX) :]), p) for p in run.glob(PREFIX + "*") if p.name[len(PREFIX) :].isdigit()]
    return sorted(found, reverse=True)


def newest(run: Path) -> Path | None:
    """Return the newest complete checkpoint of a run, naming in the log those passed over."""
    for _, folder in steps(run):
        reason = fault(folder)
        if reason is None:
            return folder
        logger.warning("checkpoint %s is passed over: %s", folder, reason)
    return None


def facts(folder: Path) -> dict[str, Any]:
    """Return what the marker of a complete checkpoint says."""
    return json.loads((folder / MARKER).read_text())


def rotate(run: Path, keep: int, best: Path | None) -> None:
    """Delete the oldest complete checkpoints beyond `keep`, never the best one; incomplete ones go too."""
    complete = []
    for _, folder in steps(run):
        if fault(folder) is None:
            complete.append(folder)
        elif complete:  # a newer one is complete
            shutil.rmtree(folder, ignore_errors=True)
    for folder in complete[max(keep, 1) :]:
        if best is None or folder.name != best.name:
            shutil.rmtree(folder, ignore_errors=True)


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
