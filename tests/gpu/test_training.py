"""One process on one GPU: precision, optimizer, memory, features on the device, compiled, the same bits twice."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import launch, results
from runs import train

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.trainer import PlanTrainer


def losses(run: Path, key: str = "loss") -> list[float]:
    """A column of a run's log."""
    return [row[key] for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if key in row]


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[PlanTrainer]:
    """The trainers that a test made."""
    found, kept = [], PlanTrainer.__init__

    def noted(self: PlanTrainer, *args: Any, **kwargs: Any) -> None:
        kept(self, *args, **kwargs)
        found.append(self)

    monkeypatch.setattr(PlanTrainer, "__init__", noted)
    return found


@pytest.fixture(scope="module")
def fp32(cuts: Path, dev: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others are compared with."""
    out = tmp_path_factory.mktemp("fp32")
    train(cuts, out, dev, dropout=0.0, augment=None)
    return out


def test_tf32_and_the_fused_optimizer_are_used(cuts: Path, tmp_path: Path, trainers: list[PlanTrainer]) -> None:
    train(cuts, tmp_path, max_steps=1)
    ampere = torch.version.cuda is not None and torch.cuda.get_device_capability()[0] >= 8
    assert trainers[0].args.tf32 is (True if ampere else None)
    assert trainers[0].optimizer.param_groups[0]["fused"] is True
    assert next(trainers[0].model.parameters()).is_cuda


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_as_fp32_does(cuts: Path, dev: Path, tmp_path: Path, fp32: Path, precision: str) -> None:
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    train(cuts, tmp_path, dev, dropout=0.0, augment=None, precision=precision, metric="wer")
    assert losses(tmp_path)[0] == pytest.approx(losses(fp32)[0], rel=2e-2)
    assert losses(tmp_path, "eval_loss")[-1] == pytest.approx(losses(fp32, "eval_loss")[-1], rel=0.1)


def test_batches_are_pinned(cuts: Path, tmp_path: Path, trainers: list[PlanTrainer]) -> None:
    train(cuts, tmp_path, max_steps=1, workers=1)
    batch = next(iter(trainers[0].get_train_dataloader()))
    assert batch.inputs["input_features"].is_pinned() and batch.inputs["labels"].is_pinned()


def test_features_of_the_device_train_the_same(cuts: Path, dev: Path, tmp_path: Path, fp32: Path) -> None:
    train(cuts, tmp_path, dev, dropout=0.0, augment=None, features="device")
    assert losses(tmp_path) == pytest.approx(losses(fp32), rel=1e-2)


def test_batches_are_halved_when_the_memory_is_really_full(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = PlanTrainer.compute_loss
    free, _ = torch.cuda.mem_get_info()

    def greedy(self: PlanTrainer, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        rows = len(inputs["labels"])
        ballast = torch.empty(2 * free if rows > 1 else 1, dtype=torch.uint8, device="cuda")
        loss = kept(self, model, inputs, *args, **kwargs)
        del ballast
        return loss

    monkeypatch.setattr(PlanTrainer, "compute_loss", greedy)
    batch = BatchOptions(max_duration=None, batch_size=4)
    train(cuts, tmp_path, batch=batch, auto_halve=True, rehearse=False, max_steps=2)
    assert checkpoint.facts(checkpoint.newest(tmp_path))["halvings"] == 2


def test_the_rehearsal_says_what_the_largest_batch_takes(
    cuts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    train(cuts, tmp_path, max_steps=1)
    assert "rehearsal: the largest batch" in caplog.text


def test_compiled_it_learns_the_same(cuts: Path, dev: Path, tmp_path: Path, fp32: Path) -> None:
    train(cuts, tmp_path, dev, dropout=0.0, augment=None, compile=True)
    assert losses(tmp_path) == pytest.approx(losses(fp32), rel=2e-2)


def test_deterministic_runs_are_the_same_run_and_continue_as_it(cuts: Path, dev: Path, tmp_path: Path) -> None:
    words = (cuts, dev, tmp_path)
    found = results(launch("same_bits.py", *words, "first", "second", "kill", processes=1), killed=True)
    assert found["second"]["same"]
    assert results(launch("same_bits.py", *words, "again", processes=1))["again"]["same"]
