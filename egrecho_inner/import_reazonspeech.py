#!/usr/bin/env python
"""ReazonSpeech's tar files and table of transcripts in, FLAC files and cuts out.

    egrecho import-reazonspeech /corpora/reazonspeech data/reazon --target small

The sizes have 1 (tiny), 12 (small), 116 (medium), 579 (large) and 4,095 (all) tars; `--start` and `--end` take a part
of them, for several machines or a first look. Writes `reazonspeech_SIZE.jsonl.gz`, `audio/000/NAME.flac` and
`skipped.jsonl`. Tars that are done stay done: after a stop or a damaged tar, give the same command again.
"""

from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, NonNegativeInt, PositiveInt
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.ledger import Ledger


def import_reazonspeech(
    folder: str,
    out: str,
    target: Literal["tiny", "small", "medium", "large", "all"] = "tiny",
    start: NonNegativeInt = 0,
    end: PositiveInt | None = None,
    max_skip_ratio: ClosedUnitInterval = 0.01,
    jobs: PositiveInt = 4,
    executor: str = "processes",
) -> None:
    """Import a size of ReazonSpeech as cuts.

    Args:
        folder: With 000.tar, 001.tar, ... (or in a folder data) and TARGET.tsv (or in a folder tsv).
        out: Where cuts, audio and ledger go.
        target: Size to import.
        start: Number of the first tar.
        end: Number behind the last tar; null is the size's last.
        max_skip_ratio: Share of the clips that may be missing or unusable.
        jobs: Processes of this machine.
        executor: Where they run: `processes`, `local` (Dask) or the address of a Dask scheduler.
    """
    from egrecho_inner.data.sources.reazonspeech import STAGE, TARS, TarTask, find_tars, read_table, unpack
    from egrecho_inner.runtime.passes import Pass, make_key, watched

    behind = min(end or TARS[target], TARS[target])
    if start >= behind:
        raise ConfigError(f"start {start} leaves no tar of {target}, which has {TARS[target]}; expected less than that")
    root, place = Path(folder), Path(out)
    tars = find_tars(root / "data" if (root / "data").is_dir() else root, start, behind)
    tables = root / "tsv" if (root / "tsv").is_dir() else root
    table = read_table(tables / f"{target}.tsv")
    clips = {tar: table.get(tar.stem, {}) for tar in tars}
    part = "" if (start, behind) == (0, TARS[target]) else f"_{start:03x}-{behind:03x}"
    name = f"reazonspeech_{target}{part}"
    parts, first = [], 0
    for tar in tars:
        stat, count = tar.stat(), len(clips[tar])
        key = make_key(tar=[tar.name, stat.st_size, stat.st_mtime_ns], clips=clips[tar])
        parts.append((first, first + count, key))
        first += count
    work = Pass(f"{STAGE} {name}", place / "parts", name, place / f"{name}.json", {}, parts, place / f"{name}.jsonl.gz")
    if work.begin(lambda position: False):
        tasks = [
            TarTask(tars[shard.number], clips[tars[shard.number]], place / "audio", shard) for shard in work.open()
        ]
        for _ in watched(map_unordered(unpack, tasks, jobs, executor), len(tasks), name):
            pass
        ledger = work.collect(Ledger(place / "skipped.jsonl"), max_skip_ratio, folder)
        work.finalize()
        print(f"{work.out}: {ledger.summary(work.total, 'clips')}")
    else:
        print(f"{work.out} is there, of these tars; nothing to do")


import_reazonspeech.positional = ["folder", "out"]

if __name__ == "__main__":
    run(import_reazonspeech)
