"""A recording and its captions as one cut: the whole recording, with the captions as their file has them.

In: a `Pair`. Out: the line of a manifest of documents, or the reason why there is none. The cut has one supervision
without text, for nothing is transcribed yet; its `custom` holds

    captions   [[start, end, text], ...]   cues as parsed, nothing repaired; start and end are null in plain text
    subtitles  {file, format}              where they come from

and `cut.custom.document` is the place of the document's tags; `named_language`, from the file's name or a list,
is the first. No supervision names a language yet: the captions may be in another, and the audio, too. Audio that is not
mono WAV or FLAC is decoded once to 16 kHz FLAC, so that windows can be read from its middle.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from egrecho_inner.data.audio.check import scan_audio
from egrecho_inner.data.audio.files import SAMPLING_RATE, AudioInfo
from egrecho_inner.data.sources import web_stages
from egrecho_inner.data.sources.containers import to_flac
from egrecho_inner.data.sources.web import STAGE, Pair
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import to_line
from egrecho_inner.runtime.ledger import Skip
from egrecho_inner.runtime.passes import Shard
from egrecho_inner.text.cues import Cue
from egrecho_inner.text.languages import whisper_language
from egrecho_inner.text.subtitles import kind_of, parse

LONGEST = 24 * 3600.0  # seconds of a recording; live streams without end are refused
IN_PLACE = ("WAV", "FLAC")
Row = dict[str, Any]


@dataclass(frozen=True)
class ReadTask:
    """The work of one shard."""

    shard: Shard
    pairs: tuple[Pair, ...]
    settings: Mapping[str, Any]
    """`audio`, the folder of decoded audio; `language`; `decode`, whether every sample is looked at."""


def read_shard(task: ReadTask) -> int:
    """Read the pairs of a shard and write its documents; return their number."""
    lines, skips = [], []
    for pair in task.pairs:
        try:
            lines.append(to_line(read_document(pair, task.settings)))
        except DataError as error:
            reason, _, value = str(error).partition(": ")
            skips.append(Skip(pair.id, STAGE, reason, value or pair.subtitles))
    return task.shard.finish(lines, skips)


def read_document(pair: Pair, settings: Mapping[str, Any]) -> Row:
    """Make the cut of a document.

    Raises:
        DataError: It cannot be used; the message begins with the reason for the ledger.
    """
    if pair.stage is not None:
        return read_stage(pair, settings)
    kind, cues = read_subtitles(Path(pair.subtitles))
    path, info = read_audio(pair, settings)
    code = settings.get("language") or pair.language
    captions = {"file": pair.subtitles, "format": kind}
    return document_row(pair.id, path, info, cues, captions, whisper_language(code) if code else None)


def read_stage(pair: Pair, settings: Mapping[str, Any]) -> Row:
    """Make the cut of a line of a stage file: a document, or a window that is a recording of its own.

    Raises:
        DataError: It cannot be used, with the reason for the ledger before the colon.
    """
    line = dict(pair.stage)
    try:
        cues = web_stages.cues_of(web_stages.content_of(line, pair.id))
        end = web_stages.norm_end(line) if web_stages.is_segment(line) else 0.0
    except (DataError, ValueError, KeyError) as error:
        raise DataError(f"captions do not parse: {pair.id}: {error}") from error
    path, info = read_audio(pair, settings)
    captions = {"file": pair.subtitles, "format": "vtt"}
    row = document_row(pair.id, path, info, cues, captions, settings.get("language"))
    supervision = row["supervisions"][0]
    supervision["custom"]["stage"] = web_stages.keep(line, cues)
    row["custom"]["document"] |= web_stages.tags_from(line, web_stages.DOCUMENT_TAGS)
    if not web_stages.is_segment(line):
        machine = " ".join(cue.text for cue in web_stages.cues_of(line.get("mach_content") or ""))
        supervision["custom"] |= {"machine": machine} if machine else {}
        return row
    duration = min(end or info.duration, info.duration)
    custom = {"segments": to_rows(cues), "tags": web_stages.tags_from(line, web_stages.WINDOW_TAGS)}
    text = " ".join(" ".join(cue.text.split()) for cue in cues)
    supervision |= {"text": text, "duration": duration}
    supervision["custom"] = {**custom, "stage": supervision["custom"]["stage"]}
    return row | {"duration": duration}


def read_subtitles(path: Path) -> tuple[str, list[Cue]]:
    """Read a file of captions.

    Raises:
        DataError: It cannot be used, with the reason for the ledger before the colon.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"captions do not read: {path} ({error.strerror})") from error
    if not raw.strip():
        raise DataError(f"captions are empty: {path}")
    content = decode_text(raw)
    try:
        kind = kind_of(path.name, content)
        cues = parse(content, kind)
    except (DataError, ValueError) as error:
        raise DataError(f"captions do not parse: {path}: {error}") from error
    if not any(cue.text.strip() for cue in cues):
        raise DataError(f"captions are empty: {path} has {len(cues)} cues without text")
    return kind, cues


