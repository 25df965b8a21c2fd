"""A folder of recordings as a data set: `UID.wav` beside `UID.txt`, and CSV files that describe the splits.

In: a folder with one audio file and one transcript per recording; perhaps `train_files.csv`, `dev_files.csv`,
`test_files.csv` with the columns `uid,file_name,text`. Out: clips with their split, what was left out in a ledger, and
the CSV files where they were missing. A CSV that is there is never written over; one that this module wrote and nobody
changed since may get new rows for new recordings. Only plain names inside the folder are followed.
Neither lhotse nor torch is imported: a server looks at uploads with it.
"""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egrecho_inner.data.sources.containers import SUFFIXES as CONTAINERS
from egrecho_inner.data.sources.splits import (
    FEWEST_GROUPS,
    SPLITS,
    Split,
    SplitOptions,
    draw_folds,
    draw_split,
    draw_splits,
    group_clips,
)
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file, write_json
from egrecho_inner.runtime.ledger import Ledger
from egrecho_inner.text.normalize import fold_text

AUDIO = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", *CONTAINERS)
COLUMNS = ["uid", "file_name", "text"]
MADE = ".splits.json"
"""Which CSV files this module wrote, by their content."""
TEXT_BYTES = 10_000
STAGE = "import-folder"
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""What a spreadsheet would run, after any number of our own escapes."""


@dataclass(frozen=True)
class FolderClip:
    """One recording with its transcript."""

    uid: str
    path: Path
    text: str


@dataclass
class FolderData:
    """What a folder holds."""

    folder: Path
    clips: dict[str, FolderClip]
    """By UID, in the order of UIDs."""
    splits: dict[str, Split] = field(default_factory=dict)
    """Of the clips that are in one."""
    folds: dict[str, int] = field(default_factory=dict)
    """Instead of splits."""
    given: tuple[Split, ...] = ()
    """Splits that CSV files describe."""
    notes: list[str] = field(default_factory=list)
    """What a person should know."""

    def of(self, split: Split) -> list[FolderClip]:
        """Return the clips of one split."""
        return [clip for uid, clip in self.clips.items() if self.splits.get(uid) == split]


def read_folder(folder: Path, options: SplitOptions, ledger: Ledger) -> FolderData:
    """Read a folder and divide it; nothing is written.

    Args:
        folder: With the recordings.
        options: How to divide what no CSV file divides.
        ledger: Takes every file that cannot be used.

    Raises:
        DataError: There is no such folder, nothing usable in it, or a CSV file is wrong.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; expected one with UID.wav (mp3, flac, m4a, ...) and UID.txt files")
    tables = {split: table for split in SPLITS if (table := folder / f"{split}_files.csv").is_file()}
    rows = read_tables(folder, tables)
    texts = {uid: row[1] for uid, row in rows.items()}
    clips = find_clips(folder, ledger, texts, {uid: row[0] for uid, row in rows.items()})
    if not clips:
        raise DataError(f"{folder}: no recording has a transcript; expected UID.wav (or mp3, ...) beside UID.txt")
    found = FolderData(folder, clips, given=tuple(tables))
    found.splits = {uid: row[2] for uid, row in rows.items() if uid in clips}
    divide(found, options, ledger)
    return found


def divide(data: FolderData, options: SplitOptions, ledger: Ledger) -> None:
    """Give the clips that no CSV file names a split or a fold; where no split takes new clips, leave them out."""
    texts = {uid: clip.text for uid, clip in data.clips.items()}
    groups = group_clips(texts, options.groups, options.session)
    sentences = len(set(map(fold_text, texts.values())))
    if options.groups == "auto" and sentences < min(FEWEST_GROUPS, len(texts)):
        data.notes.append(f"only {sentences} different sentences: the same words are in several splits")
    if not data.given:
        if options.folds is not None or len(data.clips) < options.folds_below:
            data.folds = draw_folds(groups, options.folds or min(5, max(3, len(set(groups.values())))), options.seed)
        else:
            data.splits = draw_splits(groups, options.dev, options.test, options.seed)
        return
    free = [uid for uid in data.clips if uid not in data.splits]
    takers = [split for split in SPLITS if split not in data.given or split in made_here(data.folder)]
    known_splits = {groups[uid]: split for uid, split in data.splits.items()}
    for uid in free:
        drawn = draw_split(groups[uid], options.dev, options.test, options.seed)
        split = known_splits.get(groups[uid]) or (drawn if drawn in takers else next(iter(takers), "train"))
        if split in takers:
            data.splits[uid] = split
        else:
            reason = "same words or session as a clip of a fixed split" if takers else "in no CSV file"
            ledger.add(uid, STAGE, reason, split if takers else "")
            del data.clips[uid]


