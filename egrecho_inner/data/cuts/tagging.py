"""Tags written onto documents and windows, and what a document's windows show together.

In: cuts of `egrecho import-web` (documents, with `custom.captions`) or of `egrecho segment` (windows). Out: the same
cuts; a document's tags are in `cut.custom.document`, a window's in `supervision.custom.tags`. Tags of documents that
are computed from windows (`VOTED`) are written onto every window of the document.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import groupby
from typing import Any

from egrecho_inner.data.cuts.fields import duration_of, recording_of
from egrecho_inner.data.cuts.line_pass import Result, Row
from egrecho_inner.data.cuts.segmenting import captions_of
from egrecho_inner.data.cuts.tags import (
    TAGS,
    Captions,
    Value,
    compute,
    count_edits,
    load_tags,
)
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.text.cues import Cue

STAGE = "tag"
VERSION = 2  # changes when the same cuts would get other tags
AUDIO = ("loudness", "music", "speech_share")
"""Tags of `data/audio/tags.py`, named here so that captions are tagged without its imports."""


def vote(windows: Sequence[Captions]) -> str:
    """Return the language that most seconds of a document were taken for; `und` where nothing is spoken."""
    seconds: Counter[str] = Counter()
    for each in windows:
        if each.machine_language is None:
            raise DataError("audio_language wants a recogniser's text on the windows; see egrecho pseudo-label")
        if each.machine:
            seconds[each.machine_language] += each.seconds
    return min(seconds, key=lambda code: (-seconds[code], code)) if seconds else "und"


def total_edits(windows: Sequence[Captions]) -> float:
    """Return the word errors of all windows per word of all."""
    counts = [count_edits(each) for each in windows]
    return round(sum(errors for errors, _ in counts) / max(sum(words for _, words in counts), 1), 4)


VOTED: dict[str, Callable[[Sequence[Captions]], Value]] = {"audio_language": vote, "edit_distance": total_edits}
"""Tags of documents that are made of their windows."""


def check_names(tags: Sequence[str], document_tags: Sequence[str]) -> None:
    """Refuse tags that are not there, and none at all.

    Raises:
        ConfigError: With what is known.
    """
    known = {*TAGS, *AUDIO}
    for name in tags:
        if name not in known:
            raise ConfigError(f"unknown tag '{name}'; known are {', '.join(sorted(known))}")
    for name in document_tags:
        if name not in VOTED:
            raise ConfigError(f"document tag '{name}' is not made of windows; known are {', '.join(sorted(VOTED))}")
    if not tags and not document_tags:
        raise ConfigError("no tag is asked for; give --tags [NAME, ...] or --document_tags [NAME, ...]")


def tag_rows(rows: list[Row], settings: Mapping[str, Any]) -> Result:
    """Tag the cuts of a shard; the function of a pass (`line_pass.py`)."""
    names, voted = settings["tags"], settings["document_tags"]
    if settings["tags_file"] and any(name not in TAGS for name in names if name not in AUDIO):
        load_tags(settings["tags_file"])  # a worker is a process of its own
    skips: list[Skip] = []

    def lines() -> Iterator[str]:
        for _, group in groupby(rows, key=recording_of):
            members = list(group)
            tagged = [row for row in members if tag_row(row, names, settings["normalizer"], skips)]
            seen = [captions_in(row, settings["normalizer"]) for row in tagged] if voted else []
            together = {name: named_error(members[0], name, seen) for name in voted if tagged}
            for row in tagged:
                if voted:
                    row["custom"]["document"] = {**(row["custom"].get("document") or {}), **together}
                yield to_line(row)

    return Result(lines(), skips)


def named_error(row: Row, name: str, windows: Sequence[Captions]) -> Value:
    """Return a document's tag; an error names the document."""
    try:
        return VOTED[name](windows)
    except DataError as error:
        raise DataError(f"document {recording_of(row)}: {error}") from error


def tag_row(row: Row, names: Sequence[str], normalizer: str, skips: list[Skip]) -> bool:
    """Put tags on a cut's JSON; return whether it was possible. What has no usable audio is skipped."""
    text, audio = ([name for name in names if (name in AUDIO) is kind] for kind in (False, True))
    try:
        found = compute(captions_in(row, normalizer), text) if text else {}
    except DataError as error:
        raise DataError(f"cut {row['id']}: {error}") from error
    if audio:
        try:
            found |= wave_tags(row, audio)
        except DataError as error:
            skips.append(Skip(row["id"], STAGE, "unusable audio", str(error), duration_of(row)))
            return False
    tags_of(row).update(found)
    return True


def wave_tags(row: Row, names: Sequence[str]) -> dict[str, float]:
    """Return tags of a cut's audio.

    Raises:
        DataError: It does not read.
    """
    from lhotse.serialization import deserialize_item

    from egrecho_inner.data.audio.load import load_audio
    from egrecho_inner.data.audio.tags import tag_wave

    return tag_wave(load_audio(deserialize_item(deepcopy(row))), names)  # reading changes what it is given


def is_document(row: Row) -> bool:
    """Tell documents, which have captions, from windows."""
    return "captions" in (row["supervisions"][0].get("custom") or {}) if row.get("supervisions") else False


def tags_of(row: Row) -> dict[str, Value]:
    """Return the place of a cut's own tags, made where it is missing."""
    if is_document(row):
        custom = row["custom"] = row.get("custom") or {}
        return custom.setdefault("document", {})
    if not row.get("supervisions"):
        raise DataError(f"cut {row.get('id')} has no supervision; expected a document or a window")
    custom = row["supervisions"][0]["custom"] = row["supervisions"][0].get("custom") or {}
    return custom.setdefault("tags", {})


def captions_in(row: Row, normalizer: str = "auto") -> Captions:
    """Return what tags of captions are computed from: a document's captions as they are, or a window's segments."""
    document = (row.get("custom") or {}).get("document") or {}
    named = document.get("named_language")
    seconds = duration_of(row)
    custom = row["supervisions"][0].get("custom") or {}
    if is_document(row):
        machine = custom.get("machine"), custom.get("machine_language")
        return Captions(captions_of(row), seconds, named, *machine, normalizer)
    teacher = custom.get("teacher") or {}
    cues = [Cue(start, seconds if end is None else end, text) for start, end, text in custom.get("segments") or ()]
    if not cues and row["supervisions"][0].get("text"):
        cues = [Cue(0.0, seconds, row["supervisions"][0]["text"])]
    return Captions(cues, seconds, named, teacher.get("text"), teacher.get("language"), normalizer)
