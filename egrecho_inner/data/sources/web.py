"""Recordings of the web and their captions as files: which belong together.

In: a folder, however deep, or a list in JSONL. Out: `Pair`s, and a ledger of files without a partner. Known layouts:

    shard_00000/ID/audio_ID.m4a, transcript_ID.vtt       the published layout of OLMoASR-Pool
    anywhere/ID.webm, ID.vtt (ID.en.vtt, ID.de.json3)    what download tools write; the language is taken from the name
    {"id": ..., "audio": ..., "subtitles": ..., "language": ...}    a line of a list; `id` and `language` may be missing
    {"id": ..., "audio_file": ..., "content": "WEBVTT...", ...}     a line of a stage file of OLMoASR

`data/sources/web_documents.py` reads the pairs; `data/sources/web_stages.py` the stage files of OLMoASR.
"""

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines
from egrecho_inner.runtime.ledger import Ledger

STAGE = "import-web"
AUDIO = frozenset([".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm", ".mka"])
SUBTITLES = (".vtt", ".srt", ".ttml", ".dfxp", ".ass", ".ssa", ".json3", ".json", ".txt")
"""In the order of preference where a recording has several: timed ones first."""
LANGUAGE = re.compile(r"^(?P<stem>.+)\.(?P<language>[a-z]{2,3}(-[A-Za-z0-9]{2,8})*)$")
"""A name without its ending that ends in a language code."""


@dataclass(frozen=True)
class Pair:
    """A recording and its captions."""

    id: str
    audio: str
    subtitles: str
    language: str | None = None
    """Code that the file's name or the list gives."""
    folder: str = ""
    """That they were found in; separates pairs of one name."""
    stage: Mapping[str, Any] | None = None
    """The line of a stage file that has the captions in it (`web_stages.py`)."""


def find_pairs(folder: Path, ledger: Ledger, language: str | None = None, ours: Collection[Path] = ()) -> list[Pair]:
    """Search a folder and all below it; hidden files and folders are passed over.

    Args:
        folder: To search.
        ledger: Takes files without partner and captions that another file of the same recording is preferred to.
        language: Captions named after this language are preferred.
        ours: Files and folders that an import writes, which may lie inside the folder.

    Returns:
        Pairs sorted by id; no two have the same.

    Raises:
        DataError: There is no such folder, or it has no pair.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with recordings and their captions")
    written = {path.resolve() for path in ours}
    pairs: list[Pair] = []
    for place, folders, names in os.walk(folder):
        here, written = Path(place), {path.resolve() for path in ours}
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and (here / each).resolve() not in written
        )
        names = sorted(each for each in names if (here / each).resolve() not in written)
        pairs += pairs_of(here, names, folder, ledger, language)
    if not pairs:
        raise DataError(f"{folder}: no recording with captions of the same name ({' '.join(sorted(AUDIO))})")
    return unique(pairs)


def pairs_of(place: Path, names: list[str], root: Path, ledger: Ledger, language: str | None) -> list[Pair]:
    """Return the pairs in one folder."""
    audio: dict[str, str] = {}
    captions: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    sounds = {stem_of(name)[0] for name in names if Path(name).suffix.lower() in AUDIO}
    for name in names:
        suffix = Path(name).suffix.lower()
        if name.startswith("."):
            continue
        if suffix in AUDIO:
            stem = stem_of(name)[0]
            if stem in audio:
                ledger.add(relative(place / name, root), STAGE, "another recording of the same name", audio[stem])
            else:
                audio[stem] = name
        elif suffix in SUBTITLES:
            stem, code = stem_of(name)
            if stem not in sounds and (named := LANGUAGE.match(stem)) and named["stem"] in sounds:
                stem, code = named["stem"], named["language"]
            captions[stem].append((name, code))
    found = []
    for stem in sorted(audio.keys() | captions.keys()):
        if stem not in captions:
            ledger.add(relative(place / audio[stem], root), STAGE, "recording without captions")
            continue
        best, *others = sorted(captions[stem], key=lambda each: preference(each, language))
        if stem not in audio:
            others, best = captions[stem], None
        for name, _ in others:
            reason = "captions without a recording" if best is None else "other captions of the same recording"
            ledger.add(relative(place / name, root), STAGE, reason)
        if best is not None:
            found.append(Pair(stem, str(place / audio[stem]), str(place / best[0]), best[1], relative(place, root)))
    return found


def stem_of(name: str) -> tuple[str, str | None]:
    """Return what pairs files: the name without ending and without the published layout's prefixes."""
    stem = Path(name).stem
    for prefix in ("audio_", "transcript_"):
        if stem.startswith(prefix) and len(stem) > len(prefix):
            return stem[len(prefix) :], None
    return stem, None


