"""Adapters in training: AdaLoRA's ranks move, gradient checkpointing trains, Lion and freezing do as told."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import speech_cuts, tiny_model, tiny_processor

from egrecho_inner.data.options import BatchOptions, DataOptions
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(speech_cuts(tmp_path_factory.mktemp("cuts"), n=12))


def train(cuts: str, out: Path, lora: LoraOptions | None = None, **options: object) -> Path:
    """Train a tiny model or its adapter for a few steps and return the folder of the result."""
    defaults = {
        "max_steps": 12,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "workers": 0,
        "report_to": [],
        "eval_steps": 99,
    }
    return fit(
        tiny_model(tiny_processor()),
        tiny_processor(),
        out,
        DataOptions(train=cuts),
        BatchOptions(max_duration=None, batch_size=4),
        TrainOptions(**{**defaults, **options}),
        WindowOptions(),
        None,
        "",
        adapt=None if lora is None else lambda base, steps: add_adapter(base, lora, steps),
    )


def test_adalora_takes_ranks_from_where_they_help_least(cuts: str, tmp_path: Path) -> None:
    lora = LoraOptions("adalora", r=2, init_r=4, warmup=0.1, settle=0.2, delta=1)
    saved = train(cuts, tmp_path, lora)
    pattern = json.loads((saved / "adapter_config.json").read_text())["rank_pattern"]
    ranks = [sum(kept) for kept in pattern.values()]
    assert sum(ranks) == 2 * len(ranks), "the budget at the end is r on average"
    assert len(set(ranks)) > 1, "all layers kept the same rank: nothing was re-allocated"


def test_gradient_checkpointing_under_lora_trains_as_without(cuts: str, tmp_path: Path) -> None:
    lora = LoraOptions(r=2, dropout=0.0)
    plain = load_file(train(cuts, tmp_path / "plain", lora) / "adapter_model.safetensors")
    saving = load_file(
        train(cuts, tmp_path / "saving", lora, gradient_checkpointing=True) / "adapter_model.safetensors"
    )
    assert any(value.abs().max() > 0 for name, value in plain.items() if ".lora_B" in name)
    for name, value in plain.items():
        torch.testing.assert_close(saving[name], value, rtol=1e-4, atol=1e-6)


def test_frozen_parts_stay_and_the_others_move_under_lion(cuts: str, tmp_path: Path) -> None:
    before = tiny_model(tiny_processor()).state_dict()
    options = {"freeze": ["encoder", "embeddings"], "optimizer": "lion", "learning_rate": 1e-3, "max_steps": 3}
    after = load_file(train(cuts, tmp_path, **options) / "model.safetensors")
    for name, value in after.items():
        frozen = ".encoder." in name or "embed_tokens" in name
        assert torch.equal(value, before[name]) == frozen or "embed_positions" in name, name
    # Lion moves every weight by the learning rate and its share of decay, no more
    moved = (after["model.decoder.layers.0.fc1.weight"] - before["model.decoder.layers.0.fc1.weight"]).abs().max()
    assert 1e-3 < moved < 3.1e-3
