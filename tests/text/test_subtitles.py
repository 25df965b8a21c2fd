"""Subtitles: each format gives the same cues, faults are repaired and counted, and no text is lost or invented."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egrecho_inner.errors import DataError
from egrecho_inner.text.cues import Cue, clean, repair
from egrecho_inner.text.subtitles import kind_of, parse, seconds

TWO = [Cue(1.0, 2.5, "Hello & you"), Cue(3.25, 4.0, "two\nlines")]
VTT = """WEBVTT
Kind: captions

STYLE
::cue { color: red }

NOTE a comment

first
00:00:01.000 --> 00:00:02.500 align:start position:0%
Hello <c.color>&amp;</c> <v Ann><00:00:01.200>you</v>

00:03.250 --> 00:04.000
two
lines
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> & {\\an8}you

2
00:00:03,25 --> 00:00:04,000
two
lines
"""
TTML = """<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml" xmlns:p="http://www.w3.org/ns/ttml#parameter"
p:frameRate="25"><body><div><p begin="00:00:01.000" dur="1.5s">Hello &amp; <span>you</span></p>
<p begin="00:00:03:06.25" end="100f">two<br/>lines</p></div></body></tt>"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\i1}Hello{\\i0} & you
Dialogue: 0,0:00:03.25,0:00:04.00,Default,,0,0,0,,two\\Nlines
"""
JSON3 = """{"wireMagic":"pb3","events":[{"tStartMs":0,"dDurationMs":5,"id":1},
{"tStartMs":1000,"dDurationMs":1500,"segs":[{"utf8":"Hello &"},{"utf8":" you","tOffsetMs":300}]},
{"tStartMs":2400,"aAppend":1,"segs":[{"utf8":"\\n"}]},{"tStartMs":3250,"dDurationMs":750,"segs":[{"utf8":"two\\nlines"}]}]}"""
WHISPER = '{"segments":[{"start":1,"end":2.5,"text":" Hello & you"},{"start":3.25,"end":4.0,"text":"two\\nlines"}]}'
FORMATS = {"vtt": VTT, "srt": SRT, "ttml": TTML, "ass": ASS, "json3": JSON3, "whisper": WHISPER}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_format_gives_the_same_cues(kind: str, ending: str) -> None:
    if kind == "ass":
        pytest.importorskip("pysubs2", reason="needs the extra web (pysubs2)")
    content = "\ufeff" + FORMATS[kind].replace("\n", ending)
    assert kind_of("captions.bin", content) == kind
    assert parse(content, kind) == TWO


def test_text_without_times_is_one_cue_a_paragraph() -> None:
    assert parse("one\ntwo\n\n three \n", kind_of("a.txt", "one")) == [
        Cue(None, None, "one two"),
        Cue(None, None, "three"),
    ]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [("00:00:05.5", 5.5), ("01:02:03,004", 3723.004), ("100:00:00.000", 360000.0), ("00:07", 7.0), ("1:2.25", 62.25)],
)
def test_times_are_decimal_and_have_any_number_of_hours(stamp: str, expected: float) -> None:
    assert seconds(stamp) == expected


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("vtt", "WEBVTT\n\n00:01 -> 00:02\nx\n\n00:03 --> soon\ny", "line 6: '00:03 --> soon'"),
        ("ttml", "<tt><p begin='1s'>x</p></tt>", "neither end nor dur"),
        ("ttml", "<!DOCTYPE x [<!ENTITY a 'b'>]><tt/>", "DOCTYPE"),
        ("ttml", "<tt><p>", "does not read"),
        ("json3", '{"events": 3}', "not a list"),
        ("whisper", '{"segment": []}', "no list 'segments'"),
    ],
)
def test_what_does_not_read_is_an_error_with_its_place(kind: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(content, kind)


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(DataError, match=r"x.sub: an unknown subtitle format"):
        kind_of("x.sub", "{1}{2}hello")


def test_a_blank_line_inside_a_cue_and_a_cue_without_number() -> None:
    content = "1\n00:00:01,000 --> 00:00:02,000\na\n\nb\n\n00:00:03,000 --> 00:00:04,000\nc\n"
    assert [cue.text for cue in parse(content, "srt")] == ["a\nb", "c"]


def test_a_number_that_is_text_stays() -> None:
    assert [cue.text for cue in parse("1\n00:00:01,000 --> 00:00:02,000\n42\n", "srt")] == ["42"]


def test_repairs_are_made_and_counted() -> None:
    cues = [
        Cue(5, 6, "late"),
        Cue(1, 2, "early"),
        Cue(2, 2, "no length"),
        Cue(4, 3, "backwards"),
        Cue(2.5, 3, "  "),
        Cue(7, 9, "long"),
        Cue(8, 10, "next"),
        Cue(8.5, 11, "next"),
    ]
    fixed, counts = repair(cues)
    assert fixed == [Cue(1, 2, "early"), Cue(5, 6, "late"), Cue(7, 8, "long"), Cue(8, 11, "next")]
    assert counts == {
        "cue out of order": 1,
        "cue of no length": 1,
        "cue that ends before it starts": 1,
        "cue without text": 1,
        "overlapping cue": 1,
        "repeated cue": 1,
    }


def test_roll_up_captions_become_one_cue_a_line() -> None:
    rolled = [
        Cue(0, 2, "we went to"),
        Cue(2, 2.01, "we went to"),
        Cue(2.02, 4, "we went to\nthe old house"),
        Cue(4, 6, "the old house\non the hill"),
        Cue(6, 8, "on the hill"),
    ]
    fixed, counts = repair(rolled)
    assert [cue.text for cue in fixed] == ["we went to", "the old house", "on the hill"]
    assert counts["roll-up line"] == 3 and (fixed[0].start, fixed[-1].end) == (0, 8)


def test_a_refrain_that_comes_again_later_stays() -> None:
    song = [Cue(0, 2, "row row row"), Cue(4, 6, "row row row"), Cue(6, 7, "no"), Cue(7, 8, "no")]
    fixed, counts = repair(song)
    assert [cue.text for cue in fixed] == ["row row row", "row row row", "no", "no"] and not counts


times = st.integers(0, 600).map(lambda n: n / 10)


@given(st.lists(st.builds(Cue, times, times, st.sampled_from(["a b", "c d", "a b\nc d", "", "e"])), max_size=12))
def test_repaired_cues_are_in_order_disjoint_and_repair_changes_nothing_more(cues: list[Cue]) -> None:
    fixed, _ = repair(cues)
    assert all(cue.seconds > 0 and cue.text for cue in fixed)
    assert all(a.end <= b.start for a, b in pairwise(fixed))
    words = {line for cue in cues for line in cue.text.split("\n")}
    assert {line for cue in fixed for line in cue.text.split("\n")} <= words
    spoken = {cue.text for cue in cues if cue.text and cue.end > cue.start}
    assert bool(fixed) == bool(spoken)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("JOHN: hello there", "hello there"),
        (">> Mr. Smith: yes", "yes"),
        ("- no\n- yes", "no yes"),
        ("[Music] la (applause) la *laughs*", "la la"),
        ("♪ you are my sunshine ♪", "you are my sunshine"),
        ("Tom &amp;amp; Jerry&nbsp;run", "Tom & Jerry run"),
        ("at 10:30 we go", "at 10:30 we go"),
        ("Remember this: never give up", "Remember this: never give up"),
        ("［音楽］こんにちは", "こんにちは"),
        ("well-known co-op", "well-known co-op"),
        ("a * b * c", "a * b * c"),
    ],
)
def test_cleaning_removes_what_nobody_speaks(text: str, expected: str) -> None:
    cleaned, _ = clean(text)
    assert cleaned == expected
    assert clean(cleaned)[0] == cleaned
