#!/usr/bin/env python
"""Documents in, windows of at most 30 s out, as cuts that point into the long recordings: no audio is copied.

    egrecho segment documents.jsonl.gz windows.jsonl.gz
    egrecho segment documents.jsonl.gz windows.jsonl.gz --max_seconds 8      # for small models

Captions are repaired and cleaned on the way, each kind of repair counted. `data/cuts/windows.py` has the rule,
`egrecho to-shar` writes the windows' audio for training from a stream.
"""

from __future__ import annotations

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveFloat, PositiveInt


def segment(
    documents: str,
    out: str,
    max_seconds: PositiveFloat = 30.0,
    no_speech: bool = True,
    cut_long: bool = False,
    clean: bool = True,
    jobs: PositiveInt = 1,
    executor: str = "processes",
    max_skip_ratio: ClosedUnitInterval = 0.5,
) -> None:
    """Divide documents into windows.

    Args:
        documents: Manifest of `egrecho import-web`.
        out: Manifest of windows to write, `.jsonl` or `.jsonl.gz`; `OUT.json` has the counts.
        max_seconds: Of a window, 30 at most.
        no_speech: Keep windows without speech, with an empty text.
        cut_long: Begin a window with a caption longer than one; it is learned with its start time only.
        clean: Remove speaker names, sounds in brackets and notes from the text.
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
        max_skip_ratio: Share of the documents that may have no window.
    """
    from egrecho_inner.data.cuts.line_pass import counts_of, run_pass
    from egrecho_inner.data.cuts.segmenting import STAGE, VERSION, segment_rows
    from egrecho_inner.data.cuts.windows import WindowRule
    from egrecho_inner.text.cues import CLEANING

    WindowRule(max_seconds, no_speech, cut_long)  # refuses what is out of range before anything is read
    settings = {
        "version": VERSION,
        "max_seconds": max_seconds,
        "no_speech": no_speech,
        "cut_long": cut_long,
        "clean": clean,
        "cleaning": CLEANING,
    }
    done = run_pass(STAGE, documents, out, segment_rows, settings, jobs, executor, max_skip_ratio)
    counts = done[0] if done else counts_of(out)
    print(f"{out}: {counts['windows']:,} windows of {counts['documents']:,} documents" + " (already done)" * (not done))
    print(
        f"  {counts['seconds'] / 3600:.2f} of {counts['seconds of documents'] / 3600:.2f} h; "
        f"{counts['windows without speech']:,} windows without speech"
    )
    for name in sorted(counts):
        if ": " in name:
            print(f"  {name}: {counts[name]:,}")


segment.positional = ["documents", "out"]

if __name__ == "__main__":
    run(segment)
