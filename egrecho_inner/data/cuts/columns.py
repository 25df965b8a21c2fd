"""What an index keeps of a cut, in columns: seconds, lengths of texts, language, and a hash of its id.

In: the lines of a manifest or of a shard. Out: one array for each, 26 bytes a cut; an id that is there twice is an
error, because labels, hypotheses and cached outputs are found by ids.
"""

import hashlib
import textwrap
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from egrecho_inner.data.cuts.fields import code_of, supervision_rows
from egrecho_inner.data.cuts.make import check_line
from egrecho_inner.data.cuts.statistics import duration_of
from egrecho_inner.errors import DataError
from egrecho_inner.text.languages import join_texts

NO_SUPERVISION, NO_TEXT = -1, -2
"""In place of a length: the cut has no supervision; one of its supervisions has no text (null is not silence)."""


class Measured(NamedTuple):
    """What an index keeps of a cut; the names are those of `CutIndex`."""

    durations: float
    text_bytes: int
    teacher_bytes: int
    ids: int
    language: str | None


class Columns:
    """The columns of an index while they grow."""

    def __init__(self) -> None:
        self.durations, self.text_bytes, self.teacher_bytes = (array(kind) for kind in "dii")
        self.ids, self.language = array("Q"), array("h")
        self.places: dict[str | None, int] = {}

    @property
    def languages(self) -> list[str | None]:
        """What `language` counts, in its order."""
        return list(self.places)

    def add(self, cut: Measured) -> None:
        """Add a cut."""
        self.durations.append(cut.durations)
        self.text_bytes.append(cut.text_bytes)
        self.teacher_bytes.append(cut.teacher_bytes)
        self.ids.append(cut.ids)
        self.language.append(self.places.setdefault(cut.language, len(self.places)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the columns by name."""
        names = Measured._fields
        return {name: np.frombuffer(getattr(self, name), getattr(self, name).typecode) for name in names}


def measure(line: bytes, path: Path, number: int, in_shar: bool = False) -> Measured:
    """Return what an index keeps of a cut.

    Args:
        line: Its JSON.
        path: File, for messages.
        number: Line, from 1.
        in_shar: Whether its audio is in a tar beside it.

    Raises:
        DataError: The line is not a cut.
    """
    try:
        check_line(line, f"{path}:{number}", in_shar)
        cut = orjson.loads(line)
        if not cut["type"].endswith("Cut"):
            raise TypeError(f"type {cut['type']}")
        supervisions = [each for _, each in supervision_rows(cut)]
        named = {code_of(each["language"]) for each in supervisions if each.get("language")}
        language = "+".join(sorted(named)) or None  # several are none of Whisper's
        texts = [each.get("text") for each in supervisions]
        size = NO_SUPERVISION if not texts else NO_TEXT if None in texts else byte_length(join_texts(texts, language))
        taught = next((label for each in supervisions if (label := (each.get("custom") or {}).get("teacher"))), None)
        taught_size = NO_TEXT if taught is None else byte_length(taught["text"])
        return Measured(duration_of(cut), size, taught_size, hash_id(cut["id"]), language)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = textwrap.shorten(repr(error), 120)  # that of bytes that are no text holds all of them
        raise DataError(f"{path}:{number}: not a cut ({reason}); expected one Lhotse cut per line") from error


def byte_length(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text.encode())


def hash_id(name: str) -> int:
    """Return 64 bits that stand for an id."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def check_unique(ids: np.ndarray, describe: Callable[[int], tuple[str, str]]) -> None:
    """Refuse two cuts of one id.

    Args:
        ids: Hashes (N,).
        describe: Returns file and line of a position, and its id.

    Raises:
        DataError: There are two; the message has both.
    """
    ordered = np.sort(ids)  # several times faster than the order of the places, which is wanted only for a message
    if not (ordered[1:] == ordered[:-1]).any():
        return
    order = np.argsort(ids, kind="stable")
    equal = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    for second in np.sort(order[equal + 1]).tolist():
        first = int(np.flatnonzero(ids == ids[second])[0])
        (there, one), (here, other) = describe(first), describe(second)
        if one == other:  # and not two ids of one hash
            count = f" (the first of {len(equal):,})" if len(equal) > 1 else ""
            raise DataError(
                f"{here}: id '{one}' is also in {there}{count}; ids must be unique: give each cut once, or import the "
                "corpora with a prefix before their ids (egrecho import-kaldi --ids prefix)"
            )
