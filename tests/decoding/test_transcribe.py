"""Every cut has one hypothesis, whatever its length and its company."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lhotse.cut import Cut
from peft import LoraConfig, get_peft_model
from tiny import save_tiny, speech_cut, speech_cuts, tiny_model, tiny_processor

from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.audio.store import FeatureArchive
from egrecho_inner.data.cuts.index import CutIndex
from egrecho_inner.decoding.long_form import complete_part, split_at_silences
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.pieces import load_features, longest_first, plan, prefetched
from egrecho_inner.decoding.transcribe import Transcriber, transcribe
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.model.loading import load_model
from egrecho_inner.results.utterance import Hypothesis
from egrecho_inner.text.repetition import is_loop


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> list[Cut]:
    """Ordinary ones, and those that programs stumble over."""
    folder = tmp_path_factory.mktemp("cuts")
    return [
        *CutIndex(speech_cuts(folder, 6)),
        speech_cut(folder, "long", 71.0, "one two three", seed=1),
        speech_cut(folder, "short", 0.1, "one"),
        speech_cut(folder, "one-frame", 0.004, "one"),
        speech_cut(folder, "nothing-said", 2.0, ""),
        speech_cut(folder, "no-language", 2.0, "two", language=None),
        speech_cut(folder, "vi", 1.5, "ten", language="vi"),
        speech_cut(folder, "exactly-30", 30.0, "ten nine eight"),
    ]


def by_id(hypotheses: list[Hypothesis]) -> dict[str, Hypothesis]:
    return {each.id: each for each in hypotheses}


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(),
        DecodeOptions(num_beams=2, max_new_tokens=20),
        DecodeOptions(window="30s", batch_seconds=120, max_new_tokens=20),
        DecodeOptions(long_form="timestamps", max_new_tokens=20),
        DecodeOptions(batch_size=1, max_new_tokens=20),
    ],
    ids=["plain", "beam", "30s", "timestamps", "single"],
)
def test_every_cut_has_one_hypothesis(cuts: list[Cut], options: DecodeOptions) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    found = list(transcribe(model, tiny_processor(), cuts, options))
    assert sorted(each.id for each in found) == sorted(cut.id for cut in cuts)
    assert by_id(found)["long-0"].parts >= 3
    assert [each.parts for each in found].count(1) == len(cuts) - 1
    assert by_id(found)["vi-0"].language == "vi"
    assert by_id(found)["no-language-0"].language is not None
    assert all(each.duration == cut.duration for cut in cuts for each in [by_id(found)[cut.id]])


def test_company_changes_nothing(cuts: list[Cut]) -> None:
    model = tiny_model(tiny_processor(), ending=3.1, seed=3)
    together = by_id(list(transcribe(model, tiny_processor(), cuts)))
    assert len({tuple(each.tokens) for each in together.values()}) > 3  # or nothing is shown
    for cut in cuts:
        (alone,) = transcribe(model, tiny_processor(), [cut])
        assert together[cut.id].tokens == alone.tokens
        assert together[cut.id].text == alone.text
        assert together[cut.id].avg_logprob == pytest.approx(alone.avg_logprob, abs=2e-4)


def test_positions_choose_the_cuts(cuts: list[Cut]) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    found = list(transcribe(model, tiny_processor(), cuts, positions=[6, 1, 4]))
    assert {each.id for each in found} == {cuts[at].id for at in (6, 1, 4)}
    assert found[0].id == "long-0"


def test_a_training_model_comes_back_as_it_was(cuts: list[Cut]) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    expected = list(transcribe(model, tiny_processor(), cuts[:4]))
    model.train()
    model.config.dropout = 0.5
    model.get_encoder().eval()  # as a trainer has a frozen part
    modes = [module.training for module in model.modules()]
    state = torch.random.get_rng_state()
    found = list(transcribe(model, tiny_processor(), cuts[:4]))
    assert [each.tokens for each in found] == [each.tokens for each in expected]
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_adapters_take_part(cuts: list[Cut]) -> None:
    base = tiny_model(tiny_processor(), ending=3.2)
    plain = list(transcribe(base, tiny_processor(), cuts[:4]))
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    found = list(transcribe(adapted, tiny_processor(), cuts[:4]))
    merged = list(transcribe(adapted.merge_and_unload(), tiny_processor(), cuts[:4]))
    assert [each.tokens for each in found] == [each.tokens for each in merged]
    assert [each.avg_logprob for each in found] != [each.avg_logprob for each in plain]


def test_window_is_that_of_the_training(tmp_path: Path) -> None:
    untouched = tiny_model(tiny_processor())
    assert Transcriber(untouched, tiny_processor(), DecodeOptions()).padded
    assert not Transcriber(untouched, tiny_processor(), DecodeOptions(window="longest")).padded
    ours = load_model(str(save_tiny(tmp_path / "model", window="mixed")))
    assert not Transcriber(ours, tiny_processor(), DecodeOptions()).padded


def test_language_option_fills_gaps_and_can_be_forced(cuts: list[Cut]) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    chosen = [cut for cut in cuts if cut.id in ("vi-0", "no-language-0")]
    filled = by_id(list(transcribe(model, tiny_processor(), chosen, DecodeOptions(language="german"))))
    assert [filled[name].language for name in ("vi-0", "no-language-0")] == ["vi", "de"]
    forced = transcribe(model, tiny_processor(), chosen, DecodeOptions(language="de", force_language=True))
    assert {each.language for each in forced} == {"de"}


def test_stored_features_are_as_good_as_waves(cuts: list[Cut], tmp_path: Path) -> None:
    cut = cuts[0]
    with FeatureArchive(tmp_path / "feats-0.lca") as archive:
        stored = replace(cut, features=archive.describe(cut, 80, archive.add(log_mel(cut.load_audio()[0], 80, tail=2))))
    feats, length = load_features(stored, 80)
    expected, frames = load_features(cut, 80)
    assert (feats.shape, length) == (expected.shape, frames)
    assert np.abs(feats - expected).max() < 0.003
    with pytest.raises(DataError, match=r"80 mel bins, the model needs 128"):
        load_features(stored, 128)


def test_broken_cuts_are_named(cuts: list[Cut], tmp_path: Path) -> None:
    model = tiny_model(tiny_processor())
    missing = speech_cut(tmp_path, "gone", 1.0)
    Path(missing.recording.sources[0].source).unlink()
    with pytest.raises(DataError, match=r"cut gone-0: .*gone.wav"):
        list(transcribe(model, tiny_processor(), [cuts[0], missing]))
    with pytest.raises(DataError, match="cut odd-0: language 'klingon'"):
        list(transcribe(model, tiny_processor(), [speech_cut(tmp_path, "odd", 1.0, language="klingon")]))


def test_unlikely_text_on_silence_can_be_dropped(cuts: list[Cut]) -> None:
    model = tiny_model(tiny_processor(), ending=3.1, seed=3)
    plain = by_id(list(transcribe(model, tiny_processor(), cuts)))
    dropped = by_id(list(transcribe(model, tiny_processor(), cuts, DecodeOptions(no_speech_threshold=0.0))))
    unlikely = {name for name, each in plain.items() if each.parts == 1 and each.avg_logprob < -1 and each.tokens}
    assert unlikely
    assert all(not dropped[name].tokens and not dropped[name].truncated for name in unlikely)
    (kept,) = transcribe(model, tiny_processor(), cuts[:1], DecodeOptions(no_speech_threshold=1.0))
    assert kept.tokens == plain[kept.id].tokens


def test_nothing_is_said_on_stderr(cuts: list[Cut], capfd: pytest.CaptureFixture) -> None:
    model = tiny_model(tiny_processor(), ending=3.2)
    model.generation_config.suppress_tokens = [3]
    model.generation_config.forced_decoder_ids = [[1, 300]]
    for options in (DecodeOptions(), DecodeOptions(num_beams=2, max_new_tokens=5)):
        list(transcribe(model, tiny_processor(), cuts[:3], options))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "make",
    [
        lambda: DecodeOptions(num_beams=0),
        lambda: DecodeOptions(batch_seconds=-1),
        lambda: DecodeOptions(language="xx"),
        lambda: DecodeOptions(force_language=True),
    ],
)
def test_options_are_checked(make: Callable[[], DecodeOptions]) -> None:
    with pytest.raises(ConfigError):
        make()


@given(st.lists(st.floats(0.01, 30.0), min_size=1, max_size=60), st.integers(1, 20))
def test_plan_keeps_every_cut_within_the_budget(seconds: list[float], most: int) -> None:
    durations = np.array(seconds)
    batches = plan(longest_first(durations), durations, 60.0, most, 0.0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * durations[batch].max() <= 60.0
        assert len(batch) <= most
    longest = [durations[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.integers(3001, 40000), st.integers(0, 9))
def test_parts_cover_a_recording_and_fit_the_window(frames: int, seed: int) -> None:
    feats = np.random.default_rng(seed).normal(size=(frames, 4)).astype(np.float32)
    edges = split_at_silences(feats)
    assert (edges[0], edges[-1]) == (0, frames)
    assert all(500 < part <= 3000 for part in np.diff(edges))


def test_parts_end_in_pauses() -> None:
    feats = np.ones((9000, 80), dtype=np.float32)
    pauses = range(450, 9000, 450)
    for pause in pauses:
        feats[pause : pause + 40] = -1.0
    for edge in split_at_silences(feats)[1:-1]:
        assert min(abs(edge - pause - 20) for pause in pauses) <= 20


@pytest.mark.parametrize(
    ("tokens", "said", "advance"),
    [
        ([1, 2], [1, 2], 3000),  # no timestamps: the window is taken whole
        ([100, 1, 200], [100, 1, 200], 3000),  # one at the end: nothing follows
        ([100, 1, 200, 200, 2], [100, 1, 200], 200),  # the last segment is not complete: it is said again
        ([100, 1, 200, 200, 2, 300], [100, 1, 200, 200, 2, 300], 3000),
        ([100, 1, 200, 200, 2, 300, 300], [100, 1, 200, 200, 2, 300], 400),
        ([100, 100, 1], [100, 100, 1], 3000),  # 0.00 twice would stay for ever
    ],
)
def test_windows_follow_the_timestamps(tokens: list[int], said: list[int], advance: int) -> None:
    assert complete_part(tokens, 100, 3000) == (said, advance)


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        ([5, 6, 7] * 4, "x", True),
        ([1, 2, *[9] * 12], "x", True),
        ([5, 6, 7] * 3, "x", False),
        (list(range(60)), "one two three four", False),
        ([], "", False),
        ([1, 2, 3], "ha " * 200, True),
    ],
)
def test_loops_are_seen(tokens: list[int], text: str, expected: bool) -> None:
    assert is_loop(tokens, text) is expected


def test_prefetching_keeps_order_and_errors() -> None:
    def make(item: int) -> int:
        if item == 5:
            raise DataError("five")
        return item * item

    assert list(prefetched(make, range(4))) == [0, 1, 4, 9]
    squares = prefetched(make, range(9))
    assert [next(squares) for _ in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(DataError, match="five"):
        next(squares)
