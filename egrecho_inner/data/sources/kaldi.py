"""A Kaldi data directory: `wav.scp`, `text`, `utt2lang`, and `segments`, `utt2spk`, `spk2gender` when present.

In: a folder. Out: utterances with their recordings, sorted by id as under LC_ALL=C, and `Findings` with every fault of
the tables. Without `segments` an utterance is a whole recording; neither `utt2spk` nor `segments` is needed (Lhotse
silently returns no supervisions for such a directory). No audio is opened and no duration believed here: see
`audio_checks.py`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.tables import Table, read_table
from egrecho_inner.errors import DataError
from egrecho_inner.text.languages import (
    BORROW,
    CODES,
    known_language,
    legal_languages,
    nearest_languages,
    whisper_language,
)

REQUIRED = ("wav.scp", "text")
OPTIONAL = ("utt2lang", "segments", "utt2spk", "spk2utt", "spk2gender", "utt2dur", "reco2dur")
NEEDED = "a data directory needs wav.scp, text and utt2lang (or --language); optional are " + ", ".join(OPTIONAL[1:])
INTERSECT = "add the missing ones, or drop these with validate-data --fix true"

SPECIAL_TOKEN = re.compile(r"<\|[^<>|]*\|>|</?s>|(?:^|\s)#0(?:\s|$)")
ARCHIVE = re.compile(r"\.(ark|scp)(\.gz)?:\d+(\[.*\])?$")


@dataclass(frozen=True)
class Utterance:
    """One line of `text` with all that the directory has about it."""

    id: str
    recording_id: str
    start: float
    end: float | None
    """In seconds; None is the end of the recording."""
    text: str
    language: str
    speaker: str | None = None
    gender: str | None = None


@dataclass
class DataDir:
    """The content of a data directory, read and checked."""

    path: Path
    tables: dict[str, Table] = field(default_factory=dict)
    utterances: list[Utterance] = field(default_factory=list)

    @property
    def sources(self) -> dict[str, str]:
        """Return the right side of `wav.scp` for each recording."""
        return self.tables["wav.scp"].rows if "wav.scp" in self.tables else {}


def read_data_dir(path: str | Path, findings: Findings, language: str | None = None) -> DataDir:
    """Read a data directory; whatever is wrong goes to `findings`.

    Args:
        path: the folder.
        findings: takes errors and warnings; after an error the utterances may be incomplete.
        language: the language of all utterances; overrides `utt2lang`.

    Raises:
        DataError: there is no such folder.
    """
    data = DataDir(Path(path))
    if not data.path.is_dir():
        raise DataError(f"{path}: no such folder; give a Kaldi data directory (wav.scp, text, utt2lang)")
    for name in (*REQUIRED, *OPTIONAL):
        if (data.path / name).exists():
            data.tables[name] = read_table(data.path / name, findings, transcript=name == "text")
    for name in REQUIRED:
        if name not in data.tables:
            findings.error("missing file", str(data.path / name), NEEDED)
    _check_ids(data, findings)
    _check_sources(data, findings)
    _check_text(data, findings)
    data.utterances = _utterances(data, findings, language)
    return data


def compare_ids(findings: Findings, left: Table, right: Table, ids: str = "id") -> None:
    """Report the ids of one table that another lacks, both ways."""
    for table, other in ((left, right), (right, left)):
        for id in table.rows:
            if id not in other.rows:
                findings.error(f"{ids} in {table.name} but not in {other.name}", table.where(id), INTERSECT)


def _check_ids(data: DataDir, findings: Findings) -> None:
    """Compare the ids of the tables that an import joins; where both are broken one message is enough."""
    tables = data.tables
    for name in ("text", "wav.scp"):
        for id in tables[name].rows if name in tables else ():
            if "/" in id or "\\" in id or id in (".", ".."):
                where = tables[name].where(id)
                findings.error("id that could leave a folder", where, "rename it: no / or \\ in ids, and not ..")
    if "text" not in tables or "wav.scp" not in tables:
        return
    if "segments" in tables:
        compare_ids(findings, tables["segments"], tables["text"], "utterance")
    else:
        compare_ids(findings, tables["wav.scp"], tables["text"])


def _check_sources(data: DataDir, findings: Findings) -> None:
    for id, value in data.sources.items():
        where = data.tables["wav.scp"].where(id, value[:120])
        if value.startswith("~"):
            findings.error("path that starts with ~", where, "write it in full: no shell expands it here")
        elif ARCHIVE.search(value):
            findings.error("Kaldi archive, not an audio file", where, "unpack it with wav-copy")
        elif "://" in value and not value.endswith("|"):
            findings.error("URL, not a file", where, "download the audio first")


def _check_text(data: DataDir, findings: Findings) -> None:
    table = data.tables.get("text")
    for id, text in table.rows.items() if table else ():
        # most lines hold neither character, and two searches for one cost less than the pattern
        if "<" in text or "#" in text:
            special = SPECIAL_TOKEN.search(text)
            if special:
                where = table.where(id, f"has {special[0].strip()}")
                findings.error("special token in the transcript", where, "it would be trained as a command: remove it")


def _utterances(data: DataDir, findings: Findings, language: str | None) -> list[Utterance]:
    """Join the tables by utterance id."""
    if "text" not in data.tables or "wav.scp" not in data.tables:
        return []
    texts = data.tables["text"].rows
    spans = _spans(data, findings)
    languages = _languages(data, findings, language)
    speakers = _speakers(data, findings)
    genders = _genders(data, findings)
    utterances = []
    for id in sorted(texts):
        recording_id, start, end = spans.get(id, (id, 0.0, None))
        if recording_id in data.sources and ("segments" not in data.tables or id in spans):
            speaker = speakers.get(id)
            utterances.append(
                Utterance(
                    id, recording_id, start, end, texts[id], languages.get(id, ""), speaker, genders.get(speaker or "")
                )
            )
    return utterances


def _spans(data: DataDir, findings: Findings) -> dict[str, tuple[str, float, float | None]]:
    """Read `segments`: utterance -> recording, start, end (None for -1, the end of the recording)."""
    table, spans = data.tables.get("segments"), {}
    used = set()
    for id, value in table.rows.items() if table else ():
        fields = value.split()
        if len(fields) != 3:
            findings.error(
                "segments line without 4 fields", table.where(id, value), "expected `utterance recording start end`"
            )
            continue
        recording_id, start, end = fields[0], _seconds(fields[1]), _seconds(fields[2])
        used.add(recording_id)
        if recording_id not in data.sources:
            findings.error("segment of a recording that is not in wav.scp", table.where(id, recording_id), INTERSECT)
        if start is None or end is None or start < 0:
            findings.error("segment times that are not seconds", table.where(id, value), "expected 0 <= start < end")
        elif end != -1 and end <= start:
            findings.error("segment that ends before it starts", table.where(id, value), "expected start < end")
        else:
            spans[id] = (recording_id, start, None if end == -1 else end)
    for id in data.sources if table else ():
        if id not in used:
            findings.warn("recording without a segment", data.tables["wav.scp"].where(id), "not imported")
    return spans


def _seconds(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in field else None


def _languages(data: DataDir, findings: Findings, language: str | None) -> dict[str, str]:
    """Return the language code of each utterance."""
    legal = f"Whisper knows {' '.join(legal_languages())}; {CODES}" if language or "utt2lang" in data.tables else ""
    if language:
        code = known_language(language)
        if code is None:
            advice = f"nearest: {near}" if (near := nearest_languages(language)) else BORROW
            raise DataError(f"--language {language}: not a language of Whisper; {advice}; {legal}")
        _without_token(findings, [code], f"--language {language}")
        return dict.fromkeys(data.tables["text"].rows, code)
    table = data.tables.get("utt2lang")
    if table is None:
        fix = f"write it (`utterance language`), or give --language for all utterances; {NEEDED}"
        findings.error("missing file", str(data.path / "utt2lang"), fix)
        return {}
    compare_ids(findings, table, data.tables["text"])
    codes = {name: known_language(name) for name in sorted(set(table.rows.values())) if name}
    _without_token(findings, [code for code in codes.values() if code], str(table.path))
    for id, name in table.rows.items():
        if name and codes[name] is None:
            nearest = nearest_languages(name)
            where = table.where(id, name + (f"; nearest: {nearest}" if nearest else ""))
            findings.error("not a language of Whisper", where, f"{BORROW}; {legal}")
    return {id: codes.get(name) or "" for id, name in table.rows.items()}


def _without_token(findings: Findings, codes: Iterable[str], where: str) -> None:
    """Name the languages that no Whisper has a token for: a model must be given one before it can be trained."""
    for code in sorted(set(codes)):
        if whisper_language(code) is None:
            findings.warn("language that no published Whisper has", f"{where}: {code}", BORROW)


def _speakers(data: DataDir, findings: Findings) -> dict[str, str]:
    """Return the speaker of each utterance, where known."""
    table = data.tables.get("utt2spk")
    if table is None:
        if "spk2utt" in data.tables:
            rows = data.tables["spk2utt"].rows
            findings.warn("spk2utt without utt2spk", str(data.path / "spk2utt"), "speakers are taken from spk2utt")
            return {id: speaker for speaker, ids in rows.items() for id in ids.split()}
        return {}
    compare_ids(findings, table, data.tables["text"])
    for id, speaker in table.rows.items():
        if len(speaker.split()) > 1:
            findings.error("utt2spk line without 2 fields", table.where(id, speaker), "expected `utterance speaker`")
    _check_spk2utt(data, findings)
    return table.rows


def _check_spk2utt(data: DataDir, findings: Findings) -> None:
    """Compare `spk2utt` with the inverse of `utt2spk`; it is not needed, so a difference is only a warning."""
    table = data.tables.get("spk2utt")
    if table is None:
        return
    listed = {(id, speaker) for speaker, ids in table.rows.items() for id in ids.split()}
    wrong = listed ^ set(data.tables["utt2spk"].rows.items())
    for id, speaker in sorted(wrong)[:5]:
        where = f"{table.path}: {id} of {speaker}"
        findings.warn(
            "spk2utt is not the inverse of utt2spk", where, "not used here; validate-data --fix true renews it"
        )


def _genders(data: DataDir, findings: Findings) -> dict[str, str]:
    """Return the gender of each speaker, where known: m or f, as Kaldi has it."""
    table = data.tables.get("spk2gender")
    genders = {}
    for speaker, gender in table.rows.items() if table else ():
        if gender.lower() in ("m", "f"):
            genders[speaker] = gender.lower()
        elif gender:
            findings.error(
                "gender that is not m or f", table.where(speaker, gender), "expected `speaker m` or `speaker f`"
            )
    return genders
