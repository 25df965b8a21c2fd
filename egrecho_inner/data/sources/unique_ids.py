"""Ids that are unique over the splits of a corpus: features, hypotheses and scores are found by them.

In: a `DataDir`, the data directories of its other splits, the manifests that are there already. Out: the ids that two
splits share, with both lines; manifests whose ids begin with corpus and split. Within one directory the tables refuse
an id twice. Audio decides whether two utterances are the same, never their ids: many corpora count anew in each split.
"""

import glob
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from egrecho_inner.data.sources.findings import Findings
from egrecho_inner.data.sources.kaldi import DataDir
from egrecho_inner.data.sources.manifests import Manifests
from egrecho_inner.errors import DataError

Ids = Literal["auto", "keep", "prefix"]


@dataclass(frozen=True)
class Clash:
    """An id of ours that another split has, too."""

    id: str
    here: str
    """File and line."""
    there: str


def find_clashes(data: DataDir, others: Iterable[Path], manifests: Iterable[Path]) -> list[Clash]:
    """Find the utterance and recording ids that other splits have, too: both become parts of cuts.

    Args:
        data: Of `read_data_dir`.
        others: Data directories; `data` itself may be among them.
        manifests: Supervisions of other splits, as an import wrote them.

    Raises:
        DataError: A directory lacks its tables, or a manifest does not read.
    """
    found: dict[str, Clash] = {}
    own = data.path.resolve()
    shared = [_in_tables(path, data) for path in others if path.resolve() != own]
    shared += [_in_manifest(path, data) for path in manifests]
    for name, id, there in itertools.chain.from_iterable(shared):
        table = data.tables[name]
        found.setdefault(id, Clash(id, f"{table.path}:{table.lines[id]}", there))
    return [found[id] for id in sorted(found)]


def other_manifests(folder: Path, prefix: str, split: str) -> list[Path]:
    """Return the supervisions of a corpus's other splits that were imported before."""
    found = sorted(folder.glob(f"{glob.escape(prefix)}_supervisions_*.jsonl"))
    return [path for path in found if path.name != f"{prefix}_supervisions_{split}.jsonl"]


def unique_prefix(begin: str, ids: Ids, clashes: Sequence[Clash], findings: Findings) -> str:
    """Return the prefix where ids need it, or nothing where they stay as they are.

    Args:
        begin: The prefix, of corpus and split.
        ids: The user's choice.
        clashes: Of `find_clashes`.
        findings: Takes the clashes as a note.

    Raises:
        DataError: The ids are to be kept, and other splits have some of them.
    """
    if clashes and ids == "keep":
        first, count = clashes[0], f" (the first of {len(clashes):,})" if len(clashes) > 1 else ""
        raise DataError(
            f"{first.here}: id {first.id} is also in {first.there}{count}; ids must be unique over the splits of a "
            f"corpus: rename them, or let '{begin}' be put before them (--ids auto)"
        )
    for clash in clashes:
        kind, where = "id that another split has, too", f"{clash.here}: {clash.id}, {clash.there}"
        findings.add("note", kind, where, f"all ids of this split begin with '{begin}'")
    return begin if clashes or ids == "prefix" else ""


def put_before(begin: str, manifests: Manifests) -> None:
    """Put a prefix before all ids."""
    for recording in manifests.recordings:
        recording["id"] = begin + recording["id"]
    for supervision in manifests.supervisions:
        supervision["id"], supervision["recording_id"] = begin + supervision["id"], begin + supervision["recording_id"]


def _in_tables(path: Path, data: DataDir) -> Iterator[tuple[str, str, str]]:
    """Yield table, id and place of what another data directory has, too."""
    for name in ("text", "wav.scp"):
        ours = {id.encode() for id in data.tables[name].rows}
        try:
            with open(path / name, "rb") as file:
                for number, line in enumerate(file, 1):
                    fields = line.removeprefix(b"\xef\xbb\xbf").split(None, 1)
                    if fields and fields[0] in ours:
                        yield name, fields[0].decode(), f"{path / name}:{number}"
        except OSError as error:
            reason = f"{error.strerror}; give data directories of the same corpus (--other_splits)"
            raise DataError(f"{path / name}: {reason}") from error


def _in_manifest(path: Path, data: DataDir) -> Iterator[tuple[str, str, str]]:
    """Yield table, id and place of what the supervisions of another split have, too."""
    utterances, recordings = data.tables["text"].rows, data.tables["wav.scp"].rows
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line)
                utterance, recording = row["id"], row["recording_id"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: no supervision ({error!r}); import that split again") from error
            if utterance in utterances:
                yield "text", utterance, f"{path}:{number}"
            if recording in recordings:
                yield "wav.scp", recording, f"{path}:{number}"
