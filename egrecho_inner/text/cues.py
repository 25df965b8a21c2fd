"""Cues of subtitles: put in order, made disjoint, cleaned of what nobody speaks; each repair counted.

In: the cues that `text/subtitles.py` reads. Out: cues and counts. Times are seconds from the start of the recording.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

CLEANING = "web-2"
"""Name and version of what `clean` does, stored beside every text that went through it."""

SHORTEST = 0.015
"""Seconds; shorter cues are display artefacts (OLMoASR drops the same)."""


@dataclass(frozen=True)
class Cue:
    """One caption: what is shown from `start` to `end`, in seconds; both are None in text without times."""

    start: float | None
    end: float | None
    text: str

    @property
    def seconds(self) -> float:
        """Length; 0 for text without times."""
        return 0.0 if self.start is None or self.end is None else self.end - self.start


MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
"""Tags such as <i>, <c.color>, <v Name>, times inside a cue <00:01.000>, and SubStation's {\\an8}."""


def plain(text: str) -> str:
    """Remove markup and resolve entities of one line; an entity may be escaped twice (&amp;nbsp;)."""
    return html.unescape(html.unescape(MARKUP.sub("", text))).replace("\xa0", " ")


def repair(cues: Iterable[Cue]) -> tuple[list[Cue], Counter[str]]:
    """Put cues in order and make them disjoint; return them and how often each repair was made.

    Cues of no length or no text are dropped; out-of-order cues are sorted; of repeated cues one stays; roll-up
    captions, where each cue repeats the line before it, become one cue a line; a cue ends where the next begins.
    """
    counts: Counter[str] = Counter()
    timed = [cue for cue in cues if cue.start is not None and cue.end is not None]
    kept = []
    for cue in timed:
        if cue.seconds < 0:
            counts["cue that ends before it starts"] += 1
        elif cue.seconds < SHORTEST:
            counts["cue of no length"] += 1
        elif not cue.text.strip():
            counts["cue without text"] += 1
        else:
            kept.append(cue)
    ordered = sorted(kept, key=lambda cue: (cue.start, cue.end))
    if disorder := sum(a.start > b.start for a, b in pairwise(kept)):
        counts["cue out of order"] += disorder
    single = unroll(drop_repeated(ordered, counts), counts)
    return cut_overlaps(single, counts), counts


def drop_repeated(cues: list[Cue], counts: Counter[str]) -> list[Cue]:
    """Keep one of cues that have the same text and times that touch, as long as both together."""
    kept: list[Cue] = []
    for cue in cues:
        last = kept[-1] if kept else None
        if last and last.text == cue.text and cue.start < last.end:
            kept[-1] = replace(last, end=max(last.end, cue.end))
            counts["repeated cue"] += 1
        else:
            kept.append(cue)
    return kept


def unroll(cues: list[Cue], counts: Counter[str]) -> list[Cue]:
    """Undo roll-up captions: remove from each cue the lines that the cue before it has shown already.

    Live captions scroll: "a", "a / b", "b / c". Lines of one word, and lines behind a pause that new ones follow, count
    only where others of the document scroll, and any other only when the cues touch, so that a repeated refrain stays.
    """
    kept: list[Cue] = []
    shown: list[str] = []
    until = 0.0
    scrolls = any(scrolled(one, other, False) for one, other in pairwise(cues))
    for cue in cues:
        lines = [line.strip() for line in cue.text.split("\n") if line.strip()]
        size = scrolled(Cue(0.0, until, "\n".join(shown)), cue, scrolls)
        fresh = lines[size:]
        counts.update({"roll-up line": size} if size else {})
        shown, until = lines, cue.end
        if fresh:
            kept.append(replace(cue, text="\n".join(fresh)))
        elif kept:
            kept[-1] = replace(kept[-1], end=max(kept[-1].end, cue.end))
    return kept


TOUCHING, PAUSE = 0.5, 5.0
"""Seconds between cues that touch, and of a pause that a scrolled line may outlast."""


def scrolled(before: Cue, cue: Cue, scrolls: bool) -> int:
    """Return how many lines at the beginning of a cue are those at the end of the one before it.

    Args:
        before: A cue.
        cue: The next one.
        scrolls: Whether lines scroll elsewhere in the document.
    """
    shown, lines = ([line.strip() for line in each.text.split("\n") if line.strip()] for each in (before, cue))
    size = next((n for n in range(min(len(lines), len(shown)), 0, -1) if shown[-n:] == lines[:n]), 0)
    if cue.start - before.end >= (PAUSE if scrolls and size < len(lines) else TOUCHING):
        return 0
    return size if scrolls or any(" " in line for line in lines[:size]) else 0


def cut_overlaps(cues: list[Cue], counts: Counter[str]) -> list[Cue]:
    """End each cue where the next begins; of two that begin together the texts are joined."""
    kept: list[Cue] = []
    for cue in cues:
        last = kept[-1] if kept else None
        if last is not None and cue.start < last.end:
            counts["overlapping cue"] += 1
            if cue.start - last.start < SHORTEST:
                kept[-1] = Cue(last.start, max(last.end, cue.end), f"{last.text}\n{cue.text}")
                continue
            kept[-1] = replace(last, end=cue.start)
        kept.append(cue)
    return kept


NOISE = re.compile(r"[\[［【][^\]］】]{0,200}[\]］】]|\([^()]*\)|（[^（）]*）|\*\w[^*\n]{0,40}\w\*")
"""Sounds in brackets, also over two lines; bounded, as a file may be nothing but opening brackets."""
MUSIC = re.compile(r"[♩♪♫♬♭♮♯🎵🎶]+|(?<!\S)#+(?!\S)")
SPEAKER = re.compile(
    r"^\s*(?:>>+\s*|[-–—]\s+)*"  # >> or a dash: another speaker
    r"(?:[A-Z][\w.'’]*(?:\s+[A-Z\d][\w.'’]*){0,3}\s*:\s+)?"  # JOHN:  Mr. Smith:  Speaker 2:
    r"(?:>>+\s*)?"
)


def clean(text: str) -> tuple[str, Counter[str]]:
    """Remove from a cue what nobody speaks: sounds in brackets, notes, speaker names; return it and what was removed.

    The rules are versioned by CLEANING. A line between notes is sung; its words stay, as they are in the audio. What
    has neither letter nor digit is nothing.
    """
    counts: Counter[str] = Counter()
    without, counts["sound in brackets"] = NOISE.subn(" ", visible(plain(text)))
    without, counts["musical note"] = MUSIC.subn(" ", without)
    lines = []
    for line in without.split("\n"):
        label = SPEAKER.match(line)
        if label and label.end() and label[0].strip():
            counts["speaker label"] += 1
            line = line[label.end() :]
        lines.append(line)
    left = " ".join(" ".join(lines).split())
    if left and not any(map(str.isalnum, left)):
        counts["punctuation alone"] += 1
        left = ""
    return left, +counts


def visible(text: str) -> str:
    """Remove what no reader sees: control characters, marks of direction, soft hyphens; joiners of letters stay."""
    if text.isascii() and text.isprintable():
        return text
    kept = (each if each in JOINED or unicodedata.category(each) not in ("Cc", "Cf") else "" for each in text)
    return "".join(kept)


JOINED = "\n\t\u200c\u200d"
"""Line breaks, tabulators, and the joiners of Persian and Indic letters."""
