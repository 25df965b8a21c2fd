"""Speech without words is counted, whatever a set's own pace is."""

import numpy as np

from egrecho_inner.decoding.long_form import speech_frames
from egrecho_inner.results.dropped import dropped_speech
from egrecho_inner.results.utterance import Hypothesis


def hypothesis(name: str, text: str, speech: float, language: str = "en") -> Hypothesis:
    return Hypothesis(name, text, language, [], -0.1, 0.0, 1.0, False, False, 1, speech, 0.1, speech)


def test_a_recording_with_a_fifth_of_its_words_is_found() -> None:
    ordinary = [hypothesis(f"u{n}", "one two three four", 1.6) for n in range(20)]
    complete, poor = hypothesis("complete", "word " * 150, 60.0), hypothesis("poor", "word " * 30, 60.0)
    assert dropped_speech([*ordinary, complete, poor]) == {"poor"}
    assert dropped_speech([hypothesis("empty", "", 2.5), *ordinary]) == {"empty"}
    assert dropped_speech([hypothesis("blip", "", 0.5), *ordinary]) == set()


def test_a_set_that_lost_most_everywhere_is_found_too() -> None:
    assert len(dropped_speech([hypothesis(f"u{n}", "word " * 10, 60.0) for n in range(5)])) == 5
    assert dropped_speech([hypothesis("zh", "字" * 20, 4.0, "zh")]) == set()
    assert dropped_speech([]) == set()


def test_speech_is_what_stands_out() -> None:
    feats = np.full((1000, 80), -1.0, dtype=np.float32)
    feats[200:600] = 0.5
    assert abs(speech_frames(feats) - 400) <= 20
    assert speech_frames(np.full((1000, 80), -1.0)) == 0
    assert speech_frames(np.zeros((0, 80))) == 0
