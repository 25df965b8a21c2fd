"""A cached encoder output is the encoder's output; the encoder runs once per cut, for all processes and restarts."""

import os
from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_processor
from tiny_speech import WAVE_KINDS, tiny_wave_encoder
from torch import Tensor

from egrecho_inner.model.encoder_cache import EncoderCache

NAMES = ["a", "b", "c"]
LENGTHS = {"a": 200, "b": 120, "c": 61}


def batch(names: list[str]) -> tuple[Tensor, Tensor]:
    longest = max(LENGTHS[name] for name in names)
    features = torch.zeros(len(names), 80, longest)
    mask = torch.zeros(len(names), longest, dtype=torch.int64)
    for row, name in enumerate(names):
        draw = torch.Generator().manual_seed(ord(name))
        features[row, :, : LENGTHS[name]] = torch.randn(80, LENGTHS[name], generator=draw)
        mask[row, : LENGTHS[name]] = 1
    return features, mask


@pytest.mark.parametrize("room", [1e9, 11_000])
def test_loss_and_outputs_are_those_of_the_encoder(room: float, tmp_path: Path) -> None:
    model = tiny_model(tiny_processor())
    encoder, calls = model.model.encoder, []
    encoder.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    cache = EncoderCache(tmp_path, 32, room)
    ids = torch.tensor([[5, 6, 7]])
    for names in (["a", "b"], ["c", "b"], ["b", "a", "c"]):
        features, mask = batch(names)
        heard = cache(encoder, names, features, mask)
        with torch.no_grad():
            expected = encoder(features, attention_mask=mask).last_hidden_state
            again = model(encoder_outputs=(heard,), attention_mask=mask, decoder_input_ids=ids.expand(len(names), -1))
            plain = model(features, attention_mask=mask, decoder_input_ids=ids.expand(len(names), -1))
        del calls[-2:]  # those for the comparison
        for row, name in enumerate(names):
            end = (LENGTHS[name] + 1) // 2
            assert torch.allclose(heard[row, :end], expected[row, :end], atol=5e-3)
        assert torch.allclose(again.logits, plain.logits, atol=0.05)
    assert calls == [2, 1] + [1] * (room < 1e9)  # what is missing of a batch at once; there was no room for "c"
    assert cache.used <= room


@pytest.mark.parametrize("kind", WAVE_KINDS)
def test_outputs_of_waves_are_those_of_the_encoder(kind: str, tmp_path: Path) -> None:
    encoder, lengths = tiny_wave_encoder(kind), {"a": 17_301, "b": 6_100}
    waves = torch.randn(2, 17_301, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(17_301)[None] < torch.tensor(list(lengths.values()))[:, None]).long()
    cache = EncoderCache(tmp_path, encoder.config.hidden_size, 1e9)
    first = cache(encoder, ["a", "b"], waves, mask)
    with torch.no_grad():
        expected = encoder(waves, mask).last_hidden_state
    encoder.forward = None  # nothing is computed again, alone or with others
    again = cache(encoder, ["b", "a"], waves.flip(0), mask.flip(0)).flip(0)
    for row, length in enumerate(lengths.values()):
        end = encoder.shape.frames(length)
        assert torch.allclose(first[row, :end], expected[row, :end], atol=5e-3)
        assert torch.equal(first[row], again[row]) and not first[row, end:].any()


def test_a_cut_of_another_length_is_computed_again(tmp_path: Path) -> None:
    encoder = tiny_model(tiny_processor()).model.encoder
    cache = EncoderCache(tmp_path, 32, 1e9)
    features, mask = batch(["a"])
    cache(encoder, ["a"], features, mask)
    padded = cache(encoder, ["a"], torch.nn.functional.pad(features, (0, 100)), None)
    assert padded.shape == (1, 150, 32)
    assert padded[0, 149].abs().sum() > 0


def encoded(cache: EncoderCache, names: list[str], calls: list[int]) -> Tensor:
    encoder = tiny_model(tiny_processor()).model.encoder
    encoder.register_forward_hook(lambda _, args, __: calls.append(len(args[0])))
    return cache(encoder, names, *batch(names))


def test_processes_share_what_they_computed(tmp_path: Path) -> None:
    one, other, calls = EncoderCache(tmp_path, 32, 1e9, 0, 2), EncoderCache(tmp_path, 32, 1e9, 1, 2), []
    first = encoded(one, ["a", "b"], calls)
    encoded(other, ["c"], calls)
    assert calls == [2, 1]
    assert torch.equal(encoded(other, ["a", "b"], calls), first)  # the next epoch has dealt them otherwise
    encoded(one, ["c", "b"], calls)
    assert calls == [2, 1], "no process computes what another has"
    assert one.room == other.room == 5e8


@pytest.mark.parametrize("kept", ["nothing", "outputs", "half a row"])
def test_a_killed_process_leaves_all_of_a_batch_or_nothing(tmp_path: Path, kept: str) -> None:
    cache, calls = EncoderCache(tmp_path, 32, 1e9), []
    encoded(cache, ["a"], calls)
    size = (tmp_path / "outputs-0").stat().st_size
    before = encoded(cache, ["b", "c"], calls)
    rows = (tmp_path / "places-0").read_bytes()
    (tmp_path / "places-0").write_bytes(rows[: len(rows) // 3 + (17 if kept == "half a row" else 0)])
    if kept == "nothing":
        os.truncate(tmp_path / "outputs-0", size)
    again = EncoderCache(tmp_path, 32, 1e9)
    assert again.used == size
    assert torch.equal(encoded(again, ["b", "c"], calls), before)
    encoded(EncoderCache(tmp_path, 32, 1e9), ["c", "a", "b"], calls)
    assert calls == [1, 2, 2]


def test_an_output_that_is_not_what_was_written_is_computed_again(tmp_path: Path) -> None:
    calls: list[int] = []
    before = encoded(EncoderCache(tmp_path, 32, 1e9), ["a", "b"], calls)
    with open(tmp_path / "outputs-0", "r+b") as file:  # as a machine that went down leaves it
        file.seek(100)
        file.write(bytes(100))
    found = encoded(EncoderCache(tmp_path, 32, 1e9), ["a", "b"], calls)
    assert calls == [2, 1] and torch.allclose(found, before, atol=5e-3)


def test_a_cache_that_was_full_stays_full_when_the_run_goes_on(tmp_path: Path) -> None:
    # or a smaller batch would be kept that the same run without a kill computes anew in every epoch
    calls: list[int] = []
    cache = EncoderCache(tmp_path, 32, 7000)
    for names in (["a"], ["b"], ["c"]):  # 6400, 3840 and 1984 bytes
        encoded(cache, names, calls)
    for names in (["c"], ["a"]):
        encoded(EncoderCache(tmp_path, 32, 9000), names, calls)
    assert calls == [1, 1, 1, 1]


def test_what_is_of_another_encoder_is_not_taken_over(tmp_path: Path) -> None:
    folder, calls = tmp_path / "cache", []
    for key in ("one", "one", "other"):
        EncoderCache.prepare(folder, key)
        encoded(EncoderCache(folder, 32, 1e9), ["a"], calls)
    assert calls == [1, 1]
