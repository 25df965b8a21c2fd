"""Batches: what Transformers' extractor gives, from waves or stored features; what is broken is skipped and told."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet
from lhotse.cut import MixedCut, MonoCut
from tiny import speech_cut, speech_cuts, tiny_processor, tones
from transformers import WhisperFeatureExtractor

from egrecho_inner.compute_features import compute_features
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import Batch, BatchPlan
from egrecho_inner.data.batches.tensors import CutBatches, LoadedBatch, PlanSampler, make_loader
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import IGNORED
from egrecho_inner.text.labels import LabelEncoder

LABELS = LabelEncoder(tiny_processor().tokenizer, language="en")


def write(path: Path, cuts: list[MonoCut | MixedCut]) -> str:
    CutSet.from_cuts(cuts).to_file(path)
    return str(path)


def batch_of(cuts: CutList, padded: bool = False, n_mels: int = 80) -> LoadedBatch:
    return CutBatches(cuts, LABELS, LogMel(n_mels))[Batch(0, np.arange(len(cuts)), padded)]


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> str:
    return str(speech_cuts(tmp_path_factory.mktemp("speech"), n=6))


@pytest.fixture(scope="module", params=[80, 128])
def manifests(request, waves) -> tuple[int, str, str]:
    """Mel bins, a manifest without features, and one with features stored by the program."""
    stored = Path(waves).parent / f"mel{request.param}" / "x_cuts_train.jsonl.gz"
    compute_features(waves, str(stored), num_mel_bins=request.param)
    return request.param, waves, str(stored)


def expected_features(cuts: CutList, n_mels: int) -> torch.Tensor:
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    heard = [load_audio(cuts[position]) for position in range(len(cuts))]
    return extractor(heard, sampling_rate=16000, return_tensors="pt").input_features


def test_a_batch_of_30_s_is_what_transformers_makes_of_the_waves(manifests) -> None:
    n_mels, *paths = manifests
    expected = expected_features(CutList(paths[0]), n_mels)
    for path, precision in zip(paths, (1e-5, 2**-9 + 1e-5), strict=True):
        cuts = CutList(path)
        assert cuts[0].has_features == (path == paths[1])
        batch = batch_of(cuts, padded=True, n_mels=n_mels)
        assert batch.inputs["input_features"].shape == (6, n_mels, 3000) and "attention_mask" not in batch.inputs
        assert (batch.inputs["input_features"] - expected).abs().max() <= precision
        assert batch.padded_seconds == 6 * 30


def test_a_batch_of_its_own_length_is_the_same_frames_and_masks_the_rest(manifests) -> None:
    n_mels, *paths = manifests
    expected = expected_features(CutList(paths[0]), n_mels)
    for path, precision in zip(paths, (1e-5, 2**-9 + 1e-5), strict=True):
        cuts = CutList(path)
        batch = batch_of(cuts, n_mels=n_mels)
        frames = [(cuts[i].num_samples + 80) // 160 for i in range(6)]
        assert batch.inputs["attention_mask"].sum(1).tolist() == frames
        assert batch.inputs["input_features"].shape == (6, n_mels, max(frames)) and len(set(frames)) > 1
        for row, length in enumerate(frames):
            assert batch.inputs["attention_mask"][row, :length].all()
            own = batch.inputs["input_features"][row, :, :length]
            assert (own - expected[row, :, :length]).abs().max() <= precision
        assert batch.seconds == pytest.approx(sum(cut.duration for cut in CutSet.from_file(path)))


def test_labels_of_a_batch_are_those_of_its_cuts(waves) -> None:
    cuts = CutList(waves)
    batch = batch_of(cuts)
    assert batch.ids == [cuts[i].id for i in range(6)] and batch.skipped == []
    for row in range(6):
        spoken = cuts[row].supervisions[0]
        own = LABELS.encode(spoken.text, spoken.language)
        size = len(own.inputs)
        assert batch.inputs["decoder_input_ids"][row, :size].tolist() == own.inputs
        assert batch.inputs["labels"][row, :size].tolist() == own.targets
        assert set(batch.inputs["labels"][row, size:].tolist()) <= {IGNORED}


def broken_ones(folder: Path) -> list[MonoCut]:
    """A missing file, a truncated one, one with NaN, an unknown language, and a special token in the text."""
    missing, short, nan, foreign, special = (
        speech_cut(folder, name, 1.0, "one") for name in ("missing", "short", "nan", "foreign", "special")
    )
    (folder / "missing.wav").unlink()
    soundfile.write(folder / "short.wav", np.zeros(4000, dtype=np.float32), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    foreign.supervisions[0].language = "Klingon"
    special.supervisions[0].text = "one <|endoftext|>"
    return [missing, short, nan, foreign, special]


def test_a_broken_cut_is_skipped_with_its_reason_and_the_batch_goes_on(tmp_path) -> None:
    good = [speech_cut(tmp_path, f"good{i}", 1.0 + i / 10, "one two", seed=i) for i in range(2)]
    broken = broken_ones(tmp_path)
    batch = batch_of(CutList(write(tmp_path / "cuts.jsonl", [*broken[:2], good[0], *broken[2:], good[1]])))
    assert batch.ids == ["good0-0", "good1-0"]
    alone = batch_of(CutList(write(tmp_path / "good.jsonl", good)))
    for name in ("input_features", "attention_mask", "decoder_input_ids", "labels"):
        assert torch.equal(batch.inputs[name], alone.inputs[name]), name
    assert batch.seconds == alone.seconds and batch.padded_seconds == alone.padded_seconds
    reasons = dict(batch.skipped)
    assert list(reasons) == ["missing-0", "short-0", "nan-0", "foreign-0", "special-0"]
    for name, words in (("short", "0.250 s where the cut says 1.000 s"), ("nan", "NaN"), ("foreign", "'Klingon'")):
        assert words in reasons[f"{name}-0"]
    assert "missing.wav" in reasons["missing-0"] and "special token" in reasons["special-0"]
    assert all(name in reason for name, reason in reasons.items()), "every reason names its cut"


@pytest.mark.parametrize("padded", [False, True])
def test_a_batch_of_broken_cuts_only_has_a_shape_but_no_target(tmp_path, padded: bool) -> None:
    batch = batch_of(CutList(write(tmp_path / "cuts.jsonl", broken_ones(tmp_path))), padded)
    assert batch.ids == [] and batch.seconds == 0 and len(batch.skipped) == 5
    assert (
        batch.inputs["input_features"].shape == (1, 80, 3000 if padded else 100)
        and batch.inputs["input_features"].isfinite().all()
    )
    assert (batch.inputs["labels"] == IGNORED).all() and batch.inputs["decoder_input_ids"].shape == batch.inputs[
        "labels"
    ].shape


def lined_up(folder: Path, seconds: list[float], texts: list[str | None]) -> list[MonoCut]:
    """Return cuts whose audio nobody reads."""
    line = speech_cut(folder, "line", 0.5, "one").to_dict()
    cuts = []
    for number, (length, text) in enumerate(zip(seconds, texts, strict=True)):
        cut = MonoCut.from_dict(json.loads(json.dumps(line)))
        cut.id, cut.duration, cut.recording.duration, cut.recording.num_samples = f"c{number}", length, 60.0, 960000
        cut.supervisions[0].text = text
        cut.supervisions = [] if text is None else cut.supervisions
        cuts.append(cut)
    return cuts


def test_what_cannot_be_trained_on_is_left_out_counted_and_limited(tmp_path) -> None:
    seconds = [1.0, 30.0, 30.001, 0.1, 0.05, 2.0, 2.0, 2.0, 2.0, 2.0]
    texts = ["one", "one", "one", "one", "one", "a" * 443, "a" * 444, None, "", "é" * 230]
    path = write(tmp_path / "cuts.jsonl", lined_up(tmp_path, seconds, texts))
    cuts = CutList(path)
    cuts.keep_trainable(LABELS, max_skip_ratio=0.5, no_speech=True)
    assert [cuts[i].id for i in range(len(cuts))] == ["c0", "c1", "c3", "c5", "c8"]
    reasons = {"over 30 s": 1, "under 0.1 s": 1, "without supervision": 1, "over 448 tokens": 2}
    assert cuts.left_out == reasons
    assert cuts.summary() == "1 over 30 s, 1 under 0.1 s, 1 without supervision, 2 over 448 tokens"
    assert cuts.durations.tolist() == [1.0, 30.0, 0.1, 2.0, 2.0]
    with pytest.raises(DataError, match=r"5 of 10 training cuts cannot be used \(1 over 30 s.*max_skip_ratio 0\.4;"):
        CutList(path).keep_trainable(LABELS, max_skip_ratio=0.4, no_speech=True)
    cuts.keep_short(1.0)
    assert cuts.durations.tolist() == [1.0, 0.1] and cuts.left_out == reasons  # by choice, so not counted
    with pytest.raises(ConfigError, match=r"data.max_seconds 0.01 leaves no cut"):
        cuts.keep_short(0.01)


def test_cuts_with_more_tokens_than_a_limit_are_left_out_by_choice(tmp_path) -> None:
    texts = ["one", "a" * 20, "a" * 21, "é" * 10, "é" * 11]  # a token is a byte here, five more are special
    cuts = CutList(write(tmp_path / "cuts.jsonl", lined_up(tmp_path, [1.0] * 5, texts)))
    cuts.keep_trainable(LABELS, max_skip_ratio=0.0)
    cuts.keep_brief(LABELS, None)
    assert len(cuts) == 5
    cuts.keep_brief(LABELS, 25)
    assert [cuts[i].id for i in range(len(cuts))] == ["c0", "c1", "c3"] and not cuts.left_out
    with pytest.raises(ConfigError, match=r"data.max_tokens 6 leaves no cut"):
        cuts.keep_brief(LABELS, 6)


def test_no_cut_left_is_an_error_whatever_the_limit(tmp_path) -> None:
    path = write(tmp_path / "cuts.jsonl", lined_up(tmp_path, [31.0], ["one"]))
    with pytest.raises(DataError, match="1 of 1 training cuts cannot be used"):
        CutList(path).keep_trainable(LABELS, max_skip_ratio=1.0)


def test_a_long_text_with_a_special_token_is_left_to_be_skipped(tmp_path) -> None:
    cuts = CutList(write(tmp_path / "cuts.jsonl", lined_up(tmp_path, [2.0, 2.0], ["one", "a" * 440 + "<|vi|>"])))
    cuts.keep_trainable(LABELS, max_skip_ratio=0.0)
    assert len(cuts) == 2


def test_several_manifests_are_one_list(tmp_path, waves) -> None:
    more = write(tmp_path / "more.jsonl.gz", lined_up(tmp_path, [1.0, 2.0], ["one", "two"]))
    last = write(tmp_path / "last.jsonl", [cut.with_id(f"{cut.id}-again") for cut in CutSet.from_file(more)])
    cuts = CutList([more, waves, last])
    ids = [cut.id for part in (more, waves, last) for cut in CutSet.from_file(part)]
    assert [cuts[i].id for i in range(len(cuts))] == ids and len(cuts.durations) == 10
    assert cuts.digest == "+".join([CutList(more).digest, CutList(waves).digest, CutList(last).digest])
    with pytest.raises(ConfigError, match="no manifest of cuts is given"):
        CutList([])


def test_a_limited_draw_is_that_of_the_seed_and_in_order(waves) -> None:
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        cuts = CutList(waves)
        cuts.draw(3, seed)
        drawn.append([cuts[i].id for i in range(3)])
        assert drawn[-1] == sorted(drawn[-1]) and len(cuts) == 3
    assert drawn[0] == drawn[1] and len(set(map(tuple, drawn))) > 1
    cuts.draw(None, 0)
    cuts.draw(50, 0)
    assert len(cuts) == 3


def test_features_of_other_mel_bins_are_refused_before_training(manifests) -> None:
    n_mels, _, stored = manifests
    other = 208 - n_mels
    with pytest.raises(DataError, match=f"have {n_mels} mel bins, the model needs {other}; make them again"):
        CutBatches(CutList(stored), LABELS, LogMel(other))


def test_a_mix_is_heard_even_if_its_parts_have_features(manifests, tmp_path) -> None:
    n_mels, _, stored = manifests
    first, second = list(CutSet.from_file(stored))[:2]
    mixed = first.mix(second, offset_other_by=0.2, snr=10)
    batch = batch_of(CutList(write(tmp_path / "mixed.jsonl", [mixed])), padded=True, n_mels=n_mels)
    assert batch.skipped == []
    wave = load_audio(mixed)
    expected = WhisperFeatureExtractor(feature_size=n_mels)(wave, sampling_rate=16000, return_tensors="pt")
    assert (batch.inputs["input_features"] - expected.input_features).abs().max() <= 1e-4


def same(one: LoadedBatch, other: LoadedBatch) -> bool:
    tensors = [torch.equal(one.inputs[k], other.inputs[k]) for k in one.inputs]
    return one.inputs.keys() == other.inputs.keys() and all(tensors) and one.ids == other.ids


def test_workers_and_resuming_change_no_batch_and_the_global_random_state_is_left_alone(waves) -> None:
    cuts = CutList(waves)
    plan = BatchPlan(cuts.durations, BatchOptions(max_duration=4.0), seed=3)
    batches = CutBatches(cuts, LABELS, LogMel(80))
    expected = [batches[batch] for batch in islice(plan.batches(), 9)]
    start = {"step": 0}
    for workers, step in ((0, 0), (1, 0), (0, 4), (1, 4)):
        start["step"] = step
        torch.manual_seed(5)
        np.random.seed(5)
        loader = make_loader(batches, PlanSampler(plan, 0, lambda: start["step"]), workers)
        found = list(islice(loader, 9 - step))
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(5)))
        assert np.random.random() == np.random.RandomState(5).random_sample()
        assert all(same(*pair) for pair in zip(found, expected[step:], strict=True))


def test_processes_of_a_run_load_different_cuts(waves) -> None:
    cuts = CutList(waves)
    plan = BatchPlan(cuts.durations, BatchOptions(max_duration=None, batch_size=1), world_size=2)
    ranks = [
        [
            batch.ids
            for batch in islice(make_loader(CutBatches(cuts, LABELS, LogMel(80)), PlanSampler(plan, r, int), 0), 3)
        ]
        for r in range(2)
    ]
    assert sorted(name for ids in ranks for each in ids for name in each) == sorted(
        c.id for c in CutSet.from_file(waves)
    )


def test_a_wave_just_under_30_s_fills_the_window(tmp_path) -> None:
    wave = tones(["one"], 29.999, np.random.default_rng(0))
    cut = speech_cut(tmp_path, "long", 29.999, "one")
    assert cut.num_samples == len(wave)
    cuts = CutList(write(tmp_path / "cuts.jsonl", [cut]))
    cuts.keep_trainable(LABELS, 0.0)
    batch = batch_of(cuts)
    assert batch.inputs["input_features"].shape == (1, 80, 3000) and batch.inputs["attention_mask"].all()
    assert (batch.inputs["input_features"] - expected_features(cuts, 80)).abs().max() <= 1e-5
