"""Packing joins true neighbours and nothing else, keeps every word once, and knows where each utterance is."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from tiny import RATE, speech_cut, tiny_processor

from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.options import PackOptions
from egrecho_inner.data.cuts.fields import reference_of, teacher_of
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.data.cuts.packing import pack
from egrecho_inner.errors import DataError
from egrecho_inner.text.labels import LabelEncoder


def recording(name: str, seconds: float = 600.0) -> Recording:
    return Recording(name, [], RATE, round(seconds * RATE), seconds, channel_ids=[0])


def utterance(
    of: Recording, number: int, start: float, duration: float, text: str, speaker: str | None = "s", **custom: object
) -> MonoCut:
    name = f"{of.id}-{number}"
    spoken = SupervisionSegment(
        name, of.id, 0.0, duration, 0, text=text, language="en", speaker=speaker, custom=custom or None
    )
    return MonoCut(name, start, duration, 0, [spoken], recording=of)


def talk(rng: random.Random, name: str = "r") -> Iterator[MonoCut]:
    """Say random utterances, with gaps, pauses and changes of speaker."""
    of, now = recording(name), 0.0
    for number in range(40):
        now += rng.choice([0.0, 0.1, 0.5, 0.9, 3.0])
        duration = round(rng.uniform(0.3, 9.0), 2)
        yield utterance(of, number, round(now, 2), duration, f"word{number}", rng.choice(["a", "a", "a", "b"]))
        now += duration


@pytest.mark.parametrize("seed", range(5))
def test_every_utterance_is_in_one_window_at_its_time(seed: int) -> None:
    cuts = list(talk(random.Random(seed)))
    options = PackOptions(max_duration=30.0, max_gap=1.0)
    windows = list(pack(cuts, options))
    assert " ".join(w.supervisions[0].text for w in windows).split() == [c.supervisions[0].text for c in cuts]
    by_text = {cut.supervisions[0].text: cut for cut in cuts}
    for window in windows:
        assert window.duration <= 30.0 + 1e-3
        parts = reference_of(window).segments
        assert {by_text[part.text].supervisions[0].speaker for part in parts} == {window.supervisions[0].speaker}
        for part in parts:
            cut = by_text[part.text]
            assert window.start + part.start == pytest.approx(cut.start, abs=0.011)
            assert window.start + part.end == pytest.approx(cut.end, abs=0.011)
        gaps = [b.start - a.end for a, b in pairwise(parts)]
        assert all(gap <= 1.0 + 0.021 for gap in gaps)
    assert len(windows) < len(cuts)
    assert len({window.id for window in windows}) == len(windows)


def test_what_was_dropped_between_two_utterances_parts_them() -> None:
    # its words would be heard in the window, and be in no text
    cuts = [utterance(recording("r"), number, 2.0 * number, 1.9, f"w{number}") for number in range(3)]
    assert len(list(pack(cuts, PackOptions(max_gap=3.0)))) == 1
    assert len(list(pack([cuts[0], cuts[2]], PackOptions(max_gap=3.0)))) == 2


def test_nobody_elses_words_are_joined_or_said_before() -> None:
    # the published gate compared 0 with False by `is`: every sample had the previous row before it, whoever spoke
    of = recording("r")
    cuts = [utterance(of, n, 2.0 * n, 1.9, f"w{n}", speaker) for n, speaker in enumerate(["a", "b", "b"])]
    windows = list(pack(cuts, PackOptions(max_duration=3.0)))
    assert [reference_of(w).previous for w in windows] == ["", "", "w1"]
    windows = list(pack(cuts, PackOptions(max_duration=3.0, across_speakers=True)))
    assert [reference_of(w).previous for w in windows] == ["", "w0", "w1"]
    other = [cuts[0], utterance(recording("q"), 0, 0.0, 1.0, "new", "a")]
    assert reference_of(list(pack(other, PackOptions()))[1]).previous == ""
    assert len(list(pack(cuts, PackOptions(across_speakers=True)))) == 1


def test_perturbed_copies_stand_between_and_are_packed_apart() -> None:
    first, second = recording("r"), recording("r_sp0.9")
    cuts = [
        cut
        for number in range(3)
        for cut in (utterance(first, number, 2.0 * number, 2.0, "a"), utterance(second, number, 2.2 * number, 2.2, "b"))
    ]
    assert [w.supervisions[0].text for w in pack(cuts, PackOptions())] == ["a a a", "b b b"]


def test_languages_are_compared_and_joined_as_codes() -> None:
    of = recording("r")
    cuts = [utterance(of, number, 2.0 * number, 1.9, text) for number, text in enumerate(["今日は", "天気", "です"])]
    for cut, language in zip(cuts, ("Japanese", "ja-JP", "ja"), strict=True):
        cut.supervisions[0].language = language
    (window,) = pack(cuts, PackOptions())
    assert (window.supervisions[0].text, window.supervisions[0].language) == ("今日は天気です", "ja")


def test_a_teachers_text_is_packed_beside_the_reference() -> None:
    of = recording("r")
    said = {"language": "en", "task": "transcribe", "revision": "x", "truncated": False, "looped": False}
    cuts = [
        utterance(of, 0, 0.0, 2.0, "one", teacher={**said, "text": "won", "avg_logprob": -0.1}),
        utterance(
            of, 1, 2.5, 2.0, "two",
            teacher={**said, "text": "to", "avg_logprob": -0.9, "segments": [[0.2, 1.5, "to"]], "truncated": True},
        ),
        utterance(of, 2, 28.9, 2.0, "three", teacher={**said, "text": "tree", "avg_logprob": -0.2}),
    ]  # fmt: skip
    window, last = pack(cuts, PackOptions())
    found = teacher_of(window)
    assert found.text == "won to"
    assert [(s.start, s.end) for s in found.segments] == [(0.0, 2.0), (2.7, 4.0)]
    assert found.truncated
    assert window.supervisions[0].custom["teacher"]["avg_logprob"] == -0.9
    assert teacher_of(last).previous == ""  # 24 s ago
    cuts[1].supervisions[0].custom["teacher"]["revision"] = "another"
    with pytest.raises(DataError, match="different teachers"):
        list(pack(cuts, PackOptions()))
    del cuts[1].supervisions[0].custom["teacher"]
    with pytest.raises(DataError, match="only some"):
        list(pack(cuts, PackOptions()))


def test_nothing_follows_a_text_that_broke_off() -> None:
    # in the middle of a window its missing end would be taught as complete
    of = recording("r")
    said = {"language": "en", "task": "transcribe", "revision": "x", "looped": False}
    cuts = [
        utterance(of, n, 2.0 * n, 1.9, f"w{n}", teacher={**said, "text": f"t{n}", "truncated": n == 1})
        for n in range(4)
    ]
    found = [teacher_of(window) for window in pack(cuts, PackOptions())]
    assert [(each.text, each.truncated, each.previous) for each in found] == [("t0 t1", True, ""), ("t2 t3", False, "")]


@pytest.mark.parametrize("mark", ["gap_before", "parted"])  # the second in manifests of older versions
def test_a_drop_that_no_number_shows_parts_too(mark: str) -> None:
    of = recording("r")
    cuts = [utterance(of, n, 2.0 * n, 1.9, f"w{n}", **({mark: True} if n == 2 else {})) for n in range(4)]
    cuts = [replace(cut, id=name) for cut, name in zip(cuts, "abcd", strict=True)]
    assert [w.supervisions[0].text for w in pack(cuts, PackOptions())] == ["w0 w1", "w2 w3"]


def test_a_shuffled_manifest_joins_nothing_that_is_not_next() -> None:
    # the published packing took rows as they came in a batch of its map, whatever stood before them in the recording
    cuts = list(talk(random.Random(1)))
    random.Random(2).shuffle(cuts)
    for window in pack(cuts, PackOptions(max_gap=1.0)):
        parts = reference_of(window).segments
        assert all(0 <= b.start - a.end <= 1.021 for a, b in pairwise(parts))
        numbers = [int(part.text.removeprefix("word")) for part in parts]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_files_of_one_speaker_are_joined_with_silence_between(tmp_path: Path) -> None:
    cuts = [speech_cut(tmp_path, f"u{n}", 1.0 + 0.1 * n, "one two", speaker="s", seed=n) for n in range(3)]
    assert len(list(pack(cuts, PackOptions()))) == 3
    (window,) = pack(cuts, PackOptions(by="speaker", silence=0.5))
    wave = load_audio(window)
    assert len(wave) == window.num_samples == round((1.0 + 0.5 + 1.1 + 0.5 + 1.2) * RATE)
    assert np.allclose(wave[24000 : 24000 + 17600], load_audio(cuts[1]), atol=1e-4)
    assert np.abs(wave[16100:23900]).max() == 0.0
    CutSet.from_cuts([window]).to_file(tmp_path / "packed.jsonl")
    again = CutIndex(tmp_path / "packed.jsonl")[0]  # a mix survives its manifest
    assert [s.start for s in reference_of(again).segments] == [0.0, 1.5, 3.1]


def test_a_window_has_the_audio_of_its_words_in_any_order_of_files(tmp_path: Path) -> None:
    # a window from A to A with B between was cut out of A: B's words lay over A's audio
    a, b = (speech_cut(tmp_path, name, 6.0, "one two", speaker="s", seed=n) for n, name in enumerate("ab"))
    parts = {
        f"{whole.recording_id}{n}": whole.truncate(offset=2.0 * n, duration=1.5).with_id(f"{whole.recording_id}-{n}")
        for whole in (a, b)
        for n in range(3)
    }
    for name, part in parts.items():
        part.supervisions = [replace(part.supervisions[0], start=0.0, duration=1.5, text=name)]
    orders = [["a0", "b0", "a1"], ["a1", "b0", "a0"], ["a0", "a1", "b1", "a2", "b2"]]
    orders += [random.Random(seed).sample(sorted(parts), 6) for seed in range(6)]
    for order in orders:
        seen = []
        for window in pack([parts[name] for name in order], PackOptions(by="speaker")):
            wave = load_audio(window)
            for segment in reference_of(window).segments:
                begin = round(segment.start * RATE)
                found, expected = wave[begin : begin + 24000], load_audio(parts[segment.text])
                assert np.allclose(found[200:-200], expected[200:-200], atol=1e-3), (order, segment)
                seen.append(segment.text)
        assert seen == order


def test_a_window_over_one_recording_is_its_audio(tmp_path: Path) -> None:
    whole = speech_cut(tmp_path, "r", 6.0, "one two three")
    parts = [whole.truncate(offset=2.0 * n, duration=2.0).with_id(f"r-{n}") for n in range(3)]
    for part in parts:
        part.supervisions = [whole.supervisions[0].with_alignment("x", [])]
    (window,) = pack(parts, PackOptions())
    assert np.array_equal(load_audio(window), load_audio(whole))


def test_labels_of_a_window_have_its_times() -> None:
    cuts = [utterance(recording("r"), n, 2.0 * n, 1.5, f"w{n}") for n in range(2)]
    (window,) = pack(cuts, PackOptions())
    said = reference_of(window)
    labels = LabelEncoder(tiny_processor().tokenizer, "en")
    made = labels.encode(said.text, "en", segments=said.segments)
    times = [labels.tokenizer.convert_ids_to_tokens(i) for i in made.targets if i >= labels.id("<|0.00|>")]
    assert times == ["<|0.00|>", "<|1.50|>", "<|2.00|>", "<|3.50|>"]


def test_cuts_of_several_utterances_are_refused() -> None:
    cut = utterance(recording("r"), 0, 0.0, 2.0, "x")
    cut.supervisions = cut.supervisions * 2
    with pytest.raises(DataError, match="2 supervisions"):
        list(pack([cut], PackOptions()))
