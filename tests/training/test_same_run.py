"""Killed anywhere and started again, a run ends with the same bits as one that was left alone."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from runs import in_child, kill_at_step, kill_in_save, kill_in_seal, same, train
from tiny import speech_cuts

from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.resume import Allowance


def logged(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("when", ["between", "saving", "sealing"])
def test_killed_and_continued_is_the_same_run(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, workers: int, when: str
) -> None:
    def killed() -> None:
        {"between": kill_at_step, "saving": kill_in_save, "sealing": kill_in_seal}[when](5 if when == "between" else 6)
        train(cuts, tmp_path, dev, workers=workers)

    assert in_child(killed) == -9
    assert not (tmp_path / "final").exists()
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3]
    train(cuts, tmp_path, dev, workers=workers)
    assert same(tmp_path / "final", whole / "final")
    assert logged(tmp_path) == logged(whole)
    assert not list(tmp_path.glob("**/.*writing*"))


def test_killed_while_evaluating_still_evaluates(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def killed() -> None:
        from egrecho_inner.training.dev_score import DevScorer

        DevScorer.__call__ = lambda self, model: __import__("os").kill(__import__("os").getpid(), 9)
        train(cuts, tmp_path, dev)

    assert in_child(killed) == -9
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [3], "saved before it was evaluated"
    train(cuts, tmp_path, dev)
    assert logged(tmp_path) == logged(whole)
    assert same(tmp_path / "final", whole / "final")


def test_adapter_run_continues_bit_for_bit(cuts: Path, tmp_path: Path) -> None:
    for method in ("lora", "adalora"):
        lora = LoraOptions(method=method, r=2, dropout=0.1, init_r=3, delta=1)

        def killed(method: str = method, lora: LoraOptions = lora) -> None:
            kill_at_step(5)
            train(cuts, tmp_path / method, lora=lora)

        train(cuts, tmp_path / f"whole-{method}", lora=lora)
        assert in_child(killed) == -9
        train(cuts, tmp_path / method, lora=lora)
        assert same(tmp_path / method / "adapter", tmp_path / f"whole-{method}" / "adapter")


@pytest.mark.parametrize("damage", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "truncated", "flipped", "marker"])
def test_damaged_checkpoint_is_passed_over_and_named(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    run = tmp_path / "run"
    shutil.rmtree(run / "final")
    newest = checkpoint.steps(run)[0][1]
    model = newest / "model.safetensors"
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    elif damage == "flipped":
        content = bytearray(model.read_bytes())
        content[-7] ^= 1
        model.write_bytes(content)
    elif damage == "marker":
        (newest / checkpoint.MARKER).unlink()
    else:
        (newest / damage).unlink()
    with caplog.at_level(logging.WARNING, logger="egrecho_inner"):
        logging.getLogger("egrecho_inner").propagate = True
        train(cuts, run, dev)
    assert f"{newest} is passed over" in caplog.text
    assert same(run / "final", whole / "final")


def test_other_settings_or_data_are_named_and_allowed_on_request(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    with pytest.raises(ConfigError, match=r"train.learning_rate: 0.001 -> 0.002.*--allow_changed"):
        train(cuts, run, dev, learning_rate=2e-3)
    with pytest.raises(ConfigError, match=r"train\.max_steps: 7 -> 5"):
        train(cuts, run, dev, max_steps=5)
    other = speech_cuts(tmp_path, n=11, seed=1)
    with pytest.raises(ConfigError, match="training cuts' content"):
        train(other, run, dev)
    moved = tmp_path / "moved.jsonl"
    shutil.copy(cuts, moved)
    train(moved, run, dev, logging_steps=5, keep_checkpoints=1)  # the same content elsewhere; nothing that matters
    assert same(run / "final", whole / "final")
    shutil.rmtree(run / "final")
    train(cuts, run, dev, learning_rate=2e-3, max_steps=8, allow=Allowance(changed=True))
    assert not same(run / "final", whole / "final")


def test_finished_run_is_left_alone_unless_it_is_to_be_longer(
    cuts: Path, dev: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = {path: path.stat().st_mtime_ns for path in (run / "final").iterdir()}
    logging.getLogger("egrecho_inner").propagate = True
    with caplog.at_level(logging.INFO, logger="egrecho_inner"):
        train(cuts, run, dev)
    assert "finished already" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (run / "final").iterdir()} == before
    with pytest.raises(ConfigError, match="learning_rate"):
        train(cuts, run, dev, learning_rate=2e-3)
    train(cuts, run, dev, max_steps=9)
    assert checkpoint.steps(run)[0][0] == 9
    assert same(run / "final-7", whole / "final"), "the shorter run's result is kept"
