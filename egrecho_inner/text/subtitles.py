"""Subtitle files read as cues: the content of a file in, a list of (start, end, text) out.

    WebVTT, SubRip (.srt), TTML (.ttml, .dfxp), SubStation (.ass, .ssa; parsed by pysubs2), YouTube's json3,
    Whisper's JSON, plain text (cues without times)

Pure functions; `text/cues.py` repairs what is wrong with the cues, `data/sources/web.py` has the files and the audio.
"""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from itertools import pairwise

from egrecho_inner.errors import DataError, extra_missing
from egrecho_inner.text.cues import Cue, plain


def parse(content: str, kind: str) -> list[Cue]:
    """Read a subtitle file.

    Args:
        content: Of the file.
        kind: What `kind_of` returned.

    Raises:
        DataError: The content is not of that kind, with the line or the reason.
    """
    try:
        cues = PARSERS[kind](content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # a file of the web may hold anything where a number, a text or a list is expected
        raise DataError(f"the {kind} file does not read: {type(error).__name__}: {str(error)[:100]}") from error
    if odd := next((cue for cue in cues if not all(math.isfinite(each or 0) for each in (cue.start, cue.end))), None):
        raise DataError(f"a cue from {odd.start} to {odd.end} s; expected numbers")
    return cues


def kind_of(name: str, content: str) -> str:
    """Return the kind of a subtitle file: by its content where that is clear, else by the ending of its name.

    Raises:
        DataError: Neither shows it.
    """
    head = content.removeprefix("\ufeff").lstrip()[:4096]
    if head.startswith("WEBVTT"):
        return "vtt"
    if head.startswith("[Script Info]") or "\n[V4+ Styles]" in head:
        return "ass"
    if head.startswith("<") and re.search(r"<(\w+:)?tt[\s>]", head):
        return "ttml"
    if head.startswith("{") and '"events"' in content:
        return "json3"
    if head.startswith("{") and '"segments"' in content:
        return "whisper"
    if re.match(r"<(!doctype\s+)?html", head, re.IGNORECASE):
        raise DataError(f"{name}: a web page, no subtitles")
    if re.search(r"^\s*\d+:\d\d:\d\d[,.]\d+\s*-->", head, re.MULTILINE):
        return "srt"
    ending = name.rsplit(".", 1)[-1].lower()
    if ending not in ENDINGS:
        raise DataError(f"{name}: an unknown subtitle format; known are {', '.join(PARSERS)}")
    return ENDINGS[ending]


ENDINGS = {"vtt": "vtt", "srt": "srt", "ttml": "ttml", "dfxp": "ttml", "ass": "ass", "ssa": "ass", "txt": "txt"}
TIME, POINTS = r"((?:\d+:)?\d+:\d+(?:[.,]\d+)?)", r"(?:[-–—]+>|→)"
ARROW = re.compile(rf"^\s*{TIME}\s*{POINTS}\s*{TIME}(?:\s.*)?$")
LIKE_ARROW = re.compile(rf"^\s*-?\d+\s*:(?:[\d:.,\s]*|[\w:.,]*\s*){POINTS}")
"""A line that is to be one, as it begins with a time; other arrows are text."""


def parse_timed_blocks(content: str) -> list[Cue]:
    """Read WebVTT or SubRip: a line with an arrow, then text up to an empty line or the next arrow.

    The two differ in the decimal mark, the hours and the header only. Lines before the first arrow, NOTE, STYLE and
    REGION blocks and cue numbers are not text. A blank line inside a cue, which some tools write, does not end it.
    """
    lines = content.split("\n")
    arrows = [number for number, line in enumerate(lines) if LIKE_ARROW.match(line)]
    if not arrows and content.strip() and not content.lstrip().startswith("WEBVTT"):
        raise DataError("no line is 'START --> END'")
    cues = []
    for number, following in pairwise([*arrows, len(lines)]):
        found = ARROW.match(lines[number])
        if not found and not "".join(lines[number + 1 :]).strip():
            break  # the file breaks off in this line
        if not found:
            raise DataError(f"line {number + 1}: '{lines[number].strip()[:60]}' is not 'START --> END'")
        body = without_next(lines[number + 1 : following], lines[number - 1] if number else "", following < len(lines))
        text = [line for block in blocks_of(body) for line in block]
        cues.append(Cue(seconds(found[1]), seconds(found[2]), "\n".join(plain(line) for line in text).strip()))
    return cues


def without_next(body: list[str], own: str, more: bool) -> list[str]:
    """Return the lines below an arrow without those of the next cue: its name or number, and the start of its time.

    Args:
        body: Up to the next arrow, or the end of the file.
        own: The line above the arrow.
        more: Whether another arrow follows; a file may also break off in the lines of a cue.
    """
    if more and len(body) > 1 and not body[-2].strip():
        return body[:-1]
    number = str(int(own) + 1) if re.fullmatch(r"\s*\d{1,9}\s*", own) else None
    if more:  # a number without the empty line before it
        return body[:-1] if body and body[-1].strip() == number else body
    kept = [line.strip() for line in body]
    while kept and not kept[-1]:
        kept.pop()
    torn = 2 if len(kept) > 1 and re.fullmatch(r"[\d:.,\s-]+", kept[-1]) and kept[-2] == number else 1
    is_next = len(kept) > torn and kept[-torn] == number and not kept[-torn - 1]
    return kept[:-torn] if is_next else body


def blocks_of(lines: list[str]) -> list[list[str]]:
    """Split lines at empty ones and leave out comments and style sheets."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [b for b in blocks if b and not re.match(r"(NOTE|STYLE|REGION)(\s|$)", b[0])]


def seconds(stamp: str) -> float:
    """Return a time such as 1:02:03,450 or 02:03.5 in seconds; the fraction is decimal, whatever its digits."""
    *larger, last = stamp.replace(",", ".").split(":")
    whole = 0
    for part in larger:
        whole = 60 * (whole + int(part))
    return round(whole + float(last), 3)


def parse_ttml(content: str) -> list[Cue]:
    """Read TTML: the `p` elements of an XML document, their begin and end or dur, in clock time, frames or ticks."""
    if "<!DOCTYPE" in content or "<!ENTITY" in content:
        raise DataError("the XML has a DOCTYPE, which subtitles do not need and which is not read")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"the XML does not read: {error}") from error
    rates = {name.rsplit("}", 1)[-1]: value for name, value in root.attrib.items()}
    up, down = (rates.get("frameRateMultiplier") or "1 1").split()
    frames = float(rates.get("frameRate", 30)) * float(up) / float(down)
    ticks = float(rates.get("tickRate", 1))
    cues = []
    for element, offset in timed_elements(root, frames, ticks):
        start = ttml_seconds(element.attrib["begin"], frames, ticks)
        if "end" in element.attrib:
            end = ttml_seconds(element.attrib["end"], frames, ticks)
        elif "dur" in element.attrib:
            end = start + ttml_seconds(element.attrib["dur"], frames, ticks)
        else:
            raise DataError(f"the element at {element.attrib['begin']} has neither end nor dur")
        text = plain(element_text(element)).strip()
        cues.append(Cue(round(offset + start, 3), round(offset + end, 3), text))
    return cues


def timed_elements(
    root: ElementTree.Element, frames: float, ticks: float
) -> Iterator[tuple[ElementTree.Element, float]]:
    """Yield the elements that are cues, in order, each with the seconds that its times count from.

    A cue is a `p` with a beginning, or a `span` with one in a `p` without; times count from that of what is around it.
    """
    stack = [(root, 0.0)]
    while stack:
        element, offset = stack.pop()
        if "begin" in element.attrib:
            if element.tag.rsplit("}", 1)[-1] in ("p", "span"):
                yield element, offset
                continue
            offset += ttml_seconds(element.attrib["begin"], frames, ticks)
        stack += [(child, offset) for child in reversed(element)]


def ttml_seconds(value: str, frames: float, ticks: float) -> float:
    """Return a TTML time expression in seconds (W3C TTML2, 12.3): clock time with fraction or frames, or an offset."""
    if ":" in value:
        parts = value.split(":")
        if len(parts) == 4:  # hours:minutes:seconds:frames
            return round(seconds(":".join(parts[:3])) + float(parts[3]) / frames, 3)
        return seconds(value)
    found = re.fullmatch(r"([\d.]+)(h|ms|m|s|f|t)", value)
    if not found:
        raise DataError(f"'{value}' is not a TTML time")
    unit = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "f": 1 / frames, "t": 1 / ticks}[found[2]]
    return round(float(found[1]) * unit, 3)


def element_text(element: ElementTree.Element) -> str:
    """Return the text inside an element; `br` is a line break."""
    parts = [element.text or ""]
    for child in element:
        parts += ["\n" if child.tag.rsplit("}", 1)[-1] == "br" else element_text(child), child.tail or ""]
    return "".join(parts)


def parse_ass(content: str) -> list[Cue]:
    """Read SubStation Alpha by pysubs2; comments and drawings are not text."""
    try:
        import pysubs2  # in the extra `web`
    except ImportError as error:
        raise extra_missing("pysubs2", "web") from error
    try:
        events = pysubs2.SSAFile.from_string(content, format_="ass")
    except Exception as error:  # pysubs2 raises several types of its own and ValueError
        raise DataError(f"the SubStation file does not read: {error}") from error
    return [
        Cue(event.start / 1000, event.end / 1000, event.plaintext.strip())
        for event in events
        if event.type == "Dialogue" and not event.is_drawing
    ]


def parse_json3(content: str) -> list[Cue]:
    """Read YouTube's json3: events with tStartMs, dDurationMs and segs; one that only scrolls has no text."""
    cues = []
    for event in load_json(content, "events"):
        text = "".join(str(piece.get("utf8", "")) for piece in event.get("segs") or [])
        if text.strip() and "tStartMs" in event:
            start = event["tStartMs"] / 1000
            cues.append(Cue(start, round(start + event.get("dDurationMs", 0) / 1000, 3), plain(text).strip()))
    return cues


def parse_whisper(content: str) -> list[Cue]:
    """Read the JSON of openai-whisper, faster-whisper or WhisperX: segments with start, end and text."""
    segments = load_json(content, "segments")
    return [Cue(float(s["start"]), float(s["end"]), str(s.get("text") or "").strip()) for s in segments]


def load_json(content: str, key: str) -> list[dict]:
    """Return the list under a key of a JSON document.

    Raises:
        DataError: It is none, or the list holds something else than objects.
    """
    try:
        found = json.loads(content)[key]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the JSON has no list '{key}': {error}") from error
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise DataError(f"'{key}' of the JSON is not a list of objects")
    return found


def parse_text(content: str) -> list[Cue]:
    """Read plain text: one cue without times for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", content)
    return [Cue(None, None, " ".join(paragraph.split())) for paragraph in paragraphs if paragraph.strip()]


PARSERS: dict[str, Callable[[str], list[Cue]]] = {
    "vtt": parse_timed_blocks,
    "srt": parse_timed_blocks,
    "ttml": parse_ttml,
    "ass": parse_ass,
    "json3": parse_json3,
    "whisper": parse_whisper,
    "txt": parse_text,
}
