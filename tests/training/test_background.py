"""Checkpoints written while training goes on keep every promise of those that training waits for."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import in_child, kill_at_step, kill_in_seal, same, train

from egrecho_inner.errors import ConfigError, Interrupted, MachineError
from egrecho_inner.model.adapters import LoraOptions
from egrecho_inner.training import checkpoint, saving
from egrecho_inner.training.background import Writer, copy_of
from egrecho_inner.training.trainer import WhisperTrainer


def hold_until_step(monkeypatch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Make the writing of the first checkpoint wait for a later step; the list tells the steps sealed."""
    reached, sealed = threading.Event(), []
    kept_seal, kept_step = checkpoint.seal, WhisperTrainer._maybe_log_save_evaluate

    def seal(folder: Path, facts: dict[str, Any]) -> None:
        assert reached.wait(60), "training waited for the writer"
        sealed.append(facts["step"])
        kept_seal(folder, facts)

    def pass_step(self: WhisperTrainer, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step == step:
            assert not sealed
            reached.set()
        kept_step(self, *args, **kwargs)

    monkeypatch.setattr(checkpoint, "seal", seal)
    monkeypatch.setattr(WhisperTrainer, "_maybe_log_save_evaluate", pass_step)
    return sealed


def test_training_goes_on_and_the_copy_is_of_the_step(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as held:
        sealed = hold_until_step(held, 5)
        train(cuts, tmp_path / "run", async_save=True, keep_checkpoints=9)
    train(cuts, tmp_path / "plain", keep_checkpoints=9)
    assert sealed == [3, 6, 7], "one at a time, none left out"
    for step in sealed:
        ours, plain = (tmp_path / name / f"checkpoint-{step}" for name in ("run", "plain"))
        assert {p.name for p in ours.iterdir()} == {p.name for p in plain.iterdir()}
        assert (ours / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
        states = [torch.load(folder / "optimizer.pt", weights_only=True)["state"] for folder in (ours, plain)]
        assert states[0].keys() == states[1].keys()
        for key, values in states[0].items():
            assert all(torch.equal(value, states[1][key][name]) for name, value in values.items())
        assert checkpoint.fault(ours) is None


def test_killed_while_the_thread_writes_is_the_same_run(cuts: Path, dev: Path, whole: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_in_seal(6)
        train(cuts, tmp_path, dev, async_save=True, keep_checkpoints=1)

    assert in_child(killed) == -9
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3], "a good one stays until a newer one is complete"
    train(cuts, tmp_path, dev, async_save=True)
    assert same(tmp_path / "final", whole / "final")
    assert not list(tmp_path.glob("**/.*writing*"))


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_adapters_continue_bit_for_bit(cuts: Path, tmp_path: Path, method: str) -> None:
    lora = LoraOptions(method=method, r=2, dropout=0.1, init_r=3, delta=1)

    def killed() -> None:
        kill_at_step(5)
        train(cuts, tmp_path / "run", lora=lora, async_save=True)

    train(cuts, tmp_path / "whole", lora=lora)
    assert in_child(killed) == -9
    train(cuts, tmp_path / "run", lora=lora, async_save=True)
    assert same(tmp_path / "run" / "adapter", tmp_path / "whole" / "adapter")


@pytest.mark.parametrize("late", [False, True])
def test_what_fails_in_the_thread_ends_the_run(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    with monkeypatch.context() as full:
        kept = checkpoint.seal

        def seal(folder: Path, facts: dict[str, Any]) -> None:
            if facts["step"] == (7 if late else 6):
                raise OSError(28, "No space left on device")
            kept(folder, facts)

        full.setattr(checkpoint, "seal", seal)
        with pytest.raises(MachineError, match=r"No space left.*it continues from checkpoint-"):
            train(cuts, tmp_path, dev, async_save=True)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == ([6, 3] if late else [3])
    assert not (tmp_path / checkpoint.WRITING).exists()
    assert not (tmp_path / "final").exists()
    train(cuts, tmp_path, dev, async_save=True)
    assert same(tmp_path / "final", whole / "final")


def test_stop_waits_for_what_is_being_written(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as slow:
        kept = saving.complete_checkpoint

        def complete(*args: Any) -> None:
            threading.Event().wait(0.3)
            kept(*args)

        slow.setattr(saving, "complete_checkpoint", complete)
        kill_at_step_once(slow, 4)
        with pytest.raises(Interrupted, match="checkpoint-4 is complete"):
            train(cuts, tmp_path, dev, async_save=True)
    assert checkpoint.fault(tmp_path / "checkpoint-4") is None
    train(cuts, tmp_path, dev, async_save=True)
    assert same(tmp_path / "final", whole / "final")


def kill_at_step_once(patch: pytest.MonkeyPatch, step: int) -> None:
    """Stop the run at a step as a signal would."""
    kept = WhisperTrainer._maybe_log_save_evaluate

    def asked(self: WhisperTrainer, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step == step:
            self.stops.reason = "SIGTERM"
        kept(self, *args, **kwargs)

    patch.setattr(WhisperTrainer, "_maybe_log_save_evaluate", asked)


def test_shards_are_not_written_so(cuts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.async_save: DeepSpeed writes its shards itself"):
        train(cuts, tmp_path, async_save=True, deepspeed="config/ds_zero1.json")


def test_writer_raises_a_fault_once_and_in_the_caller() -> None:
    writer = Writer()
    writer.start(lambda: (_ for _ in ()).throw(KeyError("x")))
    with pytest.raises(KeyError):
        writer.start(list)
    writer.start(list)
    writer.wait()


def test_a_copy_is_one() -> None:
    tree = {"a": [torch.zeros(2)], "b": (1, torch.ones(1))}
    copy = copy_of(tree)
    tree["a"][0] += 1
    assert copy["a"][0].tolist() == [0, 0] and copy["b"][1].tolist() == [1]
