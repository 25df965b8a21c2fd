#!/usr/bin/env python3
"""Cuts in, SLAM-LLM's JSONL out: a line `{"key", "source", "target"}` for each, as `import-jsonl` reads it.

    egrecho export-jsonl data/slam/cuts_train.jsonl.gz train.jsonl

In: a manifest of cuts. Out: one JSONL file.
"""

from egrecho_inner.config import run


def export_jsonl(cuts: str, out: str) -> None:
    """Write cuts as SLAM-LLM's JSONL.

    Args:
        cuts: Manifest of cuts, each a whole audio file or text alone.
        out: File to write (.jsonl).
    """
    from egrecho_inner.data.cuts.index import CutIndex
    from egrecho_inner.data.sources.slam_jsonl import to_row
    from egrecho_inner.runtime.files import to_line, write_jsonl

    print(f"{out}: {write_jsonl(out, (to_line(to_row(cut)) for cut in CutIndex(cuts))):,} lines")


export_jsonl.positional = ["cuts", "out"]


if __name__ == "__main__":
    run(export_jsonl)
