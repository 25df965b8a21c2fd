"""fit() knows families, not Whisper: a toy one learns, is killed, continues to the same bits, is scored and saved."""

import ast
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from runs import TRAIN, in_child, kill_at_step, same
from safetensors.torch import load_file
from toy_family import ToyFamily, ToyModel, load_toy

from egrecho_inner import training
from egrecho_inner.config import plain
from egrecho_inner.data.batches.options import AugmentOptions, BatchOptions, DataOptions, VolumeOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.fit import fit
from egrecho_inner.training.options import WindowOptions

OWN = ("_family.py", "_cost.py", "checkup.py", "watching.py", "kd.py")
"""How the files of training/ end that may know a model: families, what programs do beside fit(), distillation."""


def train(cuts: Path, out: Path, dev: Path | None, seed: int = 1, **changes: Any) -> Path:
    torch.manual_seed(seed)
    model, family = ToyModel().train(), ToyFamily()
    data = DataOptions(str(cuts), None if dev is None else str(dev), language="en")
    options = dataclasses.replace(TRAIN, **({"metric": "wer", "learning_rate": 1e-2} | changes))
    batch, augment = BatchOptions(None, 3), AugmentOptions(volume=VolumeOptions(), spec_augment=None)
    config = plain({"data": data, "train": options})
    return fit(model, family, out, data, batch, options, WindowOptions(), augment, config)


@pytest.fixture(scope="module")
def toy(cuts: Path, dev: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("toy")
    train(cuts, out, dev)
    return out


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_another_family_learns_and_is_scored_by_its_own_decoding(toy: Path) -> None:
    assert sum("loss" in line for line in lines(toy)) == 7
    scores = [line["eval_loss"] for line in lines(toy) if "eval_loss" in line]
    assert len(scores) == 3 and scores[0] > scores[1] > scores[2]
    assert all(line["eval_wer"] > 0 and "eval_wer_low" in line for line in lines(toy) if "eval_loss" in line)


def test_another_family_killed_and_continued_is_the_same_run(cuts: Path, dev: Path, toy: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_at_step(5)
        train(cuts, tmp_path, dev)

    assert in_child(killed) == -9
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3]
    train(cuts, tmp_path, dev)
    assert same(tmp_path / "final", toy / "final")
    scores = [[line["eval_loss"] for line in lines(run) if "eval_loss" in line] for run in (tmp_path, toy)]
    assert scores[0] == scores[1]


def test_a_checkpoint_keeps_what_its_family_keeps(toy: Path) -> None:
    kept = load_file(checkpoint.newest(toy) / "model.safetensors")
    assert set(kept) == {name for name, _ in ToyModel().named_parameters() if not name.startswith("frontend")}


def test_the_result_has_the_familys_files_and_loads(toy: Path) -> None:
    final = toy / "final"
    made, loaded = json.loads((final / "training.json").read_text()), load_toy(final).state_dict()
    torch.manual_seed(1)
    assert torch.equal(loaded["frontend.weight"], ToyModel().frontend.weight), "frozen, and not in the checkpoint"
    best = load_file(toy / made["best"] / "model.safetensors")
    assert all(torch.equal(loaded[name], value) for name, value in best.items())
    assert made["family"] == "Toy CTC" and made["width"] == 24
    card = (final / "README.md").read_text()
    assert "# Toy CTC, fine-tuned" in card and "Whisper" not in card
    assert ModelCard(card).data.tags == ["toy-ctc", "egrecho"]


def test_a_base_that_differs_is_another_run(cuts: Path, dev: Path, tmp_path: Path) -> None:
    train(cuts, tmp_path, None, max_steps=3)
    with pytest.raises(ConfigError, match=r"other settings \(the base model: "):
        train(cuts, tmp_path, None, seed=2, max_steps=5)


def test_parts_are_the_familys(cuts: Path, tmp_path: Path) -> None:
    final = train(cuts, tmp_path / "frozen", None, freeze=["body"], max_steps=2)
    torch.manual_seed(1)
    start, end = ToyModel().state_dict(), load_toy(final).state_dict()
    assert {name.split(".")[0] for name in start if not torch.equal(start[name], end[name])} == {"head"}
    with pytest.raises(ConfigError, match=r"train.freeze encoder: .* parts frontend, body, head"):
        train(cuts, tmp_path / "no", None, freeze=["encoder"])
    with pytest.raises(ConfigError, match="Toy CTC has no encoder"):
        train(cuts, tmp_path / "cache", None, encoder_cache_gb=1)


def test_a_family_that_cannot_decode_is_scored_by_its_loss(
    cuts: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyFamily, "recognize", None)
    with pytest.raises(ConfigError, match="Toy CTC cannot decode; set it to loss"):
        train(cuts, tmp_path / "wer", dev)
    final = train(cuts, tmp_path / "auto", dev, metric="auto", max_steps=2)
    assert set(json.loads((final / "training.json").read_text())["scores"]) >= {"eval_loss", "eval_measure"}


def test_only_families_own_files_know_whisper() -> None:
    folder, found = Path(training.__file__).parent, {}
    for path in folder.rglob("*.py"):
        if path.name.endswith(OWN) or "personal" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            if bad := [name for name in names if "whisper" in name.lower() or name.startswith("egrecho_inner.model.l")]:
                found[path.name] = bad
    assert not found
