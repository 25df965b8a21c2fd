"""A cached encoder output is the encoder's output, whatever the company; the encoder runs once per cut."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_model, tiny_processor
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
    assert calls == [1] * (3 if room == 1e9 else 4)  # there was no room for "c"
    assert cache.used <= room


def test_a_cut_of_another_length_is_computed_again(tmp_path: Path) -> None:
    encoder = tiny_model(tiny_processor()).model.encoder
    cache = EncoderCache(tmp_path, 32, 1e9)
    features, mask = batch(["a"])
    cache(encoder, ["a"], features, mask)
    padded = cache(encoder, ["a"], torch.nn.functional.pad(features, (0, 100)), None)
    assert padded.shape == (1, 150, 32)
    assert padded[0, 149].abs().sum() > 0
