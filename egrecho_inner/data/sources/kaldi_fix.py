"""What Kaldi's fix_data_dir.sh does: sorted files of the utterances that all of them have, and a backup.

In: a data directory. Out: the same with its files rewritten where that changes them; the old ones go to `.backup/`,
numbered rather than overwritten. Refuses what needs a person: one id with two values, an unknown encoding, no utterance
left. A second run changes nothing. Left out: audio; a file that cannot be read stays listed, the import counts it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.tables import Table, read_table
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import atomic_file

BY_UTTERANCE = (
    *("text", "utt2lang", "utt2spk", "segments", "feats.scp", "vad.scp", "utt2uniq"),
    *("utt2dur", "utt2num_frames", "utt2warp"),
)
BY_RECORDING = ("wav.scp", "reco2dur", "reco2file_and_channel")
BY_SPEAKER = ("spk2gender", "spk2warp", "cmvn.scp")
REPAIRED = {"line twice", "blank line"}  # errors of a table that writing it again takes away


@dataclass(frozen=True)
class Fix:
    """What was done."""

    kept: int
    total: int
    """Utterances in `text`."""
    changed: tuple[str, ...]
    """Names of the files that were rewritten."""


def fix_data_dir(path: str | Path) -> Fix:
    """Sort, repair and intersect the files of a data directory.

    Raises:
        DataError: something needs a person, or nothing would be left; then no file is touched.
    """
    path, findings = Path(path), Findings()
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; give a Kaldi data directory (wav.scp, text, utt2lang)")
    names = [name for name in (*BY_UTTERANCE, *BY_RECORDING, *BY_SPEAKER, "spk2utt") if (path / name).exists()]
    tables = {name: read_table(path / name, findings, transcript=name == "text") for name in names}
    for name in ("wav.scp", "text"):
        if name not in tables:
            findings.error("missing file", str(path / name), "nothing can make it up")
    findings.groups = {key: group for key, group in findings.groups.items() if group.kind not in REPAIRED}
    findings.raise_errors()
    utterances, recordings = _common(tables)
    if not utterances:
        raise DataError(f"{path}: no utterance is in all of {', '.join(names)}; fixing would leave nothing")
    contents = {}
    spk2utt = _spk2utt(tables, utterances)
    if "utt2spk" in tables or "spk2utt" in tables:
        contents["spk2utt"] = _content(spk2utt)
        tables.pop("spk2utt", None)
    for name, table in tables.items():
        keep = utterances if name in BY_UTTERANCE else recordings if name in BY_RECORDING else spk2utt or table.rows
        contents[name] = _content({id: value for id, value in table.rows.items() if id in keep})
    changed = [name for name, content in contents.items() if _write(path / name, content)]
    return Fix(len(utterances), len(tables["text"].rows), tuple(changed))


def _common(tables: dict[str, Table]) -> tuple[set[str], set[str]]:
    """Return the utterances that every file has, and their recordings."""
    utterances = set(tables["text"].rows)
    for name in BY_UTTERANCE:
        if name in tables:
            utterances &= set(tables[name].rows)
    recordings = set(tables["wav.scp"].rows)
    if "segments" not in tables:
        return utterances & recordings, utterances & recordings
    # a line of one field was refused above, so there is a first field
    of = {id: value.split()[0] for id, value in tables["segments"].rows.items()}
    utterances = {id for id in utterances if of[id] in recordings}
    return utterances, {of[id] for id in utterances}


def _spk2utt(tables: dict[str, Table], utterances: set[str]) -> dict[str, str]:
    """Return each speaker's utterances: the inverse of utt2spk, or spk2utt itself where there is no other."""
    listed: dict[str, list[str]] = {}
    if "utt2spk" in tables:
        for id in sorted(utterances):
            listed.setdefault(tables["utt2spk"].rows[id], []).append(id)
    elif "spk2utt" in tables:
        for speaker, value in tables["spk2utt"].rows.items():
            listed[speaker] = sorted(utterances & set(value.split()))
    return {speaker: " ".join(ids) for speaker, ids in listed.items() if ids}


def _content(rows: dict[str, str]) -> bytes:
    return "".join(f"{id} {rows[id]}".rstrip(" ") + "\n" for id in sorted(rows)).encode()


def _write(path: Path, content: bytes) -> bool:
    """Replace a file, keeping the old one in `.backup/`; return whether there was anything to do.

    A file of which nothing is left goes away: an empty one is an error to every reader.
    """
    if (path.read_bytes() if path.exists() else b"") == content:
        return False
    if path.exists():
        backup, number = path.parent / ".backup" / path.name, 0
        while backup.exists():
            number += 1
            backup = backup.with_name(f"{path.name}.{number}")
        backup.parent.mkdir(exist_ok=True)
        shutil.copy2(path, backup)
    if not content:
        path.unlink()
        return True
    with atomic_file(path) as file:
        file.write(content)
    return True