def find_clips(
    folder: Path, ledger: Ledger, texts: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, FolderClip]:
    """Pair audio files and transcripts by their names; whatever has no partner goes to the ledger.

    Raises:
        DataError: Two audio files have one UID, or a CSV file names audio that is not there.
    """
    files = {path: None for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    audio: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() not in AUDIO:
            continue
        if path.stem in audio:
            raise DataError(f"{folder}: {audio[path.stem].name} and {path.name} have the same UID; keep one of them")
        audio[path.stem] = path
    listed = {uid: folder / name for uid, name in names.items()}
    for uid, path in listed.items():
        if path not in files:
            raise DataError(f"{folder}: a CSV file names {path.name} (uid {uid}), which is not there; add it")
    taken = {path.name for path in listed.values()}
    written = {path.stem for path in files if path.suffix.lower() == ".txt"}
    pairs = listed | {uid: path for uid, path in audio.items() if uid not in listed and path.name not in taken}
    clips: dict[str, FolderClip] = {}
    for uid in sorted(pairs):
        text = texts.get(uid) or read_text(folder / f"{uid}.txt", ledger)
        if text:
            clips[uid] = FolderClip(uid, pairs[uid], text)
    for uid in sorted(written - set(audio) - set(listed)):
        ledger.add(uid, STAGE, "transcript without audio")
    return clips


def read_text(path: Path, ledger: Ledger) -> str:
    """Read a transcript as one line of text; an unusable one goes to the ledger and is empty."""
    if not path.is_file():
        ledger.add(path.stem, STAGE, "no transcript", f"{path.name} is not there")
    elif path.stat().st_size > TEXT_BYTES:
        ledger.add(path.stem, STAGE, f"transcript over {TEXT_BYTES:,} bytes", path.stat().st_size)
    else:
        try:
            text = clean(path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError:
            ledger.add(path.stem, STAGE, "transcript is not UTF-8")
            return ""
        if not text:
            ledger.add(path.stem, STAGE, "empty transcript")
        return text
    return ""


def clean(text: str) -> str:
    """Return a transcript on one line, composed (NFC), without control and direction characters."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cn", "Co", "Cs") else c for c in text if c not in BIDI)
    return unicodedata.normalize("NFC", " ".join(kept.split()))


BIDI = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0xFEFF)}
"""Marks that change the order in which text is shown, not the text."""


def read_tables(folder: Path, tables: Mapping[Split, Path]) -> dict[str, tuple[str, str, Split]]:
    """Read the CSV files: file name, text and split of each UID.

    Raises:
        DataError: With file and row: a wrong header, a missing value, a UID twice, a file outside the folder.
    """
    rows: dict[str, tuple[str, str, Split]] = {}
    for split, path in tables.items():
        for number, row in read_csv(path):
            uid, name, text = row["uid"], row["file_name"], clean(row["text"])
            where = f"{path}:{number}"
            if not uid or not name:
                raise DataError(f"{where}: uid or file_name is empty; fill it in")
            if name != Path(name).name or name.startswith(".") or Path(name).suffix.lower() not in AUDIO:
                raise DataError(f"{where}: file_name {name!r} is no audio file of this folder; give a plain name")
            if len(text.encode()) > TEXT_BYTES:
                raise DataError(f"{where}: the text has over {TEXT_BYTES:,} bytes; expected one utterance")
            if uid in rows:
                raise DataError(f"{where}: uid {uid!r} was in {rows[uid][2]}_files.csv before; keep it in one split")
            rows[uid] = (name, text, split)
    return rows


def read_csv(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    """Yield the rows of one CSV file with their line numbers.

    Raises:
        DataError: It is not UTF-8, not CSV, or has another header.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if "\0" in content:
        raise DataError(f"{path}: holds NUL characters; save it as plain CSV")
    limit = csv.field_size_limit(2 * TEXT_BYTES)
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        header = next(reader, [])
        if [name.strip().lower() for name in header] != COLUMNS:
            raise DataError(f"{path}:1: the header is {','.join(header)[:80]!r}; expected {','.join(COLUMNS)}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(COLUMNS):
                raise DataError(f"{path}:{reader.line_num}: {len(row)} columns; expected {','.join(COLUMNS)}")
            yield reader.line_num, dict(zip(COLUMNS, map(unescape, row), strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({error}); expected {','.join(COLUMNS)}") from error
    finally:
        csv.field_size_limit(limit)


def write_splits(data: FolderData) -> list[Path]:
    """Write the CSV files that are missing, and add new clips to those that this module wrote.

    Returns:
        The files written.
    """
    ours, written = made_here(data.folder), []
    for split in SPLITS:
        clips, path = data.of(split), data.folder / f"{split}_files.csv"
        if not clips or (split in data.given and split not in ours):
            continue
        content = table_of(clips, path if split in data.given else None)
        if split not in data.given or path.read_bytes() != content:
            with atomic_file(path) as file:
                file.write(content)
            written.append(path)
            ours.add(split)
    if written:
        write_json(data.folder / MADE, {split: digest(data.folder, split) for split in SPLITS if split in ours})
    return written


def table_of(clips: Iterable[FolderClip], before: Path | None) -> bytes:
    """Return a CSV file's bytes: the rows it has, then those of the clips that are not among them."""
    old = before.read_text(encoding="utf-8-sig") if before else ""
    known = {row["uid"] for _, row in read_csv(before)} if before else set()
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    if not old:
        writer.writerow(COLUMNS)
    for clip in clips:
        if clip.uid not in known:
            writer.writerow([escape(clip.uid), escape(clip.path.name), escape(clip.text)])
    return (old + ("\n" if old and not old.endswith("\n") else "") + out.getvalue()).encode()


def escape(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def unescape(text: str) -> str:
    """Take the apostrophe of `escape` away."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def digest(folder: Path, split: str) -> str:
    """Return the SHA-256 of a split's CSV file; empty where there is none."""
    path = folder / f"{split}_files.csv"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def made_here(folder: Path) -> set[Split]:
    """Return the splits whose CSV file is as this module wrote it."""
    try:
        noted: Any = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {split for split in SPLITS if isinstance(noted, dict) and noted.get(split) == digest(folder, split) != ""}
