"""From documents to windows: captions repaired, cleaned, and divided by the rule of `data/cuts/windows.py`.

In: cuts of whole recordings with `custom.captions` (`data/sources/web_documents.py`). Out: cuts that point into the
recordings, each with one supervision: its text, `custom.segments` (the cues in seconds from the window's start; the end
of one that the window cuts is null), `custom.previous` (the text before, where it ended shortly before), `custom.tags`
(empty: `egrecho tag` fills it); and the document's tags on `cut.custom.document`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from egrecho_inner.data.cuts.line_pass import Result, Row
from egrecho_inner.data.cuts.windows import Window, WindowRule, windows_of
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.cues import CLEANING, Cue, clean, repair
from egrecho_inner.text.identify import identify
from egrecho_inner.text.languages import join_texts

STAGE = "segment"
PREVIOUS_GAP = 5.0  # seconds; what ended longer ago is not what the window goes on from
VERSION = 2  # changes when the same captions would give other windows


def segment_rows(rows: list[Row], settings: Mapping[str, Any]) -> Result:
    """Divide the documents of a shard; the function of a pass (`line_pass.py`)."""
    counts: Counter[str] = Counter()
    skips: list[Skip] = []

    def lines() -> Iterator[str]:
        for row in rows:
            for window in segment(row, settings, counts, skips):
                yield to_line(window)

    return Result(lines(), skips, counts)


def segment(row: Row, settings: Mapping[str, Any], counts: Counter[str], skips: list[Skip]) -> Iterator[Row]:
    """Yield the windows of a document.

    Args:
        row: The document's JSON.
        settings: The fields of `WindowRule`, and `clean`.
        counts: Takes what was repaired, cleaned, left out and made.
        skips: Takes documents without windows.
    """
    rule = WindowRule(**{name: settings[name] for name in ("max_seconds", "no_speech", "cut_long")})
    duration = float(row["duration"])
    cues = captions_of(row)
    if all(cue.start is None for cue in cues):
        windows = untimed(cues, duration, rule)
        if windows is None:
            skips.append(Skip(row["id"], STAGE, "text without times, longer than a window", len(cues), duration))
            return
    else:
        fixed, repairs = repair(cues)
        counts.update({f"repaired: {name}": number for name, number in repairs.items()})
        windows, left = windows_of(cleaned(fixed, counts) if settings["clean"] else fixed, duration, rule)
        counts.update({f"left out: {name}": number for name, number in left.items()})
    if not windows:
        skips.append(Skip(row["id"], STAGE, "no captions that can be used", len(cues), duration))
        return
    counts.update({"documents": 1, "seconds of documents": duration})
    language = writing_of(row, cues)
    before: Window | None = None
    for number, window in enumerate(windows):
        counts.update({"windows": 1, "seconds": window.duration, "windows without speech": not window.cues})
        yield window_row(row, number, window, before, language)
        before = window if window.cues else before


def captions_of(row: Row) -> list[Cue]:
    """Return the captions of a document's JSON, as their file has them.

    Raises:
        DataError: It has none.
    """
    captions = (row["supervisions"][0].get("custom") or {}).get("captions") if row.get("supervisions") else None
    if captions is None:
        raise DataError(f"cut {row.get('id')} has no captions; expected a document of egrecho import-web")
    return [Cue(*each) for each in captions]


def cleaned(cues: Sequence[Cue], counts: Counter[str]) -> list[Cue]:
    """Remove what nobody speaks; a cue of which nothing is left is none."""
    found = []
    for cue in cues:
        text, removed = clean(cue.text)
        counts.update({f"cleaned: {name}": number for name, number in removed.items()})
        if text:
            found.append(Cue(cue.start, cue.end, text))
    return found


def untimed(cues: Sequence[Cue], duration: float, rule: WindowRule) -> list[Window] | None:
    """Return the only window of a short recording whose text has no times; None where it is too long for one."""
    if duration > rule.max_seconds:
        return None
    text = " ".join(found for cue in cues if (found := clean(cue.text)[0]))
    return [Window(0.0, duration, (Cue(0.0, duration, text),))] if text else []


def writing_of(row: Row, cues: Sequence[Cue]) -> str:
    """Return the language whose rules join the captions of a document: are there spaces between words?"""
    named = (row.get("custom") or {}).get("document", {}).get("named_language")
    return named or identify(" ".join(cue.text for cue in cues[:MANY]))


MANY = 50  # captions that show a language for sure


def window_row(document: Row, number: int, window: Window, before: Window | None, language: str) -> Row:
    """Make the JSON of a window's cut; `language` is only for joining texts."""
    source = document["supervisions"][0]
    name = f"{document['id']}-{number:05d}"
    duration = min(window.duration, document["duration"] - window.start)
    custom: dict[str, Any] = {"segments": [[cue.start, cue.end, cue.text] for cue in window.cues], "tags": {}}
    if before is not None and window.cues and window.start - before.end <= PREVIOUS_GAP:
        custom["previous"] = text_of(before, language)
    custom["cleaning"] = CLEANING
    supervision = {
        "id": name,
        "recording_id": source["recording_id"],
        "start": 0.0,
        "duration": duration,
        "channel": 0,
        "text": text_of(window, language),
        "custom": custom,
    }
    return {
        "id": name,
        "start": window.start,
        "duration": duration,
        "channel": 0,
        "supervisions": [supervision],
        "recording": document["recording"],
        "custom": {"document": (document.get("custom") or {}).get("document", {})},
        "type": "MonoCut",
    }


def text_of(window: Window, language: str) -> str:
    """Return a window's text."""
    return join_texts([" ".join(cue.text.split()) for cue in window.cues], language)
