"""Neighbouring utterances joined to windows near 30 s, with the time of each kept: `egrecho pack`.

In: cuts of one utterance, in the order of their recordings. Out: cuts of one supervision each, whose text is the whole
window's and whose `custom` has the timed parts (`segments`) and the text before (`previous`), for the reference
and for the teacher's text where there is one. Inside a recording a window covers the audio as it is, silence included,
so only true neighbours are joined: nothing that was left out between them (by the numbers in their ids, and by the mark
`custom.gap_before` of imports and filters), no gap above a limit, no overlap, one speaker and one language. Utterances
of one speaker from different files can be joined with silence between them.
Left out: splitting utterances; recordings whose cuts are scattered over the manifest.

A window is closed when the next utterance does not fit: utterances keep their order, each is in exactly one window.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from lhotse import MonoCut, SupervisionSegment
from lhotse.cut import Cut, MixedCut, MixTrack

from egrecho_inner.data.batches.options import PackOptions
from egrecho_inner.data.cuts.fields import code_of
from egrecho_inner.errors import DataError
from egrecho_inner.text.languages import join_texts

OPEN_WINDOWS = 64
"""Recordings whose windows are open at the same time: perturbed copies stand between each other's utterances."""
TOLERANCE = 1e-3  # seconds; times are rounded in manifests


def pack(cuts: Iterable[Cut], options: PackOptions) -> Iterator[Cut]:
    """Join neighbouring utterances.

    Raises:
        DataError: A cut has more or less than one supervision, or only some have a teacher's text.
    """
    opened: dict[str, list[Cut]] = {}  # by recording, in the order they were begun
    before: dict[str, Cut] = {}
    for cut in cuts:
        if len(cut.supervisions) != 1:
            raise DataError(f"cut {cut.id} has {len(cut.supervisions)} supervisions; packing wants one utterance a cut")
        name = stream_of(cut, options)
        window = opened.get(name)
        if window and joins(window, cut, options):
            window.append(cut)
            continue
        if window:
            yield finish(opened.pop(name), before, name, options)
        elif len(opened) >= OPEN_WINDOWS:
            oldest = next(iter(opened))
            yield finish(opened.pop(oldest), before, oldest, options)
            before.pop(oldest, None)
        opened[name] = [cut]
    for name, window in opened.items():
        yield finish(window, before, name, options)


def stream_of(cut: Cut, options: PackOptions) -> str:
    """Name what a cut's neighbours share: its recording, or its speaker."""
    speaker = cut.supervisions[0].speaker
    if options.by == "speaker" and speaker:
        return f"speaker {speaker}"
    return f"recording {recording_id(cut)}"


def recording_id(cut: Cut) -> str:
    """Return the recording a cut is of."""
    return cut.recording.id if isinstance(cut, MonoCut) and cut.has_recording else cut.id


def joins(window: list[Cut], cut: Cut, options: PackOptions) -> bool:
    """Tell whether an utterance may come behind a window's last."""
    last = window[-1]
    one, other = last.supervisions[0], cut.supervisions[0]
    if code_of(one.language) != code_of(other.language) or not same_speaker(last, cut, options):
        return False
    if breaks_off(one) or has_gap_before(other):
        return False
    if same_audio(last, cut):
        gap = cut.start - last.end
        if not neighbours(last, cut) or not -TOLERANCE <= gap <= options.max_gap:
            return False
    elif options.by == "speaker" and isinstance(cut, MonoCut) and isinstance(last, MonoCut):
        gap = options.silence
    else:
        return False
    return layout(window, options)[-1] + last.duration + gap + cut.duration <= options.max_duration + TOLERANCE


def has_gap_before(spoken: SupervisionSegment) -> bool:
    """Tell whether the utterance before one was left out: its words would be in the window, and in no text."""
    custom = spoken.custom or {}
    return bool(custom.get("gap_before") or custom.get("parted"))  # its name in older manifests


def breaks_off(spoken: SupervisionSegment) -> bool:
    """Return whether the teacher's text ends before the speech does: then nothing may follow it."""
    return bool(((spoken.custom or {}).get("teacher") or {}).get("truncated"))


def same_speaker(one: Cut, other: Cut, options: PackOptions) -> bool:
    """Tell whether two utterances may be taken as one speaker's; unknown speakers of one recording may."""
    return options.across_speakers or one.supervisions[0].speaker == other.supervisions[0].speaker


def same_audio(one: Cut, other: Cut) -> bool:
    """Tell whether two cuts are pieces of the same audio, done to in the same way."""
    return (
        isinstance(one, MonoCut)
        and isinstance(other, MonoCut)
        and one.has_recording
        and other.has_recording
        and one.recording.id == other.recording.id
        and one.channel == other.channel
    )


def neighbours(one: Cut, other: Cut) -> bool:
    """Tell by their numbers (`RECORDING-3`, `RECORDING-4`) whether an utterance between two was left out."""
    parts = [re.fullmatch(r"(.*-)(\d+)(\D.*)?", cut.id) for cut in (one, other)]
    if None in parts or parts[0].group(1, 3) != parts[1].group(1, 3):
        return True  # named otherwise: only the gap can show it
    return int(parts[1].group(2)) == int(parts[0].group(2)) + 1


