"""What is spoken in a cut and what a teacher wrote for it: the fields of supervisions that labels are made from.

`supervision.text` is the reference and never changed: null or missing where nobody transcribed the audio, empty where
nothing is spoken. A cut's supervisions are joined in the order of time, here and nowhere else. Beside the text, in
`supervision.custom`:

    segments  [[start, end, text], ...]   timed parts of the reference, seconds from the supervision's beginning;
                                          the end of one that goes on behind the window is null
    previous  str                         what was spoken just before, in the same recording
    gap_before  true                      the utterance before it in its recording was left out (import, filter)
    teacher   {text, language, task, segments, previous, avg_logprob, compression_ratio, no_speech, truncated, looped,
               model, revision}           written by `egrecho pseudo-label` for the cut, on its first supervision;
                                          `egrecho filter` adds error_rate and metric

Programs that only add or read fields work on the JSON of a line, so that everything else in it stays as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lhotse import SupervisionSegment
from lhotse.cut import Cut

from egrecho_inner.data.batches.options import Source
from egrecho_inner.data.cuts.statistics import duration_of
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.labels import Segment
from egrecho_inner.text.languages import Task, join_texts, known_language, language_code
from egrecho_inner.text.segments import from_rows


@dataclass(frozen=True)
class Transcript:
    """What labels are made from."""

    text: str | None
    """None where the audio is not transcribed, in part or at all; empty where nothing is spoken."""
    language: str | None = None
    """A code; the cut's own name where there is none; None where it names none."""
    task: Task | None = None
    """None takes the configuration's."""
    segments: tuple[Segment, ...] = ()
    """Timed parts; empty where no times are known."""
    previous: str = ""
    """What was spoken before; empty where nothing is known to have been."""
    truncated: bool = False
    """Whether the text breaks off before its end."""


def reference_of(cut: Cut) -> Transcript:
    """Return the reference transcript of a cut, its supervisions joined in the order of time.

    Raises:
        DataError: They are in several languages.
    """
    return join_supervisions(cut.supervisions, cut.duration)


def teacher_of(cut: Cut) -> Transcript:
    """Return the teacher's transcript of a cut.

    Raises:
        DataError: The cut has none, or several.
    """
    labelled = [each for each in cut.supervisions if (each.custom or {}).get("teacher")]
    if not labelled:
        raise DataError(f"cut {cut.id} has no teacher's text; label the cuts first (egrecho pseudo-label)")
    if len(labelled) > 1:
        raise DataError(f"cut {cut.id} has {len(labelled)} teacher's texts; label joined cuts after joining them")
    label = labelled[0].custom["teacher"]
    return Transcript(
        label["text"],
        code_of(label.get("language")) or one_language(cut.supervisions),
        label.get("task"),
        tuple(from_rows(label.get("segments", ()))),
        label.get("previous", ""),
        bool(label.get("truncated")),
    )


def transcript_of(cut: Cut, source: Source) -> Transcript:
    """Return the transcript that a cut is learned from."""
    return teacher_of(cut) if source == "teacher" else reference_of(cut)


def read_reference(row: Mapping[str, Any]) -> Transcript:
    """Return the same as `reference_of` from a cut's JSON."""
    names = ("id", "recording_id", "duration", "text", "language", "custom")  # from_dict() would change the row
    parts = [
        SupervisionSegment(start=offset + each["start"], **{name: each.get(name) for name in names})
        for offset, each in supervision_rows(row)
    ]
    return join_supervisions(parts, duration_of(row))


def join_supervisions(supervisions: Sequence[SupervisionSegment], seconds: float) -> Transcript:
    """Join the supervisions of a cut in the order of time.

    Args:
        supervisions: With times from the cut's beginning.
        seconds: Length of the cut; what lies outside is not timed.

    Raises:
        DataError: They are in several languages.
    """
    parts = sorted(supervisions, key=lambda each: each.start)
    language = one_language(parts)
    if not parts or any(part.text is None for part in parts):
        return Transcript(None, language)
    return Transcript(
        join_texts([part.text for part in parts], language),
        language,
        segments=time_parts(parts, seconds),
        previous=(parts[0].custom or {}).get("previous", ""),
    )


def time_parts(parts: Sequence[SupervisionSegment], seconds: float) -> tuple[Segment, ...]:
    """Return the timed parts of supervisions: their own `segments`, else each supervision as one part.

    Times never go back, as Whisper's never do: where two supervisions overlap, the second begins where the first ends.
    """
    found: list[Segment] = []
    for part in parts:
        own = (part.custom or {}).get("segments") or [[0.0, part.duration, part.text]]
        for begin, end, text in own:
            if text.strip():
                before = found[-1] if found else Segment(0.0, 0.0, "")
                begin = min(max(part.start + begin, before.start if before.end is None else before.end), seconds)
                end = None if end is None else min(max(part.start + end, begin), seconds)
                found.append(Segment(begin, end, text))
    return tuple(found)


def one_language(supervisions: Sequence[SupervisionSegment]) -> str | None:
    """Return the language that supervisions name, as a code.

    Raises:
        DataError: There are several, and the decoder is given one.
    """
    named = {code_of(each.language) for each in supervisions if each.language}
    if len(named) > 1:
        raise DataError(f"supervisions in several languages ({', '.join(sorted(named))}); cut them apart")
    return named.pop() if named else None


def code_of(language: str | None) -> str | None:
    """Return the code of a language that data name; the name itself where there is none."""
    return language and (known_language(language) or language)


def supervision_rows(row: Mapping[str, Any]) -> list[tuple[float, dict[str, Any]]]:
    """Return the supervisions of a cut's JSON in the order of time, with the offset of the track they are in."""
    tracks = row.get("tracks", [{"cut": row}])
    found = [
        (float(track.get("offset", 0)), each) for track in tracks for each in track["cut"].get("supervisions") or ()
    ]
    return sorted(found, key=lambda pair: pair[0] + pair[1]["start"])


def supervision_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the supervision of a cut's JSON that holds the teacher's text, or else the first.

    Args:
        row: A cut.
        where: Names the line in an error.

    Raises:
        DataError: There is none.
    """
    rows = [each for _, each in supervision_rows(row)]
    if not rows:
        raise DataError(f"{where}: cut {row.get('id')} has no supervision; expected one with its transcript")
    return next((each for each in rows if (each.get("custom") or {}).get("teacher")), rows[0])


def make_supervision(row: dict[str, Any]) -> dict[str, Any]:
    """Give a cut's JSON a supervision without text if it has none, for audio that nobody transcribed; return it.

    Where there are some, it is the one that holds the teacher's text, or else the first.
    """
    cut = row["tracks"][0]["cut"] if "tracks" in row else row
    if not supervision_rows(row):
        cut["supervisions"] = [
            {
                "id": row["id"],
                "recording_id": recording_of(row),
                "start": 0.0,
                "duration": duration_of(row),
                "channel": 0,
            }
        ]
    return supervision_row(row, str(row["id"]))


def recording_of(row: Mapping[str, Any]) -> str:
    """Return the recording of a cut's JSON, or the cut's own id where it has none."""
    cut = row["tracks"][0]["cut"] if "tracks" in row else row
    return (cut.get("recording") or {}).get("id", row["id"])


def cut_language(cut: Cut) -> str | None:
    """Return the language code that a cut's supervisions name.

    Raises:
        DataError: It is no language, or there are several.
    """
    try:
        named = one_language(cut.supervisions)
        return language_code(named) if named else None
    except (ConfigError, DataError) as error:
        raise DataError(f"cut {cut.id}: {error}") from error
