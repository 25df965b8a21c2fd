#!/usr/bin/env python3
"""Documents or windows in, a stage file of OLMoASR out: what its scripts for tagging, filtering and training read.

    egrecho export-web documents.jsonl.gz shard_00000.jsonl.gz
    egrecho export-web windows.jsonl.gz shard_seg_00000.jsonl.gz --tokenizer openai/whisper-tiny.en

Lines that were imported from a stage file have all its keys again; tags that both know have the values of today.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.files import read_lines, to_line, write_jsonl


def export_web(cuts: str, out: str, tokenizer: str = "") -> None:
    """Write documents or windows as OLMoASR's stage files have them.

    Args:
        cuts: Manifest of `egrecho import-web` or of `egrecho segment`.
        out: Stage file to write, `.jsonl` or `.jsonl.gz`.
        tokenizer: Model whose tokenizer counts the tokens of windows; folder or hub id.
    """
    from egrecho_inner.data.cuts.make import scan_manifest

    if Path(cuts).resolve() == Path(out).resolve():
        raise ConfigError(f"{out} is the input; give another name")
    scan_manifest(cuts)
    count = write_jsonl(out, map(to_line, lines_of(cuts, counter(tokenizer))))
    print(f"{out}: {count:,} lines")


export_web.positional = ["cuts", "out"]


def lines_of(cuts: str, count: Callable[[str], int] | None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a stage file; a window is compared with the next one, to know a document's last."""
    from egrecho_inner.data.cuts.tagging import is_document
    from egrecho_inner.data.sources.web_stages import document_line, segment_line

    def rows() -> Iterator[dict[str, Any] | None]:
        yield from map(json.loads, read_lines(cuts))
        yield None

    for row, following in pairwise(rows()):
        if is_document(row):
            yield document_line(row)
        else:
            last = following is None or following["recording"]["id"] != row["recording"]["id"]
            yield segment_line(row, last, count)


def counter(tokenizer: str) -> Callable[[str], int] | None:
    """Return a function that counts the tokens of a text, where a tokenizer is given."""
    if not tokenizer:
        return None
    from egrecho_inner.model.loading import load_processor

    encode = load_processor(tokenizer).tokenizer.encode
    return lambda text: len(encode(text, add_special_tokens=False))


if __name__ == "__main__":
    run(export_web)
