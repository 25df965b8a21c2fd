"""What a cut says and what a teacher heard in it: the fields of a supervision that labels are made from.

`supervision.text` is the reference and never changed. Beside it, in `supervision.custom`:

    segments  [[start, end, text], ...]   timed parts of the reference, seconds from the cut's beginning
    previous  str                         what was said just before, in the same recording
    parted    true                        the utterance before it in its recording was dropped by `egrecho filter`
    teacher   {text, language, task, segments, previous, avg_logprob, compression_ratio, no_speech, truncated, looped,
               model, revision}           written by `egrecho pseudo-label`; `egrecho filter` adds error_rate and metric

Programs that only add or read fields work on the JSON of a line, so that everything else in it stays as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhotse import SupervisionSegment

from egrecho_inner.errors import DataError
from egrecho_inner.text.labels import Segment
from egrecho_inner.text.languages import Task
from egrecho_inner.text.segments import from_rows


@dataclass(frozen=True)
class Transcript:
    """What labels are made from."""

    text: str
    language: str | None = None
    task: Task | None = None
    """None takes the configuration's."""
    segments: tuple[Segment, ...] = ()
    """Timed parts; empty where no times are known."""
    previous: str = ""
    """What was said before; empty where nothing is known to have been."""
    truncated: bool = False
    """Whether the text breaks off before its end."""


def reference_of(supervision: SupervisionSegment) -> Transcript:
    """Return the reference transcript."""
    custom = supervision.custom or {}
    return Transcript(
        supervision.text or "",
        supervision.language,
        segments=tuple(from_rows(custom.get("segments", ()))),
        previous=custom.get("previous", ""),
    )


def teacher_of(supervision: SupervisionSegment) -> Transcript:
    """Return the teacher's transcript.

    Raises:
        DataError: The cut has none.
    """
    said = (supervision.custom or {}).get("teacher")
    if said is None:
        raise DataError(f"{supervision.id} has no teacher's text; label the cuts first (egrecho pseudo-label)")
    return Transcript(
        said["text"],
        said.get("language") or supervision.language,
        said.get("task"),
        tuple(from_rows(said.get("segments", ()))),
        said.get("previous", ""),
        bool(said.get("truncated")),
    )


def supervision_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the first supervision of a cut's JSON, the one that holds its transcript.

    Args:
        row: A cut, or a mix whose first track holds it.
        where: Names the line in an error.

    Raises:
        DataError: There is none.
    """
    cut = row["tracks"][0]["cut"] if "tracks" in row else row
    if not cut.get("supervisions"):
        raise DataError(f"{where}: cut {row.get('id')} has no supervision; expected one with its transcript")
    return cut["supervisions"][0]


def make_supervision(row: dict[str, Any]) -> dict[str, Any]:
    """Give a cut's JSON a supervision without text if it has none, for audio that nobody transcribed; return it."""
    cut = row["tracks"][0]["cut"] if "tracks" in row else row
    if not cut.get("supervisions"):
        cut["supervisions"] = [
            {
                "id": row["id"],
                "recording_id": recording_of(row),
                "start": 0.0,
                "duration": duration_of(row),
                "channel": 0,
            }
        ]
    return cut["supervisions"][0]


def recording_of(row: Mapping[str, Any]) -> str:
    """Return the recording of a cut's JSON, or the cut's own id where it has none."""
    cut = row["tracks"][0]["cut"] if "tracks" in row else row
    return (cut.get("recording") or {}).get("id", row["id"])


def duration_of(row: Mapping[str, Any]) -> float:
    """Return the seconds of a cut's JSON."""
    if "tracks" in row:
        return max(float(each.get("offset", 0)) + float(each["cut"]["duration"]) for each in row["tracks"])
    return float(row["duration"])
