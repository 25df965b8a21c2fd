"""SLAM-LLM's JSONL to cuts and back: a line `{"key", "source", "target"}` for each utterance.

Of its multitask form `task`, `prompt` and what is under the task's name (`hotword`) go to the supervision's `custom`,
where `text/prompts.py` reads them, and come back on export. A line without `source` is text alone, for training a
language model; `tokens` are then ids that stand where audio would. Sources are files: no commands, pipes or Kaldi
archives. Left out: `source_len` and `target_len`, which are measured here.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.cut import Cut

from egrecho_inner.data.audio.check import AudioScan, scan_audio
from egrecho_inner.data.cuts.fields import reference_of
from egrecho_inner.data.cuts.make import make_cuts
from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import ARCHIVE, DataDir, Utterance
from egrecho_inner.data.sources.manifests import Rules, build_manifests
from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import read_lines
from egrecho_inner.runtime.ledger import Ledger

STAGE = "import-jsonl"
NAMES = {"key", "source", "target", "source_len", "target_len", "path"}
TEXT_SECONDS = 0.1
"""Nominal length of a token of a cut of text alone: batches are planned by seconds."""


@dataclass(frozen=True)
class Line:
    """One utterance."""

    key: str
    source: str | None
    """None for text alone."""
    target: str
    custom: Mapping[str, Any] = field(default_factory=dict)
    """All else that the line says."""


def read_jsonl(path: Path) -> list[Line]:
    """Read a file.

    Raises:
        DataError: A line does not read, a key comes twice, or a source is no file.
    """
    found: dict[str, int] = {}
    lines, again = [], []
    for number, text in enumerate(read_lines(path), 1):
        if not text.strip():
            continue
        line = parse(text, f"{path}:{number}")
        if line.key in found:
            again.append(f"{line.key} in lines {found[line.key]} and {number}")
        found.setdefault(line.key, number)
        lines.append(line)
    if again:
        more = f", and {len(again) - 3} more" if len(again) > 3 else ""
        raise DataError(
            f"{path}: {len(again)} keys come twice: {'; '.join(again[:3])}{more}; expected one line for each key: "
            "rename or remove the others"
        )
    if not lines:
        raise DataError(f"{path} has no lines; expected JSON with key, source and target in each")
    return lines


def parse(text: str, where: str) -> Line:
    """Read one line.

    Raises:
        DataError: It is not JSON with key and target, or its source is no file.
    """
    try:
        row = json.loads(text)
        key, target, source = row["key"], row["target"], row.get("source", row.get("path"))
        if not (isinstance(key, str) and key and isinstance(target, str)) or not isinstance(source, str | None):
            raise TypeError("key and target are to be strings")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: expected JSON with key, source and target ({error!r}), got {text[:60]}") from error
    if source is not None and (source.rstrip().endswith("|") or source.startswith("|") or "://" in source):
        raise DataError(f"{where}: the source {source[:60]!r} is a command or a URL; expected an audio file")
    if source is not None and ARCHIVE.search(source):
        raise DataError(f"{where}: the source {source[:60]!r} is in a Kaldi archive; unpack it with wav-copy")
    return Line(key, source, target, {name: value for name, value in row.items() if name not in NAMES})


def to_cuts(lines: Iterable[Line], folder: Path, language: str | None, ledger: Ledger) -> Iterator[Cut]:
    """Yield a cut for every usable line, in the order of keys; text alone comes last.

    Args:
        lines: Of one file.
        folder: That relative sources are in.
        language: Code of the language of all lines; None leaves it open.
        ledger: Takes lines whose audio cannot be used; not written here.
    """
    spoken = {line.key: line for line in lines if line.source is not None}
    utterances, scans = [], {}
    for key, line in spoken.items():
        utterances.append(Utterance(key, key, 0.0, None, line.target, language))
        scans[key] = scan_source(folder / str(line.source))
    rules = Rules(channel="mix", keep_long=True, keep_empty=True)
    found = build_manifests(DataDir(folder, utterances=utterances), scans, rules, ledger, STAGE, Findings())
    recordings = [Recording.from_dict(row) for row in found.recordings]
    supervisions = [SupervisionSegment.from_dict(row) for row in found.supervisions]
    for cut in make_cuts(recordings, supervisions):
        (supervision,) = cut.supervisions
        supervision.custom = dict(spoken[supervision.id].custom) or None
        yield cut.with_id(supervision.id)
    yield from (text_cut(line, language) for line in lines if line.source is None)


def scan_source(path: Path) -> AudioScan:
    """Decode a file once; a fault is returned."""
    return scan_audio(path.resolve())


def text_cut(line: Line, language: str | None) -> MonoCut:
    """Return a cut without audio, as long as its tokens would be."""
    size = len(line.custom.get("tokens", ())) + max(len(line.target.split()), 1)
    seconds = round(max(size * TEXT_SECONDS, 2 * TEXT_SECONDS), 3)
    custom = dict(line.custom) or None
    supervision = SupervisionSegment(
        line.key, line.key, 0.0, seconds, 0, text=line.target, language=language, custom=custom
    )
    return MonoCut(line.key, 0.0, seconds, 0, [supervision])


def to_row(cut: Cut) -> dict[str, Any]:
    """Return the line of a cut.

    Raises:
        DataError: It has no transcript, or is not a whole file.
    """
    text = reference_of(cut).text
    if text is None:
        raise DataError(f"cut {cut.id} has no transcript; expected one, SLAM-LLM's lines have a target")
    custom = {name: value for name, value in (cut.supervisions[0].custom or {}).items() if name != "gap_before"}
    if not cut.has_recording:
        return {"key": cut.id, "target": text, **custom}
    recording = cut.recording if isinstance(cut, MonoCut) else None
    plain = recording is not None and len(recording.sources) == 1 and recording.sources[0].type == "file"
    if not plain or abs(cut.duration - recording.duration) > 0.001:
        raise DataError(
            f"cut {cut.id} is not a whole audio file, and a line of SLAM-LLM's has no times; make files of the cuts "
            "first: egrecho to-shar, then egrecho import-shar"
        )
    return {"key": cut.id, "source": str(recording.sources[0].source), "target": text, **custom}
