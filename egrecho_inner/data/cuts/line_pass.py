"""A pass (`runtime/passes.py`) whose work on a shard is one function of the lines in it: segment and tag are such.

In: a manifest, a function from the parsed cuts of a shard to lines, its settings. Out: one manifest, the ledger, and
the counts of all shards added up. Shards are runs of whole recordings, whatever their number of cuts, so a function
sees all neighbours of a cut. Workers are processes here or anywhere that sees the files (`runtime/executor.py`).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from egrecho_inner.data.cuts.fields import recording_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.cuts.inputs import equal_runs, parts_of
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.ledger import Ledger, Skip
from egrecho_inner.runtime.passes import Pass, Shard, read_note, watched

Row = dict[str, Any]
SHARDS = 64  # of a manifest of some size: enough work for as many cores
SMALLEST, LARGEST = 50, 5000  # cuts; a kill loses at most one shard for each worker


@dataclass
class Result:
    """What a function made of the cuts of a shard."""

    lines: Iterable[str]
    skips: list[Skip] = field(default_factory=list)
    counts: Mapping[str, float] = field(default_factory=dict)
    """Added up over all shards."""


Function = Callable[[list[Row], Mapping[str, Any]], Result]


@dataclass(frozen=True)
class LineTask:
    """The work of one shard, complete in itself."""

    shard: Shard
    function: Function
    settings: Mapping[str, Any]
    lines: tuple[bytes, ...]
    folder: str
    """That paths of the manifest are relative to."""


def run_shard(task: LineTask) -> int:
    """Do the work of one shard; return the number of its lines."""
    rows = [anchored(orjson.loads(line), task.folder) for line in task.lines]
    result = task.function(rows, task.settings)
    lines = list(result.lines)  # a generator counts and skips while it is read
    return task.shard.finish(lines, result.skips, dict(result.counts))


def anchored(row: Row, folder: str) -> Row:
    """Give a cut's audio absolute paths where the worker's folder is another one."""
    if folder != os.getcwd():
        for source in (row.get("recording") or {}).get("sources", ()):
            if source.get("type") == "file":
                source["source"] = os.path.join(folder, source["source"])
    return row


def run_pass(
    stage: str,
    cuts: str,
    out: str,
    function: Function,
    settings: Mapping[str, Any],
    jobs: int = 1,
    executor: str = "processes",
    max_skip_ratio: float = 1.0,
) -> tuple[Counter[str], Ledger] | None:
    """Run a function over a manifest, going on where an earlier run of the same work was stopped.

    Args:
        stage: Its name in the ledger.
        cuts: Manifest to read.
        out: Manifest to write; `OUT.json` beside it has what it was made with.
        function: Of a module, so that workers can import it.
        settings: All that its result depends on beside the cuts; JSON.
        jobs: Processes on this machine.
        executor: `processes`, `local` or the address of a Dask scheduler.
        max_skip_ratio: Share of the cuts that may be left out.

    Returns:
        The counts and the ledger; None where all was done before.

    Raises:
        DataError: More than a share of the cuts was left out.
    """
    index, place = CutIndex(cuts), Path(out)
    job = make_pass(stage, index, place, settings)
    if not job.begin(lambda position: False):
        return None
    shards = job.open()
    folder = os.getcwd()
    tasks = (LineTask(each, function, settings, tuple(map(index.line, each.positions)), folder) for each in shards)
    for _ in watched(map_unordered(run_shard, tasks, jobs, executor), len(shards), stage):
        pass
    ledger = job.collect(Ledger(place.with_name("skipped.jsonl")), max_skip_ratio, cuts)
    counts: Counter[str] = Counter()
    for shard in job.shards:
        counts.update(job.marker(shard).get("facts", {}))
    job.finalize(lambda: {"stage": stage, "settings": dict(settings), "counts": dict(counts)})
    return counts, ledger


def make_pass(stage: str, index: CutIndex, out: Path, settings: Mapping[str, Any]) -> Pass:
    """Divide a manifest into shards by its cuts alone: the number of jobs does not change a byte of the result."""
    parts = parts_of(index, whole_recordings(index, min(max(len(index) // SHARDS, SMALLEST), LARGEST)))
    folder, note = out.with_name(f".{out.name}.shards"), out.with_name(f"{out.name}.json")
    return Pass(f"{stage} {out.name}", folder, "part", note, {"stage": stage, **settings}, parts, out)


def whole_recordings(index: CutIndex, size: int) -> list[tuple[int, int]]:
    """Divide positions into runs of about so many, none of which ends inside a recording."""
    runs, first = [], 0
    for _, last in equal_runs(len(index), size):
        if last <= first:
            continue
        while last < len(index) and recording_at(index, last) == recording_at(index, last - 1):
            last += 1
        runs.append((first, last))
        first = last
    return runs


def recording_at(index: CutIndex, position: int) -> str:
    """Return the recording of the cut at a position."""
    return recording_of(orjson.loads(index.line(position)))


def counts_of(out: str) -> Counter[str]:
    """Return the counts that a finished pass noted."""
    return Counter(read_note(Path(f"{out}.json")).get("counts", {}))
