"""train.ema: the average is what is scored and saved, training goes on from the weights, a kill changes nothing."""

import json
from pathlib import Path

import pytest
import torch
from runs import in_child, kill_at_step, same, train, weights
from safetensors.torch import load_file

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.average import FILE
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.resume import Allowance

DECAY = 0.7


@pytest.fixture(scope="module")
def averaged(cuts: Path, dev: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint after every step."""
    out = tmp_path_factory.mktemp("averaged")
    train(cuts, out, dev, ema=DECAY, max_steps=4, eval_steps=1, keep_checkpoints=4)
    return out


def test_the_average_is_its_formula_and_becomes_the_result(averaged: Path, cuts: Path, tmp_path: Path) -> None:
    train(cuts, tmp_path, max_steps=4, eval_steps=1, keep_checkpoints=4)
    steps = [folder for _, folder in reversed(checkpoint.steps(averaged))]
    for mine in steps:
        with_average, without = (load_file(run / "model.safetensors") for run in (mine, tmp_path / mine.name))
        assert all(torch.equal(with_average[name], without[name]) for name in without), "what is trained on is the same"
    name = "model.decoder.layers.0.fc1.weight"
    _, *later = [load_file(folder / "model.safetensors")[name] for folder in steps]
    found = [load_file(folder / FILE)[name] for folder in steps]
    for weight, before, after in zip(later, found[:-1], found[1:], strict=True):
        assert torch.allclose(after, DECAY * before + (1 - DECAY) * weight, atol=1e-7)
    assert not torch.equal(found[-1], later[-1])
    best = averaged / json.loads((averaged / "final" / "training.json").read_text())["best"]
    assert torch.equal(weights(averaged / "final")[name], load_file(best / FILE)[name])


def test_a_killed_run_goes_on_with_its_average(cuts: Path, dev: Path, averaged: Path, tmp_path: Path) -> None:
    options = {"ema": DECAY, "max_steps": 4, "eval_steps": 1, "keep_checkpoints": 4}

    def killed() -> None:
        kill_at_step(3)
        train(cuts, tmp_path, dev, **options)

    assert in_child(killed) == -9
    train(cuts, tmp_path, dev, **options)
    assert same(tmp_path / "final", averaged / "final")


def test_an_average_cannot_begin_in_the_middle_nor_be_an_adapters(cuts: Path, tmp_path: Path) -> None:
    train(cuts, tmp_path / "run", max_steps=1)
    with pytest.raises(ModelError, match="cannot begin in the middle of a run"):
        train(cuts, tmp_path / "run", max_steps=2, ema=DECAY, allow=Allowance(changed=True))
    with pytest.raises(ConfigError, match=r"train\.ema: an adapter's"):
        train(cuts, tmp_path / "lora", lora=LoraOptions(r=2), ema=DECAY)
