"""Averaging: the weights are the weighted mean, and nothing is written when the models do not fit together."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save_tiny

from egrecho_inner.average import average
from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.loading import load_model
from egrecho_inner.training.checkpoints import folder as checkpoint


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [save_tiny(folder / f"m{seed}", seed=seed) for seed in range(3)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_weights_are_the_weighted_mean(models: list[Path], tmp_path: Path) -> None:
    average([str(m) for m in models], str(tmp_path / "mean"), [0.5, 0.3, 0.2])
    parts, mean = [weights(m) for m in models], weights(tmp_path / "mean")
    assert mean.keys() == parts[0].keys()
    for name, value in mean.items():
        expected = 0.5 * parts[0][name] + 0.3 * parts[1][name] + 0.2 * parts[2][name]
        assert torch.allclose(value, expected, atol=1e-7), name
    assert load_model(str(tmp_path / "mean")).config.input_window == "longest"
    assert "averaged" in (tmp_path / "mean" / "training.json").read_text()


def test_a_weight_of_one_gives_that_model_back(models: list[Path], tmp_path: Path) -> None:
    average([str(m) for m in models[:2]], str(tmp_path / "same"), [0.0, 1.0])
    same = weights(tmp_path / "same")
    assert all(torch.equal(value, same[name]) for name, value in weights(models[1]).items())


def make_run(folder: Path, models: list[Path]) -> Path:
    """Make a run folder with a complete checkpoint of each model, and the first model as its result."""
    for step, model in enumerate(models, 1):
        place = folder / f"checkpoint-{step}"
        place.mkdir(parents=True)
        for name in ("config.json", "generation_config.json", "model.safetensors"):
            (place / name).write_bytes((model / name).read_bytes())
        (place / "rng_state.pth").write_bytes(b"state")
        checkpoint.seal(place, {"step": step, "world_size": 1})
    (folder / "final").mkdir()
    for file in models[0].iterdir():
        (folder / "final" / file.name).write_bytes(file.read_bytes())
    return folder


def test_the_last_checkpoints_of_a_run_are_averaged(models: list[Path], tmp_path: Path) -> None:
    place = make_run(tmp_path / "run", models)
    run(average, [str(place), "--last", "2", "--out", str(tmp_path / "mean")])
    made = json.loads((tmp_path / "mean" / "training.json").read_text())["averaged"]
    assert [Path(name).name for name in made] == ["checkpoint-2", "checkpoint-3"]
    parts, mean = [weights(m) for m in models[1:]], weights(tmp_path / "mean")
    assert all(torch.allclose(value, (parts[0][n] + parts[1][n]) / 2, atol=1e-7) for n, value in mean.items())


def test_an_incomplete_checkpoint_is_not_averaged(models: list[Path], tmp_path: Path) -> None:
    place = make_run(tmp_path / "run", models[:2])
    (place / "checkpoint-2" / "_COMPLETE.json").unlink()
    with pytest.raises(ConfigError, match="1 complete checkpoints"):
        average([str(place)], str(tmp_path / "mean"))


def test_models_of_other_shapes_are_refused(models: list[Path], tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", n_mels=128)
    with pytest.raises(ModelError, match=r"conv1.weight is \[32, 128, 3\], in .* \[32, 80, 3\]"):
        average([str(models[0]), str(other)], str(tmp_path / "mean"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="does not read"):
        average([str(models[0]), str(tmp_path / "broken")], str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("shares", "message"), [([0.5], "1 values for 2 models"), ([0.5, 0.6], "add up to 1.1; expected 1")]
)
def test_weights_must_fit(models: list[Path], tmp_path: Path, shares: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        average([str(m) for m in models[:2]], str(tmp_path / "mean"), shares)
