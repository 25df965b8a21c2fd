#!/usr/bin/env python
"""Documents or windows in, the same with tags on them out; `egrecho filter` keeps what fulfils conditions on tags.

    egrecho tag documents.jsonl.gz tagged.jsonl.gz --tags [casing, repeating_lines, text_language]
    egrecho tag labelled.jsonl.gz tagged.jsonl.gz --tags [edit_distance, speech_share] --document_tags [audio_language]

Tags of captions are in `data/cuts/tags.py`, of audio in `data/audio/tags.py`. A Python file of your own adds more: it
is given by `--tags_file` on the command line, for it is run; a YAML file cannot name one.
"""

from __future__ import annotations

from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.config_types import ClosedUnitInterval, PositiveInt


def tag(
    cuts: str,
    out: str,
    tags: list[str] | None = None,
    document_tags: list[str] | None = None,
    tags_file: str = "",
    normalizer: str = "auto",
    jobs: PositiveInt = 1,
    executor: str = "processes",
    max_skip_ratio: ClosedUnitInterval = 0.01,
) -> None:
    """Put tags on documents or windows.

    Args:
        cuts: Manifest of `egrecho import-web`, `egrecho segment` or, for tags that want a text, `egrecho pseudo-label`.
        out: Manifest to write, `.jsonl` or `.jsonl.gz`.
        tags: Names of tags; of documents where these are documents, else of windows.
        document_tags: Tags of the documents that windows are of: audio_language by vote, edit_distance over all words.
        tags_file: Python file with more tags (`data/cuts/tags.py` shows how); on the command line only.
        normalizer: Of edit_distance, on both texts; auto is the language's own.
        jobs: Processes on this machine.
        executor: `processes`, `local` (Dask on this machine) or the address of a Dask scheduler.
        max_skip_ratio: Share of the cuts that may have no usable audio.
    """
    from egrecho_inner.data.cuts.line_pass import run_pass
    from egrecho_inner.data.cuts.tagging import STAGE, VERSION, check_names, tag_rows
    from egrecho_inner.data.cuts.tags import load_tags
    from egrecho_inner.runtime.files import digest_file
    from egrecho_inner.text.normalize import get_normalizer

    if tags_file:
        load_tags(tags_file)
    tags, document_tags = tags or [], document_tags or []
    check_names(tags, document_tags)
    if normalizer != "auto":
        get_normalizer(normalizer)  # refuses an unknown one at once
    settings = {
        "version": VERSION,
        "tags": tags,
        "document_tags": document_tags,
        "normalizer": normalizer,
        "tags_file": str(Path(tags_file).absolute()) if tags_file else "",
        "tags_file_digest": digest_file(tags_file) if tags_file else "",
    }
    done = run_pass(STAGE, cuts, out, tag_rows, settings, jobs, executor, max_skip_ratio)
    names = ", ".join([*tags, *(f"document.{name}" for name in document_tags)])
    print(f"{out}: {names}" if done else f"{out}: already done")


tag.positional = ["cuts", "out"]
tag.command_line_only = ["tags_file"]

if __name__ == "__main__":
    run(tag)
