"""Joined utterances: each cut once an epoch, drawn afresh and repeatably, batches bounded, with the labels of all."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet
from lhotse.cut import MixedCut
from tiny import speech_cut, tiny_processor

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.joining import join, join_rows
from egrecho_inner.data.batches.log_mel import LogMel, LogMelOnDevice
from egrecho_inner.data.batches.options import (
    AugmentOptions,
    BatchOptions,
    ConcatenateOptions,
    RowOptions,
    TargetOptions,
)
from egrecho_inner.data.batches.plan import Batch, BatchPlan
from egrecho_inner.data.batches.stream import CutStream, StreamPlan
from egrecho_inner.data.batches.targets import TargetBatches
from egrecho_inner.data.batches.tensors import CutBatches
from egrecho_inner.errors import ConfigError
from egrecho_inner.text.labels import LabelEncoder
from egrecho_inner.to_shar import to_shar
from egrecho_inner.training.options import TrainOptions, WindowOptions

SECONDS = np.random.default_rng(0).uniform(0.3, 6.0, 400)
ALIKE = np.arange(400) % 3
HALF = ConcatenateOptions(share=0.5, gap=(0.1, 0.4))
LABELS = LabelEncoder(tiny_processor().tokenizer, "en")


def cuts_of(folder: Path, speakers: list[str | None]) -> list:
    texts = ["one two", "three", "four five", "six", "seven"]
    found = []
    for place, speaker in enumerate(speakers):
        cut = speech_cut(folder, f"u{place}", 0.5 + 0.1 * place, texts[place % 5])
        cut.supervisions[0].speaker = speaker
        found.append(cut)
    return found


def manifest(folder: Path, cuts: list) -> str:
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl")
    return str(folder / "cuts.jsonl")


def test_rows_hold_each_cut_once_within_length_and_kind_and_about_the_share_is_joined() -> None:
    rows = join_rows(SECONDS, ALIKE, HALF, [3, 0])
    assert sorted(rows.positions.tolist()) == list(range(400))
    joined = np.repeat(rows.sizes, rows.sizes) > 1
    assert joined.mean() == pytest.approx(0.5, abs=0.08)
    for row in range(len(rows.sizes)):
        held = rows.positions[rows.starts[row] : rows.starts[row + 1]]
        assert len(set(ALIKE[held])) == 1
        assert rows.seconds[row] == pytest.approx(SECONDS[held].sum() + rows.gaps[row] * (len(held) - 1))
        assert rows.seconds[row] <= 28 and (len(held) == 1 or 0.1 <= rows.gaps[row] <= 0.4)
    lengths = rows.seconds[rows.sizes > 1]
    assert lengths.min() < 10 and lengths.max() > 20  # of every length, not all as long as can be


def test_rows_are_drawn_afresh_and_repeat_exactly() -> None:
    again, other = join_rows(SECONDS, ALIKE, HALF, [3, 0]), join_rows(SECONDS, ALIKE, HALF, [3, 1])
    first = join_rows(SECONDS, ALIKE, HALF, [3, 0])
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first.positions, other.positions)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_batches_keep_their_bound_and_a_resumed_run_goes_on_with_the_same_rows(share: float) -> None:
    rows = RowOptions(HALF, by_time=True, zeros=0.5)
    plan = BatchPlan(SECONDS, BatchOptions(40.0), 5, padded_share=share, rows=rows, alike=ALIKE)
    batches = [batch for step in plan.steps_of(0) for batch in step]
    assert sorted(np.concatenate([batch.positions for batch in batches]).tolist()) == list(range(400))
    assert all(plan.padded_seconds(batch) <= 40 + 1e-6 for batch in batches)
    assert plan.joined_seconds().max() > 20
    fresh = BatchPlan(SECONDS, BatchOptions(40.0), 5, padded_share=share, rows=rows, alike=ALIKE)
    step = plan.steps_per_epoch() + 2
    for one, two in zip(islice(plan.batches(), step, step + 9), islice(fresh.batches(step=step), 9), strict=True):
        assert (list(one.rows()), one.padded, one.epoch) == (list(two.rows()), two.padded, two.epoch)


def test_without_options_the_plan_is_what_it_was() -> None:
    plain = BatchPlan(SECONDS, BatchOptions(40.0), 5, padded_share=0.2)
    given = BatchPlan(SECONDS, BatchOptions(40.0), 5, padded_share=0.2, rows=RowOptions(), alike=ALIKE)
    for one, two in zip(plain.steps_of(1), given.steps_of(1), strict=True):
        assert [(b.positions.tolist(), b.padded) for b in one] == [(b.positions.tolist(), b.padded) for b in two]
    assert all(batch.sizes is None for step in plain.steps_of(0) for batch in step)


def test_a_joined_cut_sounds_like_lhotses_mix_and_has_all_supervisions(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, ["a", "a", "a"])
    joined = join(cuts, 0.25)
    assert joined.id == "u0-0" and joined.duration == pytest.approx(0.5 + 0.6 + 0.7 + 0.5)
    heard = load_audio(joined)
    assert np.array_equal(heard, joined.load_audio()[0])
    assert np.array_equal(heard[:8000], load_audio(cuts[0])) and not heard[8000:12000].any()
    assert join(cuts[:1], 0.25) is cuts[0]
    again = join([joined, cuts[0]], 0.25)  # a mix, too, can be joined
    assert isinstance(again, MixedCut) and np.array_equal(load_audio(again)[: len(heard)], heard)


@pytest.mark.parametrize("inputs", [LogMel, LogMelOnDevice])
def test_a_batch_of_joined_cuts_has_their_labels_one_after_the_other(tmp_path: Path, inputs: type) -> None:
    path = manifest(tmp_path, cuts_of(tmp_path, ["a"] * 4))
    augmenter = Augmenter(AugmentOptions(concatenate=HALF, spec_augment=None), 0)
    options = TargetOptions(timestamps=1.0)
    batches = TargetBatches(CutList(path), LABELS, inputs(80), augmenter, options=options)
    assert batches.timed  # times inside a window are learned
    loaded = batches[Batch(0, np.arange(4), False, None, np.array([3, 1]), np.array([0.2, 0.0]))]
    batches.inputs.to_device(loaded.inputs, torch.device("cpu"))
    assert (loaded.rows, loaded.joined, loaded.ids) == (2, 3, ["u0-0", "u1-0", "u2-0", "u3-0"])
    assert loaded.inputs["attention_mask"].sum(1).tolist() == [220, 80]
    ids = [token for token in loaded.inputs["labels"][0].tolist() if token >= 0]
    text = tiny_processor().tokenizer.decode(ids, decode_with_timestamps=True)
    assert text.split("<|transcribe|>")[-1].replace(" ", "") == (
        "<|0.00|>onetwo<|0.50|><|0.70|>three<|1.30|><|1.50|>fourfive<|2.20|><|endoftext|>"
    )


def test_a_broken_cut_in_a_row_is_skipped_alone(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, ["a"] * 4)
    Path(cuts[1].recording.sources[0].source).write_bytes(b"no audio")
    batches = CutBatches(CutList(manifest(tmp_path, cuts)), LABELS, LogMel(80))
    loaded = batches[Batch(0, np.arange(4), False, None, np.array([4]), np.array([0.2]))]
    assert [name for name, _ in loaded.skipped] == ["u1-0"] and sorted(loaded.ids) == ["u0-0", "u2-0", "u3-0"]
    assert loaded.joined == 2  # the other half stayed together


def test_only_cuts_of_one_language_and_speaker_are_alike(tmp_path: Path) -> None:
    cuts = cuts_of(tmp_path, ["a", "b", "a", None, None])
    cuts[4].supervisions[0].language = "de"
    found = CutList(manifest(tmp_path, cuts))
    a, b, again, unnamed, german = found.alike(same_speaker=True).tolist()
    assert a == again and len({a, b, unnamed, german}) == 4
    a, b, again, unnamed, german = found.alike(same_speaker=False).tolist()
    assert a == b == again == unnamed != german


def test_a_stream_joins_too_and_goes_on_where_it_stood(tmp_path: Path) -> None:
    path = manifest(tmp_path, cuts_of(tmp_path, ["a", "b"] * 10))
    to_shar(path, str(tmp_path / "shar"), shard_size=5)
    rows = RowOptions(ConcatenateOptions(share=0.8, max_seconds=5.0))

    def plan(**state: object) -> StreamPlan:
        cuts = CutStream([str(tmp_path / "shar")])
        return StreamPlan(cuts, BatchOptions(6.0), 3, rows=rows, alike=cuts.alike(True), **state)

    whole = list(islice(plan().batches(), 16))
    seen = [position for batch in whole if batch.epoch == 0 for position in batch.positions.tolist()]
    assert sorted(seen) == list(range(20)) and plan().joined_seconds().max() <= 5
    rest = islice(plan(state=whole[6].state).batches(step=7), 9)
    assert [list(batch.rows()) for batch in rest] == [list(batch.rows()) for batch in whole[7:]]
    batches = CutBatches(CutStream([str(tmp_path / "shar")]), LABELS, LogMel(80))
    assert any(batches[batch].joined for batch in whole[:6])


def test_the_speakers_of_a_large_stream_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to_shar(manifest(tmp_path, cuts_of(tmp_path, ["a", "b", "a"])), str(tmp_path / "shar"), shard_size=5)
    monkeypatch.setattr("egrecho_inner.data.batches.stream.COUNTED", 2)
    stream = CutStream([str(tmp_path / "shar")])
    with pytest.raises(ConfigError, match="all 3 lines of the Shar folders"):
        stream.alike(same_speaker=True)
    assert len(set(stream.alike(same_speaker=False).tolist())) == 1


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_share_of_the_time_is_padded_and_rather_long_rows(share: float) -> None:
    rows = RowOptions(ConcatenateOptions(share=0.4), by_time=True)
    plan = BatchPlan(np.tile(SECONDS, 20), BatchOptions(120.0), 5, padded_share=share, rows=rows)
    batches = [batch for step in plan.steps_of(0) for batch in step]
    padded = [batch for batch in batches if batch.padded]
    total = sum(map(plan.padded_seconds, batches))
    assert sum(map(plan.padded_seconds, padded)) / total == pytest.approx(share, rel=0.2)
    cuts = [sum(len(row[0]) for row in batch.rows()) / len(list(batch.rows())) for batch in padded]
    assert np.mean(cuts) > 1.5  # by cuts almost every padded row would have one
    by_cuts = BatchPlan(np.tile(SECONDS, 20), BatchOptions(120.0), 5, padded_share=share)
    assert total < sum(by_cuts.padded_seconds(batch) for step in by_cuts.steps_of(0) for batch in step)


def test_nothing_is_padded_before_the_last_share_of_the_epochs() -> None:
    window = WindowOptions("mixed", 0.3, last=0.25)
    rows = window.rows(None, TrainOptions(num_epochs=4))
    plan = BatchPlan(SECONDS, BatchOptions(120.0), 5, padded_share=window.padded_share, rows=rows)
    padded = [any(batch.padded for step in plan.steps_of(epoch) for batch in step) for epoch in range(4)]
    assert padded == [False, False, False, True]
    assert plan.largest().padded  # what memory must hold comes later
    with pytest.raises(ConfigError, match="leave train"):
        window.rows(None, TrainOptions(max_steps=9))
    assert replace(window, window="longest").rows(None, TrainOptions(max_steps=9)).padded_from == 0


@pytest.mark.parametrize("inputs", [LogMel, LogMelOnDevice])
def test_zeros_are_what_openai_whisper_puts_behind_the_log_mel(tmp_path: Path, inputs: type) -> None:
    cuts = CutList(manifest(tmp_path, cuts_of(tmp_path, ["a"] * 2)))
    batches = CutBatches(cuts, LABELS, inputs(80))
    found = {}
    for padded in (True, "zeros"):
        loaded = batches[Batch(0, np.arange(2), padded)]
        batches.inputs.to_device(loaded.inputs, torch.device("cpu"))
        found[padded] = loaded.inputs["input_features"]
        assert "attention_mask" not in loaded.inputs and loaded.row_seconds == 30
    for row, frames in enumerate((50, 60)):
        assert torch.equal(found["zeros"][row, :, :frames], found[True][row, :, :frames])
        assert not found["zeros"][row, :, frames:].any()
        assert (found[True][row, :, frames + 2 :] < -0.5).all()


def test_zeros_are_drawn_for_their_share_of_the_padded_batches() -> None:
    rows = RowOptions(zeros=0.5)
    plan = BatchPlan(np.tile(SECONDS, 10), BatchOptions(120.0), 5, padded_share=1.0, rows=rows)
    ways = [batch.padded for step in plan.steps_of(0) for batch in step]
    assert set(ways) == {True, "zeros"} and np.mean([way == "zeros" for way in ways]) == pytest.approx(0.5, abs=0.05)
