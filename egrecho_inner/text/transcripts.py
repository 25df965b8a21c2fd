"""A timed transcript as files: plain text, SubRip, WebVTT, tab-separated values, and the JSON of openai-whisper.

In: passages in the order of time, with the times of their words where they are known. Out: the content of a file.
Subtitles are cut to what fits a screen and can be read: two lines of 42 characters, 7 s, new ones after a pause.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from egrecho_inner.text.cues import Cue
from egrecho_inner.text.languages import NO_SPACE_LANGUAGES, join_texts

Format = Literal["txt", "srt", "vtt", "tsv", "json"]
LINE, LINES = 42, 2
"""Characters of a line and lines of a subtitle, as broadcasters have them."""
LONGEST_CUE, PAUSE = 7.0, 0.8
"""Seconds a subtitle stays at most; a pause after which a new one begins."""
SENTENCE_ENDS = tuple(".?!。？！…")


@dataclass(frozen=True)
class Word:
    """A word with its time."""

    text: str
    """With the space before it, where its language has one."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    tokens: int
    """It is made of."""


@dataclass(frozen=True)
class Passage:
    """A timed piece of a transcript and how it was recognised."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    tokens: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()
    """Empty where nobody asked for their times."""
    seek: int = 0
    """Frame at which its window begins."""
    avg_logprob: float = 0.0
    no_speech: float = 0.0
    compression_ratio: float = 0.0
    temperature: float = 0.0


@dataclass(frozen=True)
class TimedTranscript:
    """What was recognised in a recording."""

    passages: list[Passage]
    language: str | None
    duration: float
    """Seconds of audio."""

    @property
    def text(self) -> str:
        """All of it."""
        return join_texts([passage.text for passage in self.passages], self.language)


def to_txt(transcript: TimedTranscript) -> str:
    """Write a passage a line."""
    return "".join(f"{passage.text}\n" for passage in transcript.passages)


def to_srt(transcript: TimedTranscript) -> str:
    """Write SubRip."""
    cues = enumerate(cues_of(transcript), 1)
    return "\n".join(f"{n}\n{stamp(c.start, ',')} --> {stamp(c.end, ',')}\n{c.text}\n" for n, c in cues)


def to_vtt(transcript: TimedTranscript) -> str:
    """Write WebVTT."""
    blocks = [f"{stamp(cue.start)} --> {stamp(cue.end)}\n{cue.text}\n" for cue in cues_of(transcript, escape)]
    return "\n".join(["WEBVTT\n", *blocks])


def to_tsv(transcript: TimedTranscript) -> str:
    """Write start and end in milliseconds and the text, as openai-whisper does."""
    rows = [f"{1000 * p.start:.0f}\t{1000 * p.end:.0f}\t{' '.join(p.text.split())}" for p in transcript.passages]
    return "\n".join(["start\tend\ttext", *rows]) + "\n"


def to_json(transcript: TimedTranscript) -> str:
    """Write the JSON of openai-whisper, and the duration."""
    segments: list[dict[str, Any]] = []
    for number, passage in enumerate(transcript.passages):
        segments.append(
            {
                "id": number,
                "seek": passage.seek,
                "start": passage.start,
                "end": passage.end,
                "text": passage.text,
                "tokens": list(passage.tokens),
                "temperature": passage.temperature,
                "avg_logprob": passage.avg_logprob,
                "compression_ratio": passage.compression_ratio,
                "no_speech_prob": passage.no_speech,
            }
        )
        if passage.words:
            words = [{"word": word.text, "start": word.start, "end": word.end} for word in passage.words]
            segments[-1]["words"] = words
    found = {"text": transcript.text, "language": transcript.language, "duration": transcript.duration}
    return json.dumps({**found, "segments": segments}, ensure_ascii=False, indent=1) + "\n"


WRITERS: dict[str, Callable[[TimedTranscript], str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
}


def cues_of(transcript: TimedTranscript, form: Callable[[str], str] = str) -> Iterator[Cue]:
    """Yield the subtitles of a transcript.

    Args:
        transcript: With the times of words where subtitles are to be shorter than passages.
        form: What to do to the text, such as escaping it.
    """
    spaced = transcript.language not in NO_SPACE_LANGUAGES
    for passage in transcript.passages:
        if not passage.words:
            yield Cue(passage.start, max(passage.end, passage.start), form(wrap(passage.text, spaced)))
            continue
        for words in screens(passage.words):
            text = "".join(word.text for word in words).strip()
            if text:
                yield Cue(words[0].start, max(words[-1].end, words[0].start), form(wrap(text, spaced)))


def screens(words: Sequence[Word]) -> Iterator[list[Word]]:
    """Divide words into what is shown at a time."""
    shown: list[Word] = []
    for word in words:
        length = sum(len(each.text) for each in shown)
        if shown and (
            length + len(word.text) > LINE * LINES
            or word.end - shown[0].start > LONGEST_CUE
            or word.start - shown[-1].end > PAUSE
            or (length > LINE and shown[-1].text.rstrip().endswith(SENTENCE_ENDS))
        ):
            yield shown
            shown = []
        shown.append(word)
    if shown:
        yield shown


def wrap(text: str, spaced: bool) -> str:
    """Break a subtitle of more than a line near its middle."""
    if len(text) <= LINE:
        return text
    places = [at for at, letter in enumerate(text) if letter == " "] if spaced else list(range(1, len(text)))
    if not places:
        return text
    at = min(places, key=lambda place: abs(place - len(text) / 2))
    return f"{text[:at].rstrip()}\n{text[at:].lstrip()}"


def stamp(seconds: float | None, mark: str = ".") -> str:
    """Return hours, minutes, seconds and milliseconds."""
    whole = round(1000 * (seconds or 0.0))
    hours, rest = divmod(whole, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def escape(text: str) -> str:
    """Write what WebVTT takes for markup as text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shifted(word: Word, seconds: float) -> Word:
    """Move a word in time."""
    return replace(word, start=round(word.start + seconds, 2), end=round(word.end + seconds, 2))
