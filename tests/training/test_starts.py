"""Every kind of start is the same twice: two runs of one command, one killed and continued, end with the same bits."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import in_child, kill_at_step, same
from tiny import save_tiny

from egrecho_inner.data.batches.options import BatchOptions, DataOptions
from egrecho_inner.full import train_full
from egrecho_inner.lora import train_lora
from egrecho_inner.model.options import LoraOptions, ModelOptions
from egrecho_inner.training.options import TrainOptions

STARTS = {"loaded": 0.0, "loaded, with CTC": 0.3, "random, with CTC": 0.3, "adapter": 0.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base") / "final", ending=3.3)


def start(kind: str, base: Path, cuts: Path, out: Path) -> None:
    """Run the program of a kind of start from the beginning to the end, as a command line does in a new process."""
    torch.manual_seed(os.getpid())  # what a process has drawn before is nobody's business
    train = TrainOptions(
        max_steps=4, eval_steps=2, workers=0, report_to=[], metric="loss", ctc_weight=STARTS[kind], learning_rate=1e-3
    )
    given: dict[str, Any] = {
        "model": ModelOptions(str(base), size="nano" if kind.startswith("random") else None, dropout=0.1),
        "data": DataOptions(train=str(cuts)),
        "batch": BatchOptions(max_duration=None, batch_size=3),
        "train": train,
        "out": str(out),
    }
    if kind == "adapter":
        train_lora(lora=LoraOptions(r=2), **given)
    else:
        train_full(**given)


@pytest.mark.parametrize("kind", STARTS)
def test_a_run_killed_and_continued_ends_as_one_that_was_not(kind: str, base: Path, cuts: Path, tmp_path: Path) -> None:
    def killed() -> None:
        kill_at_step(3)
        start(kind, base, cuts, tmp_path / "killed")

    assert in_child(killed) == -9
    for out in ("killed", "whole"):
        assert in_child(lambda out=out: start(kind, base, cuts, tmp_path / out)) == 0
    place = "adapter" if kind == "adapter" else "final"
    assert same(tmp_path / "killed" / place, tmp_path / "whole" / place)
