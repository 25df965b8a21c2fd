"""What is learned for a cut: chosen afresh for every epoch, the same on every resume, never malformed."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import speech_cut, tiny_processor

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.batches.log_mel import LogMel, LogMelOnDevice
from egrecho_inner.data.batches.options import AugmentOptions, SpeedOptions, TargetOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.targets import TargetBatches, choose, played
from egrecho_inner.data.cuts.fields import Transcript
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import IGNORED, MAX_TOKENS
from egrecho_inner.text.labels import LabelEncoder, Labels, Segment

TEACHER = {
    "text": "won too",
    "language": "en",
    "task": "transcribe",
    "segments": [[0.0, 0.5, "won"], [0.5, 1.0, "too"]],
    "previous": "zero",
    "truncated": False,
}


@pytest.fixture
def labels() -> LabelEncoder:
    return LabelEncoder(tiny_processor().tokenizer, "en")


def cut_of(folder: Path, **teacher: Any) -> Any:
    cut = speech_cut(folder, "u", 1.0, "one two")
    cut.supervisions[0].custom = {"teacher": {**TEACHER, **teacher}}
    return cut


def label(cut: Any, labels: LabelEncoder, options: TargetOptions) -> Labels:
    return TargetBatches([cut], labels, LogMel(80), options=options).label(cut, 0)


def names(ids: list[int]) -> list[str]:
    tokens = tiny_processor().tokenizer.convert_ids_to_tokens(ids)
    return [token for token in tokens if token.startswith("<|")]


def test_choices_are_drawn_afresh_each_epoch_and_repeat_exactly() -> None:
    # the published code froze them in its cache: every epoch was the same
    options = TargetOptions(timestamps=0.2, previous=0.2)
    drawn = np.array([[choose(options, 7, epoch, f"cut{n}") for n in range(400)] for epoch in range(20)])  # (E, N, 2)
    assert drawn.mean(axis=(0, 1)) == pytest.approx([0.2, 0.2], abs=0.02)
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.04)
    assert choose(options, 7, 3, "cut5") == tuple(drawn[3, 5])
    assert not np.array_equal(drawn[0], [choose(options, 8, 0, f"cut{n}") for n in range(400)])
    assert all(choose(TargetOptions(timestamps=1.0), 0, e, "x") == (True, False) for e in range(9))


def test_noise_takes_the_place_of_other_cuts_each_epoch_and_nothing_is_learned_but_silence(
    tmp_path: Path, labels: LabelEncoder
) -> None:
    folder = tmp_path / "cuts"
    cuts = [speech_cut(folder, f"u{n}", 0.5 + n / 20, "one two") for n in range(8)]
    options = TargetOptions(timestamps=1.0, no_speech=0.4)
    batches = TargetBatches(cuts, labels, LogMel(80), options=options, seed=3)
    own = TargetBatches(cuts, labels, LogMel(80))[Batch(0, np.arange(8), False)].inputs
    silent = ["<|startoftranscript|>", "<|nospeech|>"]
    drawn = []
    for epoch in range(4):
        batch = Batch(epoch, np.arange(8), False)
        made, again = batches[batch], TargetBatches(cuts, labels, LogMel(80), options=options, seed=3)[batch]
        for name, value in made.inputs.items():  # the same bits from another start, as after a kill
            assert torch.equal(value, again.inputs[name]), name
        is_noise = [names(row)[:2] == silent for row in made.inputs["decoder_input_ids"].tolist()]
        drawn.append(is_noise)
        for row, noise in enumerate(is_noise):
            target = [each for each in made.inputs["labels"][row].tolist() if each != IGNORED]
            frames = int(made.inputs["attention_mask"][row].sum())
            assert frames == int(own["attention_mask"][row].sum()), "as long as the cut"
            same = torch.equal(made.inputs["input_features"][row], own["input_features"][row])
            assert same != noise, "what is not called silence is the cut's own audio"
            assert (target == [labels.no_speech, labels.eot]) == noise
    share = np.mean(drawn)
    assert 0.2 < share < 0.6 and len({tuple(epoch) for epoch in drawn}) == 4, "drawn afresh"
    assert not any(names(batches.label(cut, 0).inputs) == silent for cut in cuts if not batches.noise.replaces(cut, 0))
    other = TargetBatches(cuts, labels, LogMel(80), options=options, seed=4)
    assert [other.noise.replaces(cut, 0) for cut in cuts] != drawn[0]


@pytest.mark.parametrize("kind", [LogMel, LogMelOnDevice])
def test_noise_has_the_features_of_its_wave_wherever_they_are_computed(
    tmp_path: Path, labels: LabelEncoder, kind: type[LogMel]
) -> None:
    cut = speech_cut(tmp_path, "u", 1.0)
    batches = TargetBatches([cut], labels, kind(80), options=TargetOptions(no_speech=1.0), beside_reference=True)
    made = batches[Batch(2, [0], False)].inputs
    batches.inputs.to_device(made, torch.device("cpu"))
    wave = batches.noise.wave(cut, 2)
    assert np.allclose(made["input_features"][0, :, :100].T, log_mel(wave, 80)[:100], atol=1e-4)
    assert torch.equal(made["labels"], made["reference_labels"])
    with pytest.raises(ConfigError, match="teacher_logits has no tokens for noise"):
        TargetBatches([cut], labels, kind(80), options=TargetOptions(no_speech=0.1), cache=object())


def test_one_previous_text_token_and_no_loss_on_the_prompt(tmp_path: Path, labels: LabelEncoder) -> None:
    # published: the stored prompt began with <|startofprev|> and got another; or held the start, and was learned
    made = label(cut_of(tmp_path), labels, TargetOptions("teacher", timestamps=0, previous=1))
    assert names(made.inputs) == [
        "<|startofprev|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>",
    ]  # fmt: skip
    start = made.inputs.index(labels.sot)
    assert set(made.targets[:start]) == {IGNORED}
    assert made.targets[start:] == [*made.inputs[start + 1 :], labels.eot]


def test_the_prefix_is_whole_with_and_without_times(tmp_path: Path, labels: LabelEncoder) -> None:
    # published: generate() no longer returns the prefix, and <|notimestamps|> was put inside the text
    for share, begin in ((0.0, ["<|notimestamps|>"]), (1.0, ["<|0.00|>", "<|0.50|>", "<|0.50|>", "<|1.00|>"])):
        made = label(cut_of(tmp_path), labels, TargetOptions("teacher", timestamps=share))
        assert names(made.inputs) == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", *begin]
        assert labels.decode(made.targets[:-1]) in ("won too", "won  too")


def test_a_plain_utterance_has_the_times_of_its_beginning_and_end(tmp_path: Path, labels: LabelEncoder) -> None:
    cut = speech_cut(tmp_path, "u", 1.5, "one two")
    made = label(cut, labels, TargetOptions(timestamps=1.0))
    assert names(made.inputs) == ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|0.00|>", "<|1.50|>"]
    assert names(label(cut, labels, TargetOptions()).inputs)[-1] == "<|notimestamps|>"
    cut.supervisions[0].text = ""
    assert names(label(cut, labels, TargetOptions(timestamps=1.0)).inputs) == ["<|startoftranscript|>", "<|nospeech|>"]


def test_times_are_those_of_the_audio_as_it_is_played(tmp_path: Path, labels: LabelEncoder) -> None:
    options = AugmentOptions(spec_augment=None, speed=SpeedOptions(factors=(1.25,)))
    cuts = [speech_cut(tmp_path, "u", 1.5, "one two"), speech_cut(tmp_path, "long", 29.0, "one")]
    batches = TargetBatches(cuts, labels, LogMel(80), Augmenter(options, 0), options=TargetOptions(timestamps=1.0))
    assert names(batches.label(cuts[0], 0).inputs)[-2:] == ["<|0.00|>", "<|1.20|>"]
    assert batches.inputs.load(cuts[0], 0, batches.augmenter)[1] == 120
    slow = AugmentOptions(spec_augment=None, speed=SpeedOptions(factors=(0.9,)))
    batches = TargetBatches(cuts, labels, LogMel(80), Augmenter(slow, 0), options=TargetOptions(timestamps=1.0))
    assert names(batches.label(cuts[1], 0).inputs)[-1] == "<|29.00|>", "it would be over 30 s, and keeps its speed"


def test_timestamps_that_no_cut_has_are_reported(
    tmp_path: Path, labels: LabelEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("egrecho_inner").propagate = True
    with caplog.at_level(logging.WARNING, logger="egrecho_inner"):
        for cut, source in ((cut_of(tmp_path), "teacher"), (speech_cut(tmp_path, "v", 1.0, "one"), "reference")):
            TargetBatches([cut], labels, LogMel(80), options=TargetOptions(source, timestamps=1.0))
        assert not caplog.text
        TargetBatches(
            [cut_of(tmp_path, segments=[])], labels, LogMel(80), options=TargetOptions("teacher", timestamps=0.2)
        )
    assert "targets.timestamps 0.2 has no effect: none of 1 cuts" in caplog.text


def test_a_broken_off_text_is_not_taught_to_end(tmp_path: Path, labels: LabelEncoder) -> None:
    assert label(cut_of(tmp_path), labels, TargetOptions("teacher")).targets[-1] == labels.eot
    assert label(cut_of(tmp_path, truncated=True), labels, TargetOptions("teacher")).targets[-1] == IGNORED
    timed = label(cut_of(tmp_path, truncated=True), labels, TargetOptions("teacher", timestamps=1.0)).targets
    assert timed[-2:] == [IGNORED, IGNORED]  # nobody knows when its last part ends either
    assert timed[-3] != IGNORED


def test_what_the_teacher_heard_decides_language_and_task(tmp_path: Path, labels: LabelEncoder) -> None:
    made = label(cut_of(tmp_path, language="de", task="translate"), labels, TargetOptions("teacher"))
    assert names(made.inputs)[1:3] == ["<|de|>", "<|translate|>"]


def test_a_cut_without_the_teachers_text_is_named(tmp_path: Path, labels: LabelEncoder) -> None:
    with pytest.raises(DataError, match="pseudo-label"):
        label(speech_cut(tmp_path, "u", 1.0), labels, TargetOptions("teacher"))


def test_no_choice_makes_more_tokens_than_the_decoder_has_places(tmp_path: Path, labels: LabelEncoder) -> None:
    options = TargetOptions("teacher", timestamps=1, previous=1)
    for length in (10, 200, 300, 430, 442):
        text = "a" * length
        cut = cut_of(tmp_path, text=text, segments=[[0, 1, text]], previous="b " * 400)
        try:
            made = label(cut, labels, options)
        except DataError:
            assert length > 430
            continue
        assert len(made.inputs) == len(made.targets) <= MAX_TOKENS
        assert made.inputs.count(labels.id("<|startofprev|>")) <= 1
    with pytest.raises(DataError, match="448"):
        label(cut_of(tmp_path, segments=[[0, 1, "a" * 460]]), labels, options)


def test_a_part_without_an_end_is_played_at_another_speed() -> None:
    parts = (Segment(2.0, 4.0, "a"), Segment(4.0, None, "b"))
    made = played(Transcript("a b", "en", segments=parts), 2.0)
    assert made.segments == (Segment(1.0, 2.0, "a"), Segment(2.0, None, "b"))


def test_the_true_transcript_stands_beside(tmp_path: Path, labels: LabelEncoder) -> None:
    cuts = [cut_of(tmp_path), cut_of(tmp_path, text="won")]
    batches = TargetBatches(cuts, labels, LogMel(80), options=TargetOptions("teacher"), beside_reference=True)
    batch = batches[Batch(0, np.array([0, 1]), False)]
    said = [labels.decode(row[row >= 0].tolist()) for row in batch.inputs["reference_labels"]]
    assert said == ["one two", "one two"]
    assert [labels.decode(row[row >= 0].tolist()) for row in batch.inputs["labels"]] == ["won too", "won"]
    # a batch of which nothing can be used still has all its tensors
    nothing = TargetBatches(
        [speech_cut(tmp_path, "v", 1.0)], labels, LogMel(80), options=TargetOptions("teacher"), beside_reference=True
    )[Batch(0, np.array([0]), False)]
    assert nothing.inputs["reference_labels"].shape == (1, 1)
    assert torch.equal(nothing.inputs["labels"], torch.tensor([[IGNORED]]))


def test_probabilities_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"targets\.timestamps"):
        TargetOptions(timestamps=20)
