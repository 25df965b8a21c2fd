"""Where a run's figures go: metrics.jsonl always, TensorBoard, W&B and trackio when asked, without a network."""

import io
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import needs
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from runs import train
from tiny import speech_cuts
from torch.utils.tensorboard import SummaryWriter

from egrecho_inner.errors import ConfigError
from egrecho_inner.runtime.terminal import setup_logging
from egrecho_inner.training import arguments
from egrecho_inner.training import callbacks as watch
from egrecho_inner.training.arguments import keep_wandb_run
from egrecho_inner.training.callbacks import draw, in_words
from egrecho_inner.training.checkpoints.resume import Allowance
from egrecho_inner.training.guards.memory import OutOfMemory
from egrecho_inner.training.trainer import PlanTrainer


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


def test_all_starts_of_a_run_are_one_curve_in_tensorboard(cuts: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(cuts, run, max_steps=3, report_to=["tensorboard"])
    with SummaryWriter(str(run / "runs")) as writer:  # a step that a killed run took after its last checkpoint
        writer.add_scalar("train/loss", 99.0, 4)
    train(cuts, run, max_steps=5, report_to=["tensorboard"], allow=Allowance(changed=True))
    folders = {path.parent for path in run.rglob("events.out*")}
    assert folders == {run / "runs"}
    events = EventAccumulator(str(run / "runs"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses(run))


def test_log_lines_are_words_with_units_and_without_false_figures(
    cuts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="egrecho_inner"):
        train(cuts, tmp_path / "run", dev=cuts, max_steps=3, report_to=[], metric="wer")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("step ")]
    assert len(lines) == 5 and not any("{" in line or "'" in line for line in lines)  # 3 steps, the score, the end
    assert re.fullmatch(
        r"step 1/3, epoch 0\.50: loss \d[\d.]+, gradient norm \d[\d.]*, learning rate [\d.e-]+, [\d.]+ s of audio/s, "
        r"padding \d+\.\d %, waiting for data \d+\.\d %, \d+\.\d\d GB at most",
        lines[0],
    ), lines[0]
    score = next(line for line in lines if "development WER" in line)
    assert re.search(r"development WER \d+\.\d\d % \(\d+\.\d\d to \d+\.\d\d\), evaluated in", score), score
    assert re.search(
        r"trained for \d+\.\d s, evaluations and checkpoints included, [\d.]+ steps/s, mean loss", lines[-1]
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    named = {"eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}
    assert any(named <= row.keys() and row["eval_steps_per_second"] > 0 for row in rows)
    assert not any("train_samples_per_second" in row or "mfu" in row for row in rows)  # nothing known of a CPU's peak


def test_figures_without_words_of_their_own_are_named(tmp_path: Path) -> None:
    assert in_words({"kl": 0.123456, "note": "x"}) == "kl 0.1235, note x"


def test_the_ticks_of_the_picture_are_plain_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": step, "loss": 0.9 - step / 100} for step in range(40)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: (figures.append(figure), path.write_bytes(b"")))
    draw(tmp_path / "metrics.jsonl", tmp_path / "progress.png")
    axes = figures[0].axes[0]
    figures[0].draw_without_rendering()
    labels = {label.get_text() for label in axes.yaxis.get_ticklabels(which="both")} - {""}
    assert "0.6" in labels and all(re.fullmatch(r"[\d.]+", label) for label in labels)


def test_log_lines_follow_a_progress_bar_that_takes_stderr_over(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = logging.getLogger("egrecho_inner")
    kept = setup.handlers, setup.propagate, setup.level
    try:
        setup_logging(debug=False)
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=True, stderr=True)
        with Progress(console=console):
            logging.getLogger("egrecho_inner.test").info("above the bar")
        assert "above the bar" in screen.getvalue()
    finally:
        setup.handlers, setup.propagate, setup.level = kept


def test_wandb_works_offline_and_writes_into_the_run_folder(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = needs.extra("watch", "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    train(cuts, tmp_path / "run", max_steps=3, report_to=["wandb"])
    wandb.finish()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert not (tmp_path / "wandb").exists()
    assert len(losses(tmp_path / "run")) == 3


def test_all_starts_of_a_run_are_one_run_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_RESUME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "other").mkdir()
    found = []
    for folder in (tmp_path, tmp_path, tmp_path / "other"):
        keep_wandb_run(folder)
        found.append(os.environ["WANDB_RUN_ID"])
    assert found[0] == found[1] != found[2] and os.environ["WANDB_RESUME"] == "allow"
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    keep_wandb_run(tmp_path)
    assert os.environ["WANDB_RUN_ID"] == "mine", "a user's own wins"


def test_trackio_writes_to_its_local_database(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    needs.extra("watch", "trackio")
    train(cuts, tmp_path / "run", max_steps=3, report_to=["trackio"])
    assert [path for path in (tmp_path / "trackio").rglob("*") if path.stat().st_size and path.stem == "egrecho"]
    assert len(losses(tmp_path / "run")) == 3


def test_a_failed_run_takes_its_progress_bar_away(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="egrecho_inner")  # a quiet run has no bar
    screen, kept, calls, at = io.StringIO(), PlanTrainer.compute_loss, [], [2]
    monkeypatch.setattr(watch, "Console", lambda **_: Console(file=screen, force_terminal=True))

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) in at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return kept(*args, **kwargs)

    monkeypatch.setattr(PlanTrainer, "compute_loss", failing)
    hide, show = "\x1b[?25l", "\x1b[?25h"
    train(cuts, tmp_path, max_steps=2, auto_halve=True, report_to=["tensorboard"])  # two bars, one after the other
    assert screen.getvalue().count(show) == screen.getvalue().count(hide) == 2
    assert len(list((tmp_path / "runs").iterdir())) == 2
    calls[:], at[:] = [], [2]
    with pytest.raises(OutOfMemory):
        train(cuts, tmp_path / "end", max_steps=2)
    assert screen.getvalue().count(show) == screen.getvalue().count(hide) == 3


def test_what_is_not_installed_is_named_before_training(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train.report_to wandb: wandb is not installed; pip install"):
        train(cuts, tmp_path, report_to=["wandb"])
