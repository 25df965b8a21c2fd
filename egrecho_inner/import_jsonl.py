#!/usr/bin/env python3
"""SLAM-LLM's JSONL in, cuts out: a line `{"key", "source", "target"}` for each utterance, targets kept word for word.

    egrecho import-jsonl train.jsonl data/slam/cuts_train.jsonl.gz --language en

Writes the manifest of cuts and, beside it, `skipped.jsonl`, the ledger of what was left out. `task`, `prompt` and what
a task wants (hotwords) stay with the cut. Lines without `source` become cuts of text alone.
"""

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.languages import language_code


def import_jsonl(jsonl: str, out: str, language: str | None = None, max_skip_ratio: ClosedUnitInterval = 0.01) -> None:
    """Import SLAM-LLM's JSONL as cuts.

    Args:
        jsonl: File of lines with key, source (relative to the working folder) and target.
        out: Manifest to write (.jsonl.gz).
        language: Code of the language of all lines; null leaves it open.
        max_skip_ratio: Share of the lines whose audio may be unusable.
    """
    from egrecho_inner.data.sources.slam_jsonl import STAGE, read_jsonl, to_cuts
    from egrecho_inner.runtime.files import to_line, write_jsonl

    ledger = Ledger(Path(out).parent / "skipped.jsonl")
    lines = read_jsonl(Path(jsonl))
    code = language_code(language) if language else None
    count = write_jsonl(out, (to_line(cut.to_dict()) for cut in to_cuts(lines, Path(), code, ledger)))
    ledger.write(STAGE)
    ledger.check_limit(len(lines), max_skip_ratio, jsonl)
    print(f"{out}: {count:,} cuts; {ledger.summary(len(lines), 'lines')}")


import_jsonl.positional = ["jsonl", "out"]


if __name__ == "__main__":
    run(import_jsonl)
