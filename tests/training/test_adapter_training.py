"""Adapters in training: AdaLoRA's ranks move, gradient checkpointing trains, Lion and freezing do as told."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import speech_cuts, tiny_model, tiny_processor

from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.adapters import add_adapter
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.checkpoints import adalora
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.whisper_family import WhisperFamily


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(speech_cuts(tmp_path_factory.mktemp("cuts"), n=12))


def train(cuts: str, out: Path, lora: LoraOptions | None = None, batch_size: int = 4, **options: object) -> Path:
    """Train a tiny model or its adapter for a few steps and return the folder of the result."""
    defaults = {
        "max_steps": 12,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "workers": 0,
        "report_to": [],
        "eval_steps": 99,
    }
    model, data = tiny_model(tiny_processor()), DataOptions(train=cuts)
    return fit(
        model,
        WhisperFamily(model, tiny_processor(), data),
        out,
        data,
        BatchOptions(max_duration=None, batch_size=batch_size),
        TrainOptions(**{**defaults, **options}),
        WindowOptions(),
        None,
        {},
        adapt=None if lora is None else lambda base, steps: add_adapter(base, lora, steps),
    )


def test_adalora_takes_ranks_from_where_they_help_least(cuts: str, tmp_path: Path) -> None:
    lora = LoraOptions("adalora", r=2, init_r=4, warmup=0.1, settle=0.2, delta=1)
    saved = train(cuts, tmp_path, lora)
    pattern = json.loads((saved / "adapter_config.json").read_text())["rank_pattern"]
    ranks = [sum(kept) for kept in pattern.values()]
    assert sum(ranks) == 2 * len(ranks), "the budget at the end is r on average"
    assert len(set(ranks)) > 1, "all layers kept the same rank: nothing was re-allocated"


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_adalora_makes_its_factors_orthogonal(cuts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = LoraOptions("adalora", r=2, init_r=4, warmup=0.1, settle=0.2, delta=1, dropout=0.0)
    train(cuts, tmp_path / "with", lora, logging_steps=1)
    rows = [row for row in metrics(tmp_path / "with") if "loss" in row]
    assert rows[-1]["orthogonality"] < 0.9 * rows[0]["orthogonality"]
    monkeypatch.setattr(adalora, "penalty", lambda model: torch.zeros(()))
    train(cuts, tmp_path / "without", lora, logging_steps=1)
    plain = next(row for row in metrics(tmp_path / "without") if "loss" in row)
    assert rows[0]["loss"] == pytest.approx(plain["loss"], rel=1e-5), "the log has the loss that others have"
    assert rows[0]["grad_norm"] != pytest.approx(plain["grad_norm"], rel=1e-3)


def test_the_penalty_is_what_peft_would_add() -> None:
    model = add_adapter(tiny_model(tiny_processor()), LoraOptions("adalora", r=2, init_r=4, dropout=0.0), 10)
    inputs = {
        "input_features": torch.zeros(1, 80, 100),
        "decoder_input_ids": torch.tensor([[1, 2]]),
        "labels": torch.tensor([[2, 3]]),
    }
    ours = model(**inputs).loss + adalora.penalty(model)
    assert ours.item() == pytest.approx(model.base_model(**inputs).loss.item(), rel=1e-5)


def test_the_penalty_counts_once_in_a_step_however_it_is_divided(cuts: str, tmp_path: Path) -> None:
    lora = LoraOptions("adalora", r=2, init_r=4, dropout=0.0)
    norms = []
    for size, accumulation in ((8, 1), (2, 4)):
        train(cuts, tmp_path / str(size), lora, max_steps=1, accumulation=accumulation, batch_size=size)
        norms.append(metrics(tmp_path / str(size))[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_adalora_without_a_rank_to_take_away_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lora.init_r 4 and lora.r 4 .*more than r"):
        LoraOptions("adalora", r=4, init_r=4)


def test_an_overflow_does_not_reach_adaloras_scores() -> None:
    model = add_adapter(tiny_model(tiny_processor()), LoraOptions("adalora", r=2, init_r=4, warmup=0.1, settle=0.2), 10)
    allocator = model.base_model.rankallocator

    def step(number: int, gradient: float, overflow: bool) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient) if parameter.requires_grad else None
        optimizer, state = SimpleNamespace(step_was_skipped=overflow), SimpleNamespace(global_step=number)
        adalora.AdaLora().on_optimizer_step(None, state, None, model=model, optimizer=optimizer)

    step(0, 0.1, overflow=False)
    step(1, float("inf"), overflow=True)
    step(2, 0.1, overflow=False)
    for scores in (allocator.exp_avg_ipt, allocator.exp_avg_unc):
        assert scores and all(torch.isfinite(value).all() for value in scores.values())
    step(8, float("inf"), overflow=True)  # the step of the last allocation
    pattern = model.peft_config["default"].rank_pattern
    assert sum(map(sum, pattern.values())) <= 2 * len(pattern)
    step(9, float("inf"), overflow=True)


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