def layout(window: list[Cut], options: PackOptions) -> list[float]:
    """Return where each utterance begins, in seconds from the window's beginning."""
    starts = [0.0]
    for one, other in pairwise(window):
        gap = other.start - one.end if same_audio(one, other) else options.silence
        starts.append(starts[-1] + one.duration + gap)
    return starts


def finish(window: list[Cut], before: dict[str, Cut], name: str, options: PackOptions) -> Cut:
    """Make the cut of a window, and remember it for the next one's previous text."""
    starts = layout(window, options)
    previous = before.get(name)
    if previous is not None and not follows(previous, window[0], options):
        previous = None
    packed = cover(window, starts, join_supervisions(window, starts, previous))
    before[name] = packed
    return packed


def follows(previous: Cut, cut: Cut, options: PackOptions) -> bool:
    """Return whether one cut's words are those before another's."""
    one, other = previous.supervisions[0], cut.supervisions[0]
    if code_of(one.language) != code_of(other.language) or not same_speaker(previous, cut, options):
        return False
    if same_audio(previous, cut):
        return -TOLERANCE <= cut.start - previous.end <= options.previous_gap
    return options.by == "speaker"


def cover(window: list[Cut], starts: list[float], supervision: SupervisionSegment) -> Cut:
    """Make the cut over all utterances of a window: a piece of the recording, or a mix with silence between."""
    first = window[0]
    if len(window) == 1:
        if isinstance(first, MonoCut):
            return replace(first, supervisions=[supervision])
        track = first.tracks[0]
        mono = replace(track.cut, supervisions=[supervision])
        return replace(first, tracks=[replace(track, cut=mono), *first.tracks[1:]])
    if all(same_audio(one, other) for one, other in pairwise(window)):  # first and last may have others between them
        # stored features cover single utterances: the window's are computed from its wave
        return replace(
            first,
            id=supervision.id,
            duration=supervision.duration,
            supervisions=[supervision],
            features=None,
        )
    tracks = [
        MixTrack(replace(cut, features=None, supervisions=[supervision] if cut is first else []), offset=start)
        for cut, start in zip(window, starts, strict=True)
    ]
    return MixedCut(supervision.id, tracks)


def join_supervisions(window: list[Cut], starts: list[float], previous: Cut | None) -> SupervisionSegment:
    """Make the supervision of a window: whole text, timed parts, the text before, and the same of the teacher."""
    parts = [cut.supervisions[0] for cut in window]
    first, language = parts[0], code_of(parts[0].language)
    name = window[0].id if len(window) == 1 else f"{window[0].id}+{len(window) - 1}"
    custom = dict(first.custom or {}) if len(window) == 1 else {}
    said_before = previous.supervisions[0] if previous is not None else None
    if all(part.text is not None for part in parts):
        custom["segments"] = timed(window, starts, [part.text for part in parts], [part.custom for part in parts])
        if said_before is not None and said_before.text:
            custom["previous"] = said_before.text
    teachers = [(part.custom or {}).get("teacher") for part in parts]
    if all(teacher is not None for teacher in teachers):
        custom["teacher"] = join_teachers(window, starts, teachers, said_before, language)
    elif any(teacher is not None for teacher in teachers):
        raise DataError(f"cut {name}: only some of its utterances have a teacher's text; label them all, or none")
    speakers = {part.speaker for part in parts}
    return replace(
        first,
        id=first.id if len(window) == 1 else name,
        start=0.0,
        duration=round(starts[-1] + window[-1].duration, 8),
        text=None if any(part.text is None for part in parts) else join_texts([part.text for part in parts], language),
        language=language,
        speaker=speakers.pop() if len(speakers) == 1 else None,
        custom=custom or None,
    )


def join_teachers(
    window: list[Cut],
    starts: list[float],
    teachers: list[dict[str, Any]],
    said_before: SupervisionSegment | None,
    language: str | None,
) -> dict[str, Any]:
    """Join the teacher's texts of a window; its scores are those of the worst utterance.

    Raises:
        DataError: They are of different teachers.
    """
    if len({(each.get("revision"), each.get("task")) for each in teachers}) > 1:
        raise DataError(f"cut {window[0].id}: its neighbours' texts are of different teachers; label all with one")
    joined = dict(teachers[0])
    joined["text"] = join_texts([each["text"] for each in teachers], language)
    joined["segments"] = timed(window, starts, [each["text"] for each in teachers], teachers)
    for name, worst in (("avg_logprob", min), ("compression_ratio", max), ("no_speech", max), ("error_rate", max)):
        if all(name in each for each in teachers):
            joined[name] = worst(each[name] for each in teachers)
    for name in ("truncated", "looped"):
        joined[name] = any(each.get(name, False) for each in teachers)
    previous = ((said_before.custom or {}).get("teacher") or {}) if said_before is not None else {}
    if previous.get("text") and not previous.get("truncated"):
        joined["previous"] = previous["text"]
    return joined


def timed(
    window: list[Cut], starts: list[float], texts: list[str], customs: list[dict[str, Any] | None]
) -> list[list[float | str | None]]:
    """Return the timed parts of a window: those an utterance has already, else the utterance itself."""
    rows: list[list[float | str | None]] = []
    for cut, start, text, custom in zip(window, starts, texts, customs, strict=True):
        own = (custom or {}).get("segments") or [[0.0, cut.duration, text]]
        rows += [
            [round(start + begin, 2), None if end is None else round(start + end, 2), part]
            for begin, end, part in own
            if part.strip()
        ]
    return rows
