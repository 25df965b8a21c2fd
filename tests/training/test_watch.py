"""Where a run's figures go: metrics.jsonl always, TensorBoard, W&B and trackio when asked, without a network."""

import json
from pathlib import Path

import pytest
from runs import train
from tiny import speech_cuts

from egrecho_inner.errors import ConfigError
from egrecho_inner.training import options


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech_cuts(tmp_path_factory.mktemp("cuts"), n=6)


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_tensorboard_gets_what_metrics_jsonl_gets(cuts: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(cuts, tmp_path / "run", max_steps=3, report_to=["tensorboard"])
    events = EventAccumulator(str(next((tmp_path / "run").rglob("events.out*")).parent))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses(tmp_path / "run"))


def test_wandb_works_offline_and_writes_into_the_run_folder(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    train(cuts, tmp_path / "run", max_steps=3, report_to=["wandb"])
    wandb.finish()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert not (tmp_path / "wandb").exists()
    assert len(losses(tmp_path / "run")) == 3


def test_trackio_writes_to_its_local_database(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    train(cuts, tmp_path / "run", max_steps=3, report_to=["trackio"])
    assert [path for path in (tmp_path / "trackio").rglob("*") if path.stat().st_size and path.stem == "egrecho"]
    assert len(losses(tmp_path / "run")) == 3


def test_what_is_not_installed_is_named_before_training(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train.report_to wandb: wandb is not installed; pip install"):
        train(cuts, tmp_path, report_to=["wandb"])
