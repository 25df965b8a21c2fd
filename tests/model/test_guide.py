"""Guided attention: the penalty of its formula, nothing outside of training, attention that follows the diagonal."""

import math

import pytest
import torch
from tiny import tiny_model, tiny_processor

from egrecho_inner.model.guide import WIDTH, stray


def test_the_penalty_is_its_formula() -> None:
    torch.manual_seed(0)
    queries, keys = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8)
    heard = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    words = torch.tensor([[False, True, True, True, False], [False, True, True, False, False]])
    expected = 0.0
    for b in range(2):
        spoken, frames = words[b].nonzero().flatten().tolist(), int(heard[b].sum())
        for n, row in enumerate(spoken):
            for head in (0, 1):  # half of the four
                weights = (keys[b, head, :frames] @ queries[b, head, row]).softmax(0)
                for t, weight in enumerate(weights.tolist()):
                    distance = (n + 0.5) / len(spoken) - (t + 0.5) / frames
                    expected += weight * (1 - math.exp(-(distance**2) / (2 * WIDTH**2))) / 2
    assert stray(queries, keys, heard, words).item() == pytest.approx(expected, rel=1e-5)


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    labels = torch.tensor([[-100, 5, 6, 7, 8, 9, 10, 11]]).repeat(2, 1)
    mask = torch.ones(2, 120, dtype=torch.long)
    mask[1, 80:] = 0
    inputs = {"decoder_input_ids": torch.arange(20, 28)[None].repeat(2, 1), "labels": labels}
    return inputs | {"input_features": torch.randn(2, 80, 120), "attention_mask": mask}


def test_only_training_is_guided_and_padding_counts_for_nothing() -> None:
    model, inputs = tiny_model(tiny_processor()), batch()
    model.train()
    plain = model(**inputs).loss.item()
    model.guide(1.0)
    guided = model(**inputs).loss.item()
    assert plain < guided < plain + 1
    noise = inputs | {"input_features": inputs["input_features"].clone()}
    noise["input_features"][1, :, 80:] = 7.0
    assert model(**noise).loss.item() == pytest.approx(guided, rel=1e-6)
    model.eval()
    assert model(**inputs).loss.item() == pytest.approx(plain, rel=1e-5)
    assert all(layer.encoder_attn.compared is None for layer in model.model.decoder.layers)
    model.guide(0.0)
    model.train()
    assert model(**inputs).loss.item() == pytest.approx(plain, rel=1e-6)


def test_attention_learns_the_diagonal() -> None:
    model, inputs = tiny_model(tiny_processor()), batch()
    model.train()
    model.guide(1.0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    words = inputs["labels"] >= 0
    strays = []
    for _ in range(60):
        model.model(
            **{name: inputs[name] for name in ("input_features", "attention_mask", "decoder_input_ids")},
            use_cache=False,
        )
        penalty = model.stray(inputs["attention_mask"], inputs["labels"]) / words.sum()
        strays.append(penalty.item())
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
    assert strays[-1] < 0.5 * strays[0]
