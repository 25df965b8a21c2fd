"""The stage files of OLMoASR (Ngo et al. 2025): a JSON line for each document, or for each segment, and back.

In: lines with the keys of its `text_to_jsonl` (documents: id, audio_file, subtitle_file, content as WebVTT, length) or
of its `preprocess` (segments: 13 keys, seg_content as WebVTT). Out: the same cuts that folders and `egrecho segment`
give, and lines again. Whatever else a line has stays in `supervision.custom.stage`, so that a round trip loses no key;
tags that both know have their own names on the cut (`DOCUMENT_TAGS`, `WINDOW_TAGS`), where conditions find them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from egrecho_inner.data.audio.files import SAMPLING_RATE, AudioInfo
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.text.constants import MAX_TOKENS
from egrecho_inner.text.cues import Cue
from egrecho_inner.text.subtitles import parse, seconds

Row = dict[str, Any]
DOCUMENT_TAGS = {
    "casing": "casing",
    "repeating_lines": "repeating_lines",
    "has_comma_period": "has_comma_period",
    "has_proper_cap_after_punct_line": "has_proper_cap_after_punct_line",
    "num_words": "num_words",
    "text_lang": "text_language",
    "audio_lang": "audio_language",
    "edit_dist": "edit_distance",
}
WINDOW_TAGS = {"seg_edit_dist": "edit_distance", "seg_num_words": "num_words"}
"""Their keys and our names."""


def is_segment(row: Mapping[str, Any]) -> bool:
    """Tell lines of segments from lines of documents."""
    return "seg_content" in row


def content_of(row: Mapping[str, Any], where: str) -> str:
    """Return the WebVTT of a line.

    Raises:
        DataError: It has none.
    """
    content = row.get("seg_content", row.get("content"))
    if not isinstance(content, str):
        raise DataError(f"{where}: no 'content' or 'seg_content' with WebVTT; expected a stage file of OLMoASR")
    return content


def cues_of(content: str) -> list[Cue]:
    """Read the WebVTT of a line; without cues it is silence."""
    return parse(content, "vtt") if "-->" in content else []


def write_vtt(cues: Sequence[Cue]) -> str:
    """Write cues as the stage files have them; the end of one that is cut is the start of nothing, and left out."""
    blocks = [f"{stamp(c.start)} --> {stamp(c.start if c.end is None else c.end)}\n{c.text}\n\n" for c in cues]
    return "WEBVTT\n\n" + "".join(blocks)


def stamp(value: float, mark: str = ".") -> str:
    """Write a time as 00:01:02.345."""
    whole = round(value * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"


def keep(row: Mapping[str, Any], cues: Sequence[Cue]) -> Row:
    """Return what of a line must be kept for the way back: its WebVTT only where writing it anew gives another."""
    key = "seg_content" if is_segment(row) else "content"
    same = write_vtt(cues) == row[key]
    return {name: (None if name == key and same else value) for name, value in row.items()}


def restore(stage: Mapping[str, Any], cues: Sequence[Cue]) -> Row:
    """Return a line from what was kept of it."""
    return {
        name: write_vtt(cues) if name in ("content", "seg_content") and value is None else value
        for name, value in stage.items()
    }


def tags_from(row: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """Return the tags of a line under our names."""
    return {ours: row[theirs] for theirs, ours in names.items() if row.get(theirs) is not None}


def norm_end(row: Mapping[str, Any]) -> float:
    """Return where the captions of a segment end, in seconds; their files have it as a time or in milliseconds."""
    value = row["norm_end"]
    return seconds(value) if isinstance(value, str) else float(value) / 1000


def read_npy(path: Path, out: Path) -> AudioInfo:
    """Write the samples of their int16 array as FLAC.

    Raises:
        DataError: It is no such array.
    """
    try:
        wave = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"recording does not decode: {path} ({error})") from error
    if wave.ndim != 1 or wave.dtype != np.int16 or not len(wave):
        raise DataError(f"recording does not decode: {path} holds {wave.dtype} {wave.shape}; expected int16 samples")
    with atomic_file(out) as file:
        soundfile.write(file, wave, SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    return AudioInfo(SAMPLING_RATE, len(wave), 1, "FLAC", "PCM_16")


def document_line(row: Row) -> Row:
    """Return the line of a document's cut."""
    supervision = row["supervisions"][0]
    custom = supervision["custom"]
    cues = [Cue(*each) for each in custom["captions"]]
    document = (row.get("custom") or {}).get("document") or {}
    if custom.get("stage"):
        line = restore(custom["stage"], cues)
    else:
        timed = [cue for cue in cues if cue.start is not None]
        line = {
            "subtitle_file": custom["subtitles"]["file"],
            "content": write_vtt(timed),
            "length": round(timed[-1].end - timed[0].start, 3) if timed else 0.0,
            "audio_file": row["recording"]["sources"][0]["source"],
            "id": row["id"],
        }
    return line | tags_to(document, DOCUMENT_TAGS)


def tags_to(tags: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """Return tags under their keys."""
    return {theirs: tags[ours] for theirs, ours in names.items() if ours in tags}


def segment_line(row: Row, last: bool, count: Callable[[str], int] | None) -> Row:
    """Return the line of a window's cut.

    Args:
        row: The window's JSON.
        last: Whether it is the last of its document.
        count: Returns the tokens of a text; None where lines keep the numbers they were imported with.

    Raises:
        DataError: The numbers of tokens are not there and cannot be counted.
    """
    custom = row["supervisions"][0].get("custom") or {}
    cues = [Cue(*each) for each in custom.get("segments") or ()]
    document = (row.get("custom") or {}).get("document") or {}
    tags = tags_to(document, DOCUMENT_TAGS) | tags_to(custom.get("tags") or {}, WINDOW_TAGS)
    if custom.get("stage"):
        return restore(custom["stage"], cues) | tags
    if count is None:
        raise DataError(f"cut {row['id']}: its tokens are to be counted; give --tokenizer, a model's folder")
    times = "_".join(stamp(value, ",") for value in (row["start"], row["start"] + row["duration"]))
    source = Path(row["recording"]["sources"][0]["source"])
    folder = source.parent / row["recording"]["id"]
    tokens = sum(count(f" {cue.text.strip()}") for cue in cues)
    plain, timed = tokens + 3, tokens + 2 * len(cues) + (not last) + 2
    number = re.search(r"-(\d+)$", row["id"])
    return {
        "subtitle_file": f"{folder}/{times}.vtt",
        "seg_content": write_vtt(cues),
        "text_timestamp": times,
        "audio_timestamp": times,
        "norm_end": stamp(row["duration"]),
        "id": row["recording"]["id"],
        "seg_id": f"{row['recording']['id']}_{int(number[1])}" if number else row["id"],
        "audio_file": f"{folder}/{times}.npy",
        "ts_mode": timed <= MAX_TOKENS,
        "no_ts_mode": plain <= MAX_TOKENS,
        "only_no_ts_mode": any(cue.end is None for cue in cues),
        "num_tokens_no_ts_mode": plain,
        "num_tokens_ts_mode": timed,
    } | tags
