"""Cues written in the formats of the web's subtitles; `FORMATS` has a writer for each file ending."""

import json
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

Cues = Sequence[tuple[float, float, str]]
LF, BREAK = "\n", r"\N"
ASS_HEAD = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def stamp(seconds: float, mark: str = ".") -> str:
    """Write a time as 00:01:02.345."""
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}{mark}{whole % 1000:03d}"


def vtt(cues: Cues) -> str:
    """Write WebVTT."""
    return "WEBVTT\n\n" + "\n".join(f"{stamp(a)} --> {stamp(b)}\n{text}\n" for a, b, text in cues)


def srt(cues: Cues) -> str:
    """Write SubRip."""
    return "\n".join(f"{n}\n{stamp(a, ',')} --> {stamp(b, ',')}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1))


def ttml(cues: Cues) -> str:
    """Write TTML."""
    lines = [
        f'<p begin="{stamp(a)}" end="{stamp(b)}">{escape(text).replace(chr(10), "<br/>")}</p>' for a, b, text in cues
    ]
    return f'<tt xmlns="http://www.w3.org/ns/ttml"><body><div>{"".join(lines)}</div></body></tt>'


def ass(cues: Cues) -> str:
    """Write SubStation Alpha."""
    rows = (f"{stamp(a)[1:-1]},{stamp(b)[1:-1]},Default,,0,0,0,,{BREAK.join(text.split(LF))}" for a, b, text in cues)
    return ASS_HEAD + "".join(f"Dialogue: 0,{row}{LF}" for row in rows)


def json3(cues: Cues) -> str:
    """Write YouTube's json3."""
    events = [
        {"tStartMs": round(a * 1000), "dDurationMs": round((b - a) * 1000), "segs": [{"utf8": text}]}
        for a, b, text in cues
    ]
    return json.dumps({"wireMagic": "pb3", "events": events}, ensure_ascii=False)


def whisper(cues: Cues) -> str:
    """Write Whisper's JSON."""
    segments = [{"start": round(a, 3), "end": round(b, 3), "text": f" {text}"} for a, b, text in cues]
    return json.dumps({"text": "", "segments": segments}, ensure_ascii=False)


def txt(cues: Cues) -> str:
    """Write plain text, without times."""
    return "\n\n".join(text for _, _, text in cues) + "\n"


FORMATS: dict[str, Callable[[Cues], str]] = {
    "vtt": vtt,
    "srt": srt,
    "ttml": ttml,
    "ass": ass,
    "json3": json3,
    "json": whisper,
    "txt": txt,
}