def preference(captions: tuple[str, str | None], language: str | None) -> tuple[bool, int, str]:
    """Return what captions of one recording are sorted by: language asked for, format, name."""
    name, code = captions
    other = language is not None and code is not None and code.split("-")[0] != language
    return other, SUBTITLES.index(Path(name).suffix.lower()), name


def relative(path: Path, root: Path) -> str:
    """Return a path below the folder that is imported."""
    return path.relative_to(root).as_posix()


def unique(pairs: list[Pair]) -> list[Pair]:
    """Give pairs of one name in several folders an id with the folder; return all sorted by id."""
    counts = Counter(pair.id for pair in pairs)
    named = [
        pair if counts[pair.id] == 1 else replace(pair, id="-".join([*Path(pair.folder).parts, pair.id]))
        for pair in pairs
    ]
    return sorted(named, key=lambda pair: pair.id)


def read_list(path: Path) -> list[Pair]:
    """Read a list of pairs; paths in it are relative to the list's folder, where they are not found as they are.

    Raises:
        DataError: A line has not what a pair needs, or an id is there twice.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        row = parse_row(line, where)
        if "content" in row or "seg_content" in row:
            pairs.append(stage_pair(row, path, where))
            continue
        audio, subtitles = (row.get(name) or row.get(other) for name, other in KEYS)
        if not isinstance(audio, str) or not isinstance(subtitles, str):
            raise DataError(f"{where}: expected the keys 'audio' and 'subtitles' with paths, found {', '.join(row)}")
        name = str(row.get("id") or stem_of(Path(audio).name)[0])
        pairs.append(Pair(name, located(audio, path), located(subtitles, path), row.get("language")))
    if twice := [name for name, count in Counter(pair.id for pair in pairs).items() if count > 1]:
        raise DataError(f"{path}: id '{twice[0]}' is there twice; ids must be unique")
    return sorted(pairs, key=lambda pair: pair.id)


def stage_pair(row: dict[str, Any], path: Path, where: str) -> Pair:
    """Return what a line of a stage file pairs.

    Raises:
        DataError: It has no id or no recording.
    """
    name, audio = row.get("seg_id" if "seg_content" in row else "id"), row.get("audio_file")
    if not isinstance(name, str) or not isinstance(audio, str):
        raise DataError(f"{where}: expected the keys 'id' (or 'seg_id') and 'audio_file', found {', '.join(row)}")
    return Pair(name, located(audio, path), str(row.get("subtitle_file", "")), stage=row)


KEYS = (("audio", "audio_file"), ("subtitles", "subtitle_file"))


def parse_row(line: str, where: str) -> dict[str, Any]:
    """Parse a line of a JSONL file.

    Raises:
        DataError: It is no JSON object.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not a JSON line ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a {type(row).__name__}; expected an object")
    return row


def located(path: str, beside: Path) -> str:
    """Return where a path of a list leads: from here, or else from the list's own folder.

    Raises:
        DataError: It is an address, not a file.
    """
    if "://" in path or path.startswith("pipe:"):
        raise DataError(f"{beside}: '{path}' is no file; download it first")
    return path if os.path.isabs(path) or os.path.exists(path) else str(beside.parent / path)
