"""Leases on checkpoints: who is evaluating one holds it, so that training does not delete it meanwhile.

In: a run folder that several processes see, on one machine or on several. A lease is a small file in `leases/` with the
holder's name; a thread touches it every few seconds. A holder that was killed touches it no more: on its own machine
that is seen at once, elsewhere after `STALE` seconds by the file system's clock. Whoever takes, gives back or deletes
does so under one lock of that folder, so nobody deletes what another has just taken.
Beside the leases stands `chosen.json`, the checkpoint that an evaluator found best; it is spared, too.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egrecho_inner.runtime.files import is_alive, locked, machine_name, write_json

BEAT, STALE = 5.0, 60.0
"""Seconds between two signs of life, and after which a holder without one is taken for dead."""
FOLDER, CHOSEN = "leases", "chosen.json"
CHOOSER = "chooser"
"""The lease of the one evaluator that chooses the result of the run."""


def lease_path(run: Path, name: str) -> Path:
    """Return the file of a lease."""
    return run / FOLDER / f"{name}.lease"


@contextmanager
def lease(run: Path, name: str) -> Iterator[bool]:
    """Hold a lease for the time of the block; yield False where another process holds it.

    Args:
        run: The run folder.
        name: Of the checkpoint's folder, or `CHOOSER`.
    """
    path = lease_path(run, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        taken = not is_live(path)
        if taken:
            write_json(path, {"machine": machine_name(), "pid": os.getpid()}, indent=None)
    if not taken:
        yield False
        return
    done = threading.Event()
    heart = threading.Thread(target=beat, args=(path, done), daemon=True)
    heart.start()
    try:
        yield True
    finally:
        done.set()
        heart.join()
        with locked(path.parent):
            if holder(path).get("pid") == os.getpid():
                path.unlink(missing_ok=True)


def beat(path: Path, done: threading.Event) -> None:
    """Show from time to time that the holder of a lease is alive."""
    while not done.wait(BEAT):
        try:
            os.utime(path)
        except FileNotFoundError:
            return


def holder(path: Path) -> dict[str, Any]:
    """Return who holds a lease; empty where nobody does."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def is_live(path: Path) -> bool:
    """Tell whether a lease is held by a process that lives."""
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return False
    who = holder(path)
    if who.get("machine") == machine_name():
        return is_alive(int(who.get("pid", 0)))
    return clock(path.parent) - touched < STALE


def is_chooser_live(run: Path) -> bool:
    """Tell whether an evaluator that chooses the result of a run is at work."""
    return is_live(lease_path(run, CHOOSER))


def clock(folder: Path) -> float:
    """Return the time by the file system's clock, which may be another than this machine's."""
    probe = folder / f".clock-{machine_name()}-{os.getpid()}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    return now


@contextmanager
def spared(run: Path) -> Iterator[set[str]]:
    """Yield the names of checkpoints that must not be deleted; none is taken before the block ends."""
    folder = run / FOLDER
    if not folder.is_dir():
        yield set()
        return
    with locked(folder):
        names = {path.stem for path in folder.glob("*.lease") if is_live(path)}
        if best := chosen(run):
            names.add(best["checkpoint"])
        yield names


def choose(run: Path, found: dict[str, Any]) -> None:
    """Note the best checkpoint of a run, with its score."""
    write_json(run / FOLDER / CHOSEN, found)


def chosen(run: Path) -> dict[str, Any]:
    """Return the checkpoint that an evaluator found best, with its score; empty where none has."""
    return holder(run / FOLDER / CHOSEN)


def wait_for_chooser(
    run: Path, names: list[str], is_scored: Callable[[Path, str], bool], patience: float = 1.0
) -> bool:
    """Wait until an evaluator that chooses has scored and released these checkpoints; return whether there is one.

    An evaluator that dies meanwhile is not waited for: its lease is no longer live.
    """
    if not is_chooser_live(run):
        return False
    while is_chooser_live(run) and any(not is_scored(run, name) or is_live(lease_path(run, name)) for name in names):
        time.sleep(patience)
    return True
