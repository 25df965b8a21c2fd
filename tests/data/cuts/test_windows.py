"""Windows: OLMoASR's rule on its traced examples, and what must hold for any cues."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egrecho_inner.data.cuts.windows import Window, WindowRule, windows_of
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.cues import Cue, repair


def cues(*times: tuple[float, float]) -> list[Cue]:
    return [Cue(float(start), float(end), f"c{number}") for number, (start, end) in enumerate(times)]


def spans(windows: list[Window]) -> list[tuple[float, float, str]]:
    return [(w.start, w.end, " ".join(cue.text for cue in w.cues)) for w in windows]


def test_cues_back_to_back_fill_windows() -> None:
    found, counts = windows_of(cues(*((10 * n, 10 * n + 10) for n in range(6))), 60, WindowRule())
    assert spans(found) == [(0, 30, "c0 c1 c2"), (30, 60, "c3 c4 c5")] and not counts


def test_a_long_pause_becomes_windows_without_speech_and_the_rest_goes_with_the_next_cue() -> None:
    found, _ = windows_of(cues((0, 10), (10, 20), (120, 125)), 200, WindowRule())
    assert spans(found) == [(0, 20, "c0 c1"), (20, 50, ""), (50, 80, ""), (80, 110, ""), (110, 125, "c2")]
    assert found[-1].cues == (Cue(10, 15, "c2"),)


def test_a_short_pause_before_a_cue_that_does_not_fit_is_one_window_without_speech() -> None:
    found, _ = windows_of(cues((0, 28), (35, 60)), 60, WindowRule())
    assert spans(found) == [(0, 28, "c0"), (28, 35, ""), (35, 60, "c1")]


def test_a_short_pause_belongs_to_the_next_window_where_it_fits() -> None:
    found, _ = windows_of(cues((0, 28), (30, 50)), 60, WindowRule())
    assert spans(found) == [(0, 28, "c0"), (28, 50, "c1")] and found[1].cues[0].start == 2


def test_the_rest_of_a_long_pause_and_a_long_cue_that_do_not_fit_together_are_parted() -> None:
    found, _ = windows_of(cues((0, 5), (60, 85)), 90, WindowRule())
    assert spans(found) == [(0, 5, "c0"), (5, 35, ""), (60, 85, "c1")]


def test_a_cue_longer_than_a_window_is_left_out_with_its_audio_or_begins_one() -> None:
    given_cues = cues((0, 5), (6, 50), (51, 55))
    found, counts = windows_of(given_cues, 60, WindowRule())
    assert spans(found) == [(0, 5, "c0"), (5, 6, ""), (50, 55, "c2")] and counts == {"cue longer than a window": 1}
    found, _ = windows_of(given_cues, 60, WindowRule(cut_long=True))
    assert spans(found) == [(0, 5, "c0"), (5, 6, ""), (6, 36, "c1"), (50, 55, "c2")]
    assert found[2].cues == (Cue(0.0, None, "c1"),)


def test_windows_without_speech_can_be_left_out() -> None:
    found, _ = windows_of(cues((0, 10), (120, 125)), 200, WindowRule(no_speech=False))
    assert [window.cues[0].text for window in found] == ["c0", "c1"]


def test_cues_behind_the_recording_are_counted() -> None:
    found, counts = windows_of(cues((0, 5), (8, 12), (15, 20)), 10, WindowRule())
    assert spans(found) == [(0, 10, "c0 c1")]
    assert counts == {"cue past the end of the recording, shortened": 1, "cue behind the end of the recording": 1}


@pytest.mark.parametrize("seconds", [0, -1, 31])
def test_a_window_has_a_legal_length(seconds: float) -> None:
    with pytest.raises(ConfigError, match="max_seconds"):
        WindowRule(max_seconds=seconds)


times = st.integers(0, 4000).map(lambda n: n / 10)


@given(st.lists(st.builds(Cue, times, times, st.just("x y")), max_size=30), st.sampled_from([30.0, 8.0]))
def test_windows_are_disjoint_hold_every_cue_once_and_silence_is_silent(raw: list[Cue], longest: float) -> None:
    fixed, _ = repair(raw)
    rule = WindowRule(max_seconds=longest)
    found, counts = windows_of(fixed, 400, rule)
    assert all(0 < window.duration <= longest + 1e-3 for window in found)
    assert all(a.end <= b.start + 1e-3 for a, b in pairwise(found))
    placed = sum(len(window.cues) for window in found)
    assert placed + counts["cue longer than a window"] + counts["cue behind the end of the recording"] == len(fixed)
    for window in found:
        assert all(0 <= cue.start < cue.end <= window.duration + 1e-3 for cue in window.cues)
        over = [cue for cue in fixed if cue.start < window.end - 1e-3 and cue.end > window.start + 1e-3]
        # audio of a window is under its own cues or under none
        assert len(over) == len(window.cues)
