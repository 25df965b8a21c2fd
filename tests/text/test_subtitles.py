"""Subtitles: each format gives the same cues, faults are repaired and counted, and no text is lost or invented."""

import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
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
        ("whisper", '{"segments":[{"start":null,"end":2,"text":"a"}]}', "whisper file does not read: TypeError"),
        ("whisper", '{"segments":[{"start":0,"text":"a"}]}', "KeyError: 'end'"),
        ("whisper", '{"segments":[{"start":NaN,"end":2,"text":"a"}]}', "from nan to 2.0 s; expected numbers"),
        ("whisper", '{"segments":[{"start":0,"end":1e999,"text":"a"}]}', "to inf s; expected numbers"),
        ("json3", '{"events":[{"tStartMs":"1","segs":[{"utf8":"a"}]}]}', "json3 file does not read: TypeError"),
        ("json3", '{"events":[{"tStartMs":1,"segs":["a"]}]}', "json3 file does not read: AttributeError"),
        ("ttml", "<tt><body><p begin='00:00:1x' end='2s'>a</p></body></tt>", "does not read: ValueError"),
        ("ttml", "<tt frameRate='0'><p begin='1f' end='2f'>a</p></tt>", "does not read: ZeroDivisionError"),
        ("ttml", f"<tt><p begin='1s' end='2s'>{'<b>' * 9000}a{'</b>' * 9000}</p></tt>", "RecursionError"),
        ("srt", "{25}{50}hello", "no line is 'START --> END'"),
        ("srt", "1\n-00:00:01,000 --> 00:00:02,000\na", "line 2: '-00:00:01,000"),
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


ONE = "1\n00:00:01,000 --> 00:00:02,000\none\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{ONE}2\n00:00:03,000 --> 00:00:04,000\ntwo\n", ["one", "two"]),  # no empty line between
        (f"{ONE}\n2\n00:00:03,000 -> 00:00:04,000\ntwo\n", ["one", "two"]),  # another arrow
        (f"{ONE}\n2\n", ["one"]),  # broken off behind a number,
        (f"{ONE}\n2\n00:00:03,0", ["one"]),  # inside a time,
        (f"{ONE}\n2\n00:00:03,000 --> 00:", ["one"]),  # behind an arrow
        (f"{ONE}\n17\n", ["one\n17"]),
        (f"{ONE}2\n", ["one\n2"]),
        (f"{ONE}a --> b\n", ["one\na --> b"]),
    ],
)
def test_numbers_and_times_never_become_text(content: str, expected: list[str]) -> None:
    assert [cue.text for cue in parse(content, "srt")] == expected


def test_what_is_named_otherwise_than_it_is() -> None:
    assert kind_of("a.txt", f"Subtitles by nobody\n\n{ONE}") == "srt"
    for name in ("a.txt", "a.vtt", "a.srt"):
        with pytest.raises(DataError, match="a web page"):
            kind_of(name, "\ufeff<!DOCTYPE html><title>404</title> --> ")


def test_times_of_ttml_count_from_what_is_around_them() -> None:
    content = """<tt p:frameRate="30" p:frameRateMultiplier="1000 1001" xmlns:p="http://www.w3.org/ns/ttml#parameter">
        <body begin="10s"><div begin="5s"><p begin="1s" end="2s">a</p></div>
        <div><p><span begin="1s" end="2s">b</span> <span begin="30f" dur="1s">c</span></p></div></body></tt>"""
    assert parse(content, "ttml") == [Cue(16, 17, "a"), Cue(11, 12, "b"), Cue(11.001, 12.001, "c")]


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


def test_lines_of_one_word_scroll_with_the_others() -> None:
    rolled = [Cue(0, 2, "hello"), Cue(2, 2.02, "hello"), Cue(2.02, 4, "hello\nthe old house")]
    fixed, counts = repair([*rolled, Cue(4, 6, "the old house\nstands")])
    assert [cue.text for cue in fixed] == ["hello", "the old house", "stands"] and counts["roll-up line"] == 3


def test_lines_scroll_over_a_pause_where_others_do() -> None:
    rolled = [
        Cue(0, 2, "we went to"),
        Cue(2.2, 4, "we went to\nthe old house"),
        Cue(5, 6, "the old house\non the hill"),
    ]
    fixed, _ = repair(rolled)
    assert [cue.text for cue in fixed] == ["we went to", "the old house", "on the hill"]
    fixed, counts = repair([rolled[0], Cue(3, 4, "we went to\nthe old house")])
    assert [cue.text for cue in fixed] == ["we went to", "we went to\nthe old house"] and not counts


def test_a_refrain_that_comes_again_later_stays() -> None:
    song = [Cue(0, 2, "row row row"), Cue(4, 6, "row row row"), Cue(6, 7, "no"), Cue(7, 8, "no")]
    fixed, counts = repair(song)
    assert [cue.text for cue in fixed] == ["row row row", "row row row", "no", "no"] and not counts


times = st.integers(0, 600).map(lambda n: n / 10)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a machine that does other work
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
        ("[upbeat\nmusic] hello", "hello"),
        ("# you are my sunshine #", "you are my sunshine"),
        ("#1 in F# minor", "#1 in F# minor"),
        ("\u200bhe\x00llo \u202aworld\u202c so\u00adft", "hello world soft"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0646\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0646\u0645"),
        ("...", ""),
        ("- ?!", ""),
    ],
)
def test_cleaning_removes_what_nobody_speaks(text: str, expected: str) -> None:
    cleaned, _ = clean(text)
    assert cleaned == expected
    assert clean(cleaned)[0] == cleaned


@pytest.mark.parametrize(
    "text", ["[" * 30_000, "{\\" * 30_000, "(" * 30_000, "<a" * 30_000, "A." * 30_000, "*a" * 30_000]
)
def test_cleaning_takes_no_longer_for_odd_texts(text: str) -> None:
    began = time.process_time()
    clean(text)
    assert time.process_time() - began < 2  # minutes, where each bracket looked for its end to the last one
