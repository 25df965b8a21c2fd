#!/usr/bin/env python
"""Recordings of the web and their captions in, a manifest of documents out: one cut for each whole recording.

    egrecho import-web data/pool data/pool/documents.jsonl.gz --audio data/pool/audio
    egrecho import-web shard_00000.jsonl.gz documents.jsonl.gz    # a list, or a stage file of OLMoASR

A pass over the pairs of files: killed and repeated it goes on, a pair whose files changed is read again. What has no
partner, is empty or does not read is in the ledger `skipped.jsonl`. `data/sources/web.py` has the layouts.
"""

from __future__ import annotations

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt
from egrecho_inner.runtime.executor import map_unordered
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.runtime.passes import Pass, make_key, watched

SHARD_SIZE = 20  # pairs: a kill costs some minutes of decoding at most
VERSION = 2  # changes when the same files would give other documents


def import_web(
    source: str,
    out: str,
    audio: str = "",
    language: str | None = None,
    decode: bool = True,
    jobs: PositiveInt = 1,
    executor: str = "processes",
    max_skip_ratio: ClosedUnitInterval = 0.5,
) -> None:
    """Import recordings and their captions as documents.

    Args:
        source: Folder, or a JSONL file that lists the pairs.
        out: Manifest of documents to write, `.jsonl` or `.jsonl.gz`.
        audio: Folder for FLAC of what cannot be read from the middle; by default `audio` beside `out`.
        language: Code of the captions' language; null takes it from file names, where they have one.
        decode: Decode every recording once to find broken ones; otherwise only headers are read.
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
        max_skip_ratio: Share of the pairs that may be unusable.
    """
    from egrecho_inner.data.sources.web import STAGE, find_pairs, read_list
    from egrecho_inner.data.sources.web_documents import ReadTask, facts_of, read_shard

    place, root = Path(out), Path(source)
    ledger = Ledger(place.with_name("skipped.jsonl"))
    folder = str((Path(audio) if audio else place.with_name("audio")).absolute())
    shards, note = place.with_name(f".{place.name}.shards"), place.with_name(f"{place.name}.json")
    ours = [place, note, ledger.path, Path(folder)]
    pairs = find_pairs(root, ledger, language, ours) if root.is_dir() else read_list(root)
    unpaired = len(ledger.skips)
    runs = [tuple(pairs[first : first + SHARD_SIZE]) for first in range(0, len(pairs), SHARD_SIZE)]
    settings = {"version": VERSION, "audio": folder, "language": language, "decode": decode}
    reads = [make_key(files=facts_of(part)) for part in runs]
    parts = [(SHARD_SIZE * n, SHARD_SIZE * n + len(part), reads[n]) for n, part in enumerate(runs)]
    job = Pass(STAGE, shards, "documents", note, settings, parts, place)
    if not job.begin(lambda position: False):
        print(f"{out}: already done")
        return
    tasks = [ReadTask(shard, runs[shard.number], settings) for shard in job.open()]
    for _ in watched(map_unordered(read_shard, tasks, jobs, executor), len(tasks), STAGE):
        pass
    job.collect(ledger, float("inf"), source)  # the limit is that of all files, below
    failed = len(ledger.skips) - unpaired
    ledger.check_limit(len(pairs) + unpaired, max_skip_ratio, source)
    job.finalize(lambda: {"settings": settings, "documents": len(pairs) - failed, "shards": job.summary()})
    print(f"{out}: {ledger.summary(len(pairs) + unpaired, 'files or pairs')}")


import_web.positional = ["source", "out"]

if __name__ == "__main__":
    run(import_web)
