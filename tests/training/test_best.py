"""Which checkpoint is the best: ties, other development cuts, another metric."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import train
from tiny import speech_cuts

from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.checkpoints.best import Patience, is_best, measure
from egrecho_inner.training.checkpoints.resume import Allowance
from egrecho_inner.training.dev_score import DevScorer


def state_of(*scores: tuple[float, float], best: int) -> SimpleNamespace:
    """Make a trainer's state from error rates and losses; the step of the first is 1."""
    log = [{"step": step, "eval_wer": wer, "eval_loss": loss} for step, (wer, loss) in enumerate(scores, 1)]
    return SimpleNamespace(log_history=log, best_global_step=best, best_metric=scores[best - 1][0])


@pytest.mark.parametrize(
    ("scores", "better"),
    [
        ((0.4, 9.0), True),
        ((0.5, 1.9), True),
        ((0.5, 2.0), True),
        ((0.5, 2.1), False),
        ((0.6, 1.0), False),
        ((float("nan"), 1.0), False),
    ],
)
def test_of_equal_error_rates_the_lower_loss_wins_and_of_equal_ones_the_later(
    scores: tuple[float, float], better: bool
) -> None:
    wer, loss = scores
    assert is_best(state_of((0.7, 1.0), (0.5, 2.0), best=2), {"eval_wer": wer, "eval_loss": loss}, "eval_wer") == better


def test_a_first_score_is_the_best_if_it_is_a_number() -> None:
    state = SimpleNamespace(log_history=[], best_metric=None, best_global_step=None)
    assert is_best(state, {"eval_wer": 1.0, "eval_loss": 2.0}, "eval_wer")
    assert not is_best(state, {"eval_loss": float("nan")}, "eval_loss")


def test_patience_counts_a_lower_loss_at_the_same_error_rate_as_better() -> None:
    control = SimpleNamespace(should_training_stop=False)
    patience = Patience(2, "wer")
    for losses, stops in (([3.0, 2.0, 1.0], False), ([3.0, 3.0, 3.0], True), ([1.0, 2.0, 3.0], True)):
        control.should_training_stop = False
        patience.on_evaluate(None, state_of(*((0.0, loss) for loss in losses), best=1), control)
        assert control.should_training_stop == stops, losses


def test_only_what_a_score_depends_on_is_in_its_measure() -> None:
    facts = {"dev": "abc", "config": {"train": {"metric": "wer", "learning_rate": 1.0}, "data": {"dev_limit": 5}}}
    faster = {**facts, "config": {**facts["config"], "train": {"metric": "wer", "learning_rate": 2.0}}}
    assert measure(facts) == measure(faster)
    assert measure(facts) != measure({**facts, "dev": "abd"})
    assert measure(facts) != measure({**facts, "config": {**facts["config"], "data": {"dev_limit": 6}}})


@pytest.mark.parametrize("change", ["dev", "metric"])
def test_other_cuts_or_another_metric_begin_a_new_comparison(
    cuts: Path, dev: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, kept = tmp_path / "run", DevScorer.__call__
    with monkeypatch.context() as easy:  # scores that nothing measured otherwise could ever beat
        easy.setattr(DevScorer, "__call__", lambda self, model: kept(self, model) | {"loss": 0.0, "wer": 0.0})
        train(cuts, run, dev, metric="wer", max_steps=6)
    other = speech_cuts(tmp_path, n=3, seed=5, name="other") if change == "dev" else dev
    key = "eval_cer" if change == "metric" else "eval_wer"
    train(cuts, run, other, metric=key.removeprefix("eval_"), max_steps=9, allow=Allowance(changed=True))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = {row["step"]: (row[key], row["eval_loss"]) for row in rows if row.get("eval_loss") and key in row}
    assert set(scores) == {6, 9}, "the checkpoint that is continued is measured anew"
    made = json.loads((run / "final" / "training.json").read_text())
    assert made["best"] == f"checkpoint-{min(scores, key=scores.get)}"
    assert json.loads((run / "checkpoint-6" / checkpoint.EVALUATION).read_text())["eval_loss"] > 0
