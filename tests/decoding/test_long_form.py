"""Long audio: parts cover it, are as long as what a model learned, and overlaps are kept once; fallback; prompts."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import speech_cut, tiny_model, tiny_processor
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.generation_whisper import _dynamic_time_warping

from egrecho_inner.data.audio.features import log_mel
from egrecho_inner.data.audio.load import load_audio
from egrecho_inner.decoding.fallback import Sampler, decode_with_fallback, is_poor
from egrecho_inner.decoding.long_form import Lengths, merge_overlaps, parts_of
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.decoding.passages import transcript_of
from egrecho_inner.decoding.pieces import Piece
from egrecho_inner.decoding.recognize import Found
from egrecho_inner.decoding.transcribe import Transcriber, part_lengths
from egrecho_inner.decoding.word_times import warp
from egrecho_inner.errors import ConfigError


def test_parts_are_as_long_as_what_was_learned_and_end_in_pauses() -> None:
    feats = np.ones((3000, 80), dtype=np.float32)
    pauses = range(220, 3000, 260)
    for pause in pauses:
        feats[pause : pause + 40] = -1.0
    parts = parts_of(feats, Lengths(260, 600))
    assert (parts[0][0], parts[-1][1]) == (0, 3000)
    assert all(end - begin <= 600 for begin, end, _ in parts)
    assert all(before[1] == after[0] and after[2] == 0 for before, after in pairwise(parts))
    assert all(min(abs(end - pause - 20) for pause in pauses) <= 20 for _, end, _ in parts[:-1])
    assert len(parts) >= len(pauses) - 1


def test_a_cut_through_speech_is_in_both_parts() -> None:
    rng = np.random.default_rng(0)
    feats = np.repeat(rng.normal(1, 0.2, (3000, 1)), 80, axis=1).astype(np.float32)
    feats[1500:1800] = -1.5  # one silence, so that there is quiet and loud
    parts = parts_of(feats, Lengths(300, 600))
    assert all(end - begin <= 600 for begin, end, _ in parts)
    assert any(overlap > 50 for _, _, overlap in parts)
    for before, after in pairwise(parts):
        assert before[1] - after[0] == after[2]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([[1, 2, 3, 4], [3, 4, 5, 6]], [[1, 2, 3, 4], [5, 6]]),
        ([[1, 2, 3, 4, 99], [98, 3, 4, 5, 6]], [[1, 2, 3, 4], [5, 6]]),  # what was cut in two is left out
        ([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [5, 6, 7, 8]]),
        ([[], [1, 2]], [[], [1, 2]]),
    ],
)
def test_what_two_parts_recognised_is_kept_once(parts: list[list[int]], expected: list[list[int]]) -> None:
    assert merge_overlaps(parts, [400, 400], [0, 160]) == expected
    assert merge_overlaps(parts, [400, 400], [0, 0]) == parts


def test_part_lengths_come_from_the_option_or_the_models_folder() -> None:
    model = tiny_model(tiny_processor())
    assert part_lengths(model, DecodeOptions()) == Lengths(3000, 3000)
    model.config.learned_seconds = [2.5, 6.2]
    assert part_lengths(model, DecodeOptions()) == Lengths(250, 620, 820)
    model.config.learned_seconds = [0.4, 1.0]  # single words: a slower speaker's are not cut
    assert part_lengths(model, DecodeOptions()) == Lengths(40, 100, 300)
    model.config.learned_seconds = [7, 20]
    assert part_lengths(model, DecodeOptions()) == Lengths(700, 2000, 2500)
    model.config.learned_seconds = [2.5, 6.2]
    assert part_lengths(model, DecodeOptions(max_part_seconds=10)) == Lengths(250, 1000, 1000)
    del model.config.learned_seconds
    assert part_lengths(model, DecodeOptions(max_part_seconds=10)) == Lengths(600, 1000, 1000)
    with pytest.raises(ConfigError, match="expected 1 to 30"):
        DecodeOptions(max_part_seconds=31)


@pytest.mark.parametrize("previous", [False, True])
def test_timestamps_lead_through_a_recording_as_in_transformers(tmp_path: Path, previous: bool) -> None:
    processor = tiny_processor()
    model = tiny_model(processor, ending=2.0, seed=4)
    with torch.no_grad():  # so that it gives several times in a window
        model.proj_out.weight[processor.tokenizer.convert_tokens_to_ids("<|0.00|>") :] *= 3
    cut = speech_cut(tmp_path, "long", 75.0, "one two three four five", seed=1)
    options = DecodeOptions(long_form="timestamps", window="30s-zeros", previous_text=previous)
    windows = dict(Transcriber(model, processor, options).windows([cut]))[0]
    assert len(windows) > 3  # some ended at a timestamp, or nothing is shown
    theirs = WhisperForConditionalGeneration(model.config).eval()
    theirs.load_state_dict(model.state_dict())
    theirs.generation_config = model.generation_config
    feats = torch.from_numpy(log_mel(load_audio(cut)).T[None])
    with torch.no_grad():
        found = theirs.generate(
            feats,
            attention_mask=torch.ones(1, feats.shape[-1], dtype=torch.int64),
            return_timestamps=True,
            language="en",
            task="transcribe",
            condition_on_prev_tokens=previous,
            return_segments=True,
            temperature=0.0,
        )
    segments = found["segments"][0]
    text = [
        token
        for segment in segments
        for token in segment["tokens"].tolist()
        if token < processor.tokenizer.eos_token_id
    ]
    ours = [token for window in windows for token in window.found.tokens if token < processor.tokenizer.eos_token_id]
    assert ours == text
    passages = transcript_of(Transcriber(model, processor, options), windows, cut.duration).passages
    # Transformers lets the last window's times run on behind the end of the audio
    times = [tuple(min(round(float(s[key]), 2), 75.0) for key in ("start", "end")) for s in segments]
    assert {(p.start, p.end) for p in passages} <= set(times)


def test_what_is_poor_is_decoded_again_and_silence_is_not() -> None:
    options = DecodeOptions(temperatures=[0.0, 0.4, 0.8], no_speech_threshold=0.6)
    good = Found([1], -0.2, 0.0, False, "en")
    unlikely, silent = replace(good, avg_logprob=-2.0), replace(good, avg_logprob=-2.0, no_speech=0.9)
    looped = replace(good, tokens=[2])
    asked = []

    def decode(rows: list[int], temperature: float) -> list[Found]:
        asked.append((rows, temperature))
        return [good if temperature == 0.8 else [good, unlikely, silent, looped][row] for row in rows]

    texts = {(1,): "hello", (2,): "no " * 60}
    found = decode_with_fallback(4, decode, lambda tokens: texts[tuple(tokens)], options)
    assert asked == [([0, 1, 2, 3], 0.0), ([1, 3], 0.4), ([1, 3], 0.8)]
    assert [each.temperature for each in found] == [0.0, 0.8, 0.0, 0.8]
    assert not is_poor(unlikely, "hello", replace(options, logprob_threshold=None))
    assert not is_poor(looped, "no " * 60, replace(options, compression_ratio_threshold=None))


def test_what_is_drawn_depends_on_the_utterance_alone() -> None:
    pieces = [Piece(name, 0, 0, 1, np.zeros((1, 1)), 1, None) for name in "abc"]
    scores = torch.log(torch.tensor([0.5, 0.3, 0.2, 0.0])).expand(3, -1)
    drawn = torch.stack([Sampler(1.0, pieces, 0)(scores, torch.arange(3))[1] for _ in range(1)])
    alone = [Sampler(1.0, [piece], 0)(scores[:1], torch.tensor([0]))[1] for piece in pieces]
    assert drawn.tolist() == [[int(each) for each in alone]]
    sampler = Sampler(1.0, pieces[:1], 1)
    counts = np.bincount([int(sampler(scores[:1], torch.tensor([0]))[1]) for _ in range(2000)], minlength=4) / 2000
    assert counts == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.05) and counts[3] == 0
    cold = Sampler(0.01, pieces[:1], 1)
    assert {int(cold(scores[:1], torch.tensor([0]))[1]) for _ in range(20)} == {0}


def test_a_prompt_changes_the_text_as_in_transformers(tmp_path: Path) -> None:
    processor, cut = tiny_processor(), speech_cut(tmp_path, "short", 3.0, "one two", seed=1)
    model = tiny_model(processor, ending=2.0, seed=3)
    found = {}
    for name, more in {
        "none": {},
        "prompt": {"initial_prompt": "seven eight"},
        "hot": {"hotwords": "eight nine seven"},
    }.items():
        options = DecodeOptions(window="30s", max_new_tokens=12, **more)
        transcriber = Transcriber(model, processor, options)
        (hypothesis,) = transcriber([cut])
        found[name] = hypothesis.tokens
    assert len({tuple(tokens) for tokens in found.values()}) == 3
    feats = processor.feature_extractor(load_audio(cut), sampling_rate=16000, return_tensors="pt").input_features
    prompt = torch.tensor([*transcriber.prompt(processor.tokenizer.encode(" seven eight", add_special_tokens=False))])
    prompt = prompt[:1].tolist() + processor.tokenizer.encode(" seven eight", add_special_tokens=False)
    ids = torch.tensor([[*prompt, *transcriber.labels.prefix("en")]])
    with torch.no_grad():
        for _ in range(12):
            logits = model(feats, decoder_input_ids=ids).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1)[None]], 1)
    generated = ids[0, len(prompt) + 4 :].tolist()
    end = processor.tokenizer.eos_token_id
    assert found["prompt"] == (generated[: generated.index(end)] if end in generated else generated)


def test_prompts_and_temperatures_want_torch() -> None:
    for more in ({"hotwords": "x"}, {"temperatures": [0.0, 0.5]}, {"previous_text": True}):
        with pytest.raises(ConfigError, match="need the backend torch"):
            DecodeOptions(backend="ctranslate2", **more)
    with pytest.raises(ConfigError, match="rising"):
        DecodeOptions(temperatures=[0.5, 0.0])


@pytest.mark.parametrize("seed", range(4))
def test_warping_is_transformers(seed: int) -> None:
    cost = np.random.default_rng(seed).normal(size=(7 + seed, 31)).round(1)
    rows, columns = warp(cost)
    expected = _dynamic_time_warping(cost)
    assert rows.tolist() == expected[0].tolist() and columns.tolist() == expected[1].tolist()
