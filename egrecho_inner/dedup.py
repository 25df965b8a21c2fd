#!/usr/bin/env python
"""Documents or windows in, one of each text out: equal texts and near-duplicates, within and across manifests.

    egrecho dedup --cuts [shard0.jsonl.gz, shard1.jsonl.gz] --out unique.jsonl.gz

A pass hashes the texts, then the hashes are sorted; `data/cuts/duplicates.py` has the method. Which copy stays is
the same in whatever order the manifests are given. Every drop is a line of `NAME.dropped.jsonl.gz` with the one it is a
copy of. Texts of fewer words than an n-gram are all kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.passes import Pass, publish, watched

if TYPE_CHECKING:
    from egrecho_inner.data.cuts.index import CutIndex

STAGE = "dedup"
VERSION = 1  # changes when the same texts would give other copies
SHARD_SIZE = 5000


def dedup(
    cuts: list[str],
    out: str,
    ngram: PositiveInt = 5,
    bands: PositiveInt = 14,
    rows: PositiveInt = 8,
    jobs: PositiveInt = 1,
    executor: str = "processes",
) -> None:
    """Drop copies of texts.

    Args:
        cuts: Manifests of documents or of windows.
        out: Manifest to write, of the cuts that stay, in the order of the manifests.
        ngram: Words of the runs that texts are compared by.
        bands: Texts that agree in all hashes of one band are near-duplicates.
        rows: Hashes of a band; more bands find more, more rows find fewer.
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
    """
    from egrecho_inner.data.cuts.index import check_unique_over, open_all

    place = Path(out)
    if any(Path(each).resolve() == place.resolve() for each in cuts):
        raise ConfigError(f"{out} is an input; give another name")
    indexes = open_all(cuts)
    check_unique_over(indexes)
    settings = {"version": VERSION, "ngram": ngram, "bands": bands, "rows": rows}
    jobs_done = [sign(index, place, number, settings, jobs, executor) for number, index in enumerate(indexes)]
    write(indexes, [shard.path("npy") for job in jobs_done for shard in job.shards], place, settings)
    for job in jobs_done:
        for shard in job.shards:
            for ending in ("npy", "jsonl", "done"):
                shard.path(ending).unlink(missing_ok=True)
        job.note.unlink(missing_ok=True)
        if job.folder.is_dir() and not any(job.folder.iterdir()):
            job.folder.rmdir()


def sign(index: CutIndex, place: Path, number: int, settings: dict[str, Any], jobs: int, executor: str) -> Pass:
    """Hash the texts of a manifest; what a killed run had hashed is taken as it is."""
    from egrecho_inner.data.cuts.duplicates import SignTask, sign_shard
    from egrecho_inner.data.cuts.inputs import equal_runs, parts_of

    folder = place.with_name(f".{place.name}.shards")
    parts = parts_of(index, equal_runs(len(index), SHARD_SIZE))
    name = f"manifest{number}"
    job = Pass(f"{STAGE} {place.name}", folder, name, folder / f"{name}.json", settings, parts, None, ("npy",))
    job.begin(lambda position: False)
    near = {each: settings[each] for each in ("ngram", "bands", "rows")}
    shards = job.open()
    tasks = (SignTask(shard, tuple(map(index.line, shard.positions)), near) for shard in shards)
    for _ in watched(map_unordered(sign_shard, tasks, jobs, executor), len(shards), STAGE):
        pass
    job.collect(Ledger(place.with_name("skipped.jsonl")), 1.0, str(index.path))
    return job


def write(indexes: list[CutIndex], files: list[Path], place: Path, settings: dict[str, Any]) -> None:
    """Find the copies and write the manifest of the rest, and the ledger."""
    import orjson

    from egrecho_inner.data.cuts.drops import Drops
    from egrecho_inner.data.cuts.duplicates import find_copies

    ids = [str(orjson.loads(index.line(position))["id"]) for index in indexes for position in range(len(index))]
    kept, exact = find_copies(files, ids)
    drops = Drops(place)

    def lines() -> Iterator[str]:
        number = 0
        for index in indexes:
            for position in range(len(index)):
                if kept[number] == number:
                    drops.keep(float(index.durations[position]))
                    yield index.text(position)
                else:
                    reason = "equal text" if exact[number] else "near-duplicate"
                    drops.add(ids[number], reason, ids[kept[number]], float(index.durations[position]))
                number += 1

    with drops:
        publish(place, place.with_name(f"{place.name}.json"), lines(), lambda: {"settings": settings, **drops.facts()})
    print(f"{place}: {drops.summary()}")


if __name__ == "__main__":
    run(dedup)
