#!/usr/bin/env python3
"""Judge the filters of texts on webs that their limits were not chosen on: precision and recall, as a Markdown table.

    judge_texts.py --test data/web_mini/eval/test/text --seeds "[7, 8, 9]"

Makes the captions of make_web.py for other seeds, without audio (a word lasts 0.4 s), and asks what mini.sh asks:
the tags of documents, near-duplicates, and words of the test set. Counted in documents, over all seeds.
"""

import hashlib
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from captions import FORMATS
from make_web import LEAK_WORDS, Document, Utterance, alter, caption, plan, texts_of
from tabulate import tabulate

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveInt
from egrecho_inner.data.cuts.contamination import match, runs_of
from egrecho_inner.data.cuts.duplicates import Near, find_copies, signature
from egrecho_inner.data.cuts.selection import text_of
from egrecho_inner.data.cuts.tags import Captions, compute
from egrecho_inner.text.shingles import tokens_of
from egrecho_inner.text.subtitles import kind_of, parse

KINDS = {
    "dedup": "near-duplicate",
    "decontaminate": "leak",
    "text_language": "foreign captions",
    "casing": "upper case",
    "repeating_lines": "roll-up",
}
TAGS = ("text_language", "casing", "repeating_lines")
WANTED = {"text_language": ("en",), "casing": ("mixed", "lower"), "repeating_lines": (False,)}
NEAR = Near(bands=20, rows=5)  # as mini.sh


def judge_texts(test: str, seeds: list[int], documents: PositiveInt = 300) -> None:
    """Print precision and recall of the filters that need no audio.

    Args:
        test: Kaldi `text` file of the test set that leaks.
        seeds: Of the webs.
        documents: Of each web.
    """
    tests = [line.partition(" ")[2] for line in Path(test).read_text(encoding="utf-8").splitlines()]
    there, dropped, hits = (defaultdict(int) for _ in range(3))
    for seed in seeds:
        plans = plan(documents, 25.0, 55.0, random.Random(seed))
        rows = list(rows_of(plans, seed, [text for text in tests if len(text.split()) >= LEAK_WORDS]))
        failed = failures(rows, tests)
        for name, kind in KINDS.items():
            right = {each.id for each in plans if each.kind == kind}
            there[name] += len(right)
            dropped[name] += len(failed[name])
            if name == "dedup":  # of each pair one is dropped, whichever
                pairs = {frozenset((each.id, each.copy_of)) for each in plans if each.copy_of}
                hits[name] += sum(frozenset(pair) in pairs for pair in failed[name])
            else:
                hits[name] += len(failed[name] & right)
    table = [
        [name, kind, there[name], dropped[name], hits[name] / there[name], hits[name] / max(dropped[name], 1)]
        for name, kind in KINDS.items()
    ]
    print(f"{len(seeds)} webs of {documents} documents, seeds {', '.join(map(str, seeds))}\n")
    heads = ["filter", "kind", "there are", "dropped", "recall", "precision"]
    print(tabulate(table, heads, tablefmt="github", floatfmt=".3f"))


def rows_of(plans: list[Document], seed: int, leaks: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the documents of a web as `egrecho import-web` reads them."""
    by_id = {each.id: each for each in plans}
    for each in plans:
        rng = random.Random(hashlib.sha256(f"{seed} {each.id} voice".encode()).digest())
        texts = texts_of(seed, by_id.get(each.copy_of, each), leaks)
        texts = [alter(text, rng) for text in texts] if each.copy_of else texts
        content = FORMATS[each.format](caption(spoken(texts, rng), each, rng))
        cues = parse(content, kind_of(f"transcript.{each.format}", content))
        captions = [[cue.start, cue.end, cue.text] for cue in cues]
        yield {
            "id": each.id,
            "supervisions": [{"custom": {"captions": captions}}],
            "cues": cues,
            "duration": each.seconds,
        }


def spoken(texts: list[str], rng: random.Random) -> list[Utterance]:
    """Return when texts would be spoken."""
    found, now = [], 0.0
    for text in texts:
        start = now + rng.uniform(0.3, 1.6)
        now = start + 0.4 * len(text.split())
        found.append((round(start, 3), round(now, 3), text))
    return found


def failures(rows: list[dict[str, Any]], tests: list[str]) -> dict[str, set[Any]]:
    """Return the ids of the documents that each filter drops; of copies, both ids."""
    failed: dict[str, set[Any]] = defaultdict(set)
    runs = {"test": runs_of(tests, 10, 7)[0]}
    for row in rows:
        found = compute(Captions(row["cues"], row["duration"]), TAGS)
        for name in TAGS:
            if found[name] not in WANTED[name]:
                failed[name].add(row["id"])
        if match(tokens_of(text_of(row, None)), runs):
            failed["decontaminate"].add(row["id"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "signatures.npy"
        np.save(path, np.stack([signature(row, NEAR) for row in rows]))
        kept, _ = find_copies([path], [row["id"] for row in rows])
    failed["dedup"] = {(rows[place]["id"], rows[stays]["id"]) for place, stays in enumerate(kept) if stays != place}
    return failed


if __name__ == "__main__":
    run(judge_texts)
