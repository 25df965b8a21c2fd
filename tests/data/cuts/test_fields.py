"""One transcript for a cut, whatever its supervisions: in the order of time, none where a part has none."""

import json
from pathlib import Path

import pytest
from lhotse import MonoCut, SupervisionSegment
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from tiny import speech_cut

from egrecho_inner.data.cuts.fields import (
    Transcript,
    make_supervision,
    read_reference,
    reference_of,
    supervision_row,
    teacher_of,
)
from egrecho_inner.errors import DataError
from egrecho_inner.text.labels import Segment


def spoken(start: float, text: str | None, language: str | None = "en", seconds: float = 1.0, **custom: object):
    return SupervisionSegment(f"s{start}", "u", start, seconds, 0, text, language, custom=custom or None)


@pytest.fixture
def cut(tmp_path: Path) -> MonoCut:
    found = speech_cut(tmp_path, "u", 4.0)
    found.supervisions = [spoken(2.5, "three"), spoken(0.5, "one two"), spoken(3.5, "four")]
    return found


def read_both(cut: Cut) -> Transcript:
    found, row = reference_of(cut), json.loads(json.dumps(cut.to_dict()))
    before = json.dumps(row)
    assert read_reference(row) == found
    assert json.dumps(row) == before
    return found


def test_supervisions_are_joined_in_the_order_of_time_with_their_times(cut: MonoCut) -> None:
    found = read_both(cut)
    assert (found.text, found.language) == ("one two three four", "en")
    # the last one ends with the cut
    assert found.segments == (Segment(0.5, 1.5, "one two"), Segment(2.5, 3.5, "three"), Segment(3.5, 4.0, "four"))


def test_words_are_joined_as_the_language_writes(cut: MonoCut) -> None:
    cut.supervisions = [spoken(1.5, "世界", "zh-CN"), spoken(0.5, "你好", "Chinese")]
    assert (read_both(cut).text, read_both(cut).language) == ("你好世界", "zh")


def test_supervisions_of_all_tracks_count(cut: MonoCut, tmp_path: Path) -> None:
    first = speech_cut(tmp_path, "v", 2.0, "zero")
    found = read_both(first.append(cut))
    assert found.text == "zero one two three four"
    assert [segment.start for segment in found.segments] == [0.0, 2.5, 4.5, 5.5]


def test_an_untranscribed_part_leaves_the_cut_without_transcript_and_silence_does_not(cut: MonoCut) -> None:
    cut.supervisions.append(spoken(1.6, None))
    assert read_both(cut).text is None and read_both(cut).language == "en"
    cut.supervisions[-1].text = ""
    assert read_both(cut).text == "one two three four"
    cut.supervisions = [spoken(0, "")]
    assert read_both(cut).text == "" and read_both(cut).segments == ()
    cut.supervisions = []
    assert read_both(cut).text is None


def test_times_never_go_back(cut: MonoCut) -> None:
    cut.supervisions = [spoken(0.0, "one", seconds=2.0), spoken(1.5, "two", seconds=0.3), spoken(1.8, "three")]
    times = [(segment.start, segment.end) for segment in read_both(cut).segments]
    assert times == [(0.0, 2.0), (2.0, 2.0), (2.0, 2.8)]


def test_timed_parts_of_a_supervision_are_taken_where_it_has_them(cut: MonoCut) -> None:
    rows = [[0.0, 0.4, "three"], [0.4, 0.9, "more"]]
    cut.supervisions[0] = spoken(2.5, "three more", segments=rows)
    cut.supervisions[1] = spoken(0.5, "one two", previous="zero")
    cut.supervisions[2].alignment = {"word": [AlignmentItem("four", 3.5, 0.2)]}
    found = read_both(cut)
    assert [(segment.start, segment.text) for segment in found.segments] == [
        *((0.5, "one two"), (2.5, "three"), (2.9, "more"), (3.5, "four")),
    ]
    assert found.previous == "zero"


@pytest.mark.parametrize(
    ("name", "code"), [("Japanese", "ja"), ("ja-JP", "ja"), ("vie", "vi"), ("zh-HK", "yue"), ("Klingon", "Klingon")]
)
def test_languages_are_codes_whatever_a_cut_calls_them(cut: MonoCut, name: str, code: str) -> None:
    cut.supervisions = [spoken(0.0, "one", name), spoken(1.0, "two", None)]
    assert read_both(cut).language == code


def test_several_languages_in_one_cut_are_refused(cut: MonoCut) -> None:
    cut.supervisions[0].language = "French"
    with pytest.raises(DataError, match=r"several languages \(en, fr\)"):
        reference_of(cut)


def test_a_teachers_text_is_that_of_the_whole_cut(cut: MonoCut) -> None:
    with pytest.raises(DataError, match="cut u-0 has no teacher's text"):
        teacher_of(cut)
    row = json.loads(json.dumps(cut.to_dict()))
    supervision = make_supervision(row)
    assert supervision["text"] == "one two", "the first in time"
    supervision["custom"] = {"teacher": {"text": "won too tree for"}}
    assert supervision_row(row, "here")["custom"] == supervision["custom"]
    labelled = MonoCut.from_dict(row)
    assert (teacher_of(labelled).text, teacher_of(labelled).language) == ("won too tree for", "en")
    labelled.supervisions[0].custom = {"teacher": {"text": "another"}}
    with pytest.raises(DataError, match="cut u-0 has 2 teacher's texts"):
        teacher_of(labelled)
