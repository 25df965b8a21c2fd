"""What a run of cuts reads: their lines, and the files of audio and features behind them by size and time.

In: an index and runs of positions. Out: a digest for each run, the key under which a pass (`runtime/passes.py`) keeps
its work. A recording that was replaced has another size or time of change, and so its run has another digest.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from egrecho_inner.data.cuts.index import CutIndex

THREADS = 16  # a network file system answers many questions at once


def parts_of(index: CutIndex, runs: Sequence[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """Return the runs with the digest of what each reads.

    Args:
        index: The manifest.
        runs: First position of each, and the one behind its last.
    """
    known: dict[str, str] = {}

    def digest(run: tuple[int, int]) -> tuple[int, int, str]:
        found = hashlib.sha256()
        for position in range(*run):
            line = index.line(position)
            found.update(line)
            for path in files_of(orjson.loads(line)):
                if path not in known:
                    known[path] = state_of(path)
                found.update(known[path].encode())
        return (*run, found.hexdigest())

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(digest, runs))


def files_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that a cut's JSON names: its audio and stored features, and those of its tracks."""
    if "tracks" in row:
        for track in row["tracks"]:
            yield from files_of(track["cut"])
        return
    for source in (row.get("recording") or {}).get("sources", ()):
        if source.get("type") == "file":
            yield str(source["source"])
    if path := (row.get("features") or {}).get("storage_path"):
        yield str(path)


def state_of(path: str) -> str:
    """Return size and time of change of a file, or that there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


def equal_runs(total: int, size: int) -> list[tuple[int, int]]:
    """Divide positions into runs of so many."""
    return [(first, min(first + size, total)) for first in range(0, total, size)]


def timed_runs(durations: Iterable[float], seconds: float) -> list[tuple[int, int]]:
    """Divide positions into runs of at least so many seconds; only the last may have fewer."""
    runs, first, held = [], 0, 0.0
    for position, duration in enumerate(durations, 1):
        held += duration
        if held >= seconds:
            runs.append((first, position))
            first, held = position, 0.0
    return [*runs, (first, position)] if held else runs