def decode_text(raw: bytes) -> str:
    """Decode a text file: UTF-8, UTF-16 with its mark, else Windows-1252, in which every byte is a letter."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def read_audio(pair: Pair, settings: Mapping[str, Any]) -> tuple[str, AudioInfo]:
    """Return a file that windows can be read from the middle of, decoded where the recording's own is none.

    Raises:
        DataError: It cannot be used, with the reason for the ledger before the colon.
    """
    path = Path(pair.audio)
    if not path.is_file() or not path.stat().st_size:
        raise DataError(f"recording is missing or empty: {path}")
    if path.suffix == ".npy":
        out = Path(settings["audio"]) / f"{pair.id}.flac"
        return str(out), web_stages.read_npy(path, out)
    scan = scan_audio(path, decode=False)
    if scan.info is None or scan.info.format not in IN_PLACE or scan.info.channels > 1:
        out = Path(settings["audio"]) / f"{pair.id}.flac"
        try:
            if not out.is_file() or out.stat().st_mtime < path.stat().st_mtime:
                to_flac(path, out, SAMPLING_RATE, LONGEST)
        except DataError as error:
            raise DataError(f"recording does not decode: {error}") from error
        path, scan = out, scan_audio(out, decode=False)  # every sample was decoded just now
    elif settings["decode"]:
        scan = scan_audio(path)
    if scan.info is None or scan.fault:
        raise DataError(f"recording {scan.fault}: {path} {scan.detail}")
    return os.path.relpath(path) if not os.path.isabs(pair.audio) else str(path), scan.info


def document_row(
    name: str, path: str, info: AudioInfo, cues: list[Cue], subtitles: Mapping[str, Any], language: str | None
) -> Row:
    """Make the JSON of a document's cut."""
    recording = {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": path}],
        "sampling_rate": info.sampling_rate,
        "num_samples": info.num_samples,
        "duration": info.duration,
        "channel_ids": [0],
    }
    supervision = {
        "id": name,
        "recording_id": name,
        "start": 0.0,
        "duration": info.duration,
        "channel": 0,
        "custom": {"captions": to_rows(cues), "subtitles": dict(subtitles)},
    }
    return {
        "id": name,
        "start": 0,
        "duration": info.duration,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "custom": {"document": {"named_language": language} if language else {}},
        "type": "MonoCut",
    }


def to_rows(cues: list[Cue]) -> list[list[float | str | None]]:
    """Return cues as JSON holds them."""
    return [[cue.start, cue.end, cue.text] for cue in cues]


def facts_of(pairs: tuple[Pair, ...]) -> list[dict[str, Any]]:
    """Return what a shard's result depends on: the pairs, and their files by size and time of change."""
    found = []
    for pair in pairs:
        states = []
        for path in (pair.audio, pair.subtitles):
            try:
                state = os.stat(path)
                states.append([state.st_size, state.st_mtime_ns])
            except OSError:
                states.append([])
        found.append({**asdict(pair), "states": states})
    return found
