"""Which checkpoint is the best, and whether scores of earlier starts may still be compared.

In: development scores as the log has them. Out: the best step, in the trainer's state; the end of a run that has
stopped becoming better. Scores of other development cuts, another metric or another input begin a new comparison.
"""

import hashlib
import json
import logging
import math
from typing import Any

from transformers import TrainerCallback

from egrecho_inner.training.checkpoints.resume import flatten

logger = logging.getLogger(__name__)

SETTINGS = (
    *("train.metric", "train.seed", "window.window"),
    *("data.dev_limit", "data.normalizer", "data.language", "data.task"),
)
"""What decides, besides the cuts and the weights, how a development score comes out; the seed draws the cuts."""


def measure(facts: dict[str, Any]) -> str:
    """Name how development scores come out, from what a checkpoint remembers of its run."""
    settings = dict(flatten(facts.get("config") or {}))
    text = json.dumps([facts.get("dev"), *(settings.get(name) for name in SETTINGS)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def forget_scores(state: Any) -> None:
    """Take out of a trainer's state what was measured otherwise."""
    state.best_metric = state.best_global_step = state.best_model_checkpoint = None
    state.log_history = [entry for entry in state.log_history if "eval_loss" not in entry]


def is_best(state: Any, scores: dict[str, float], metric: str) -> bool:
    """Return whether scores are the best so far; of equal error rates the lower loss wins, of equal ones the later.

    Args:
        state: The trainer's, with the scores of earlier steps in its log.
        scores: Of the present step.
        metric: The name that decides.
    """
    if state.best_metric is None:
        return not math.isnan(scores[metric])
    losses = [entry["eval_loss"] for entry in scored(state) if entry["step"] == state.best_global_step]
    return (scores[metric], scores["eval_loss"]) <= (state.best_metric, losses[-1] if losses else math.inf)


def note_best(state: Any, scores: dict[str, float], metric: str) -> bool:
    """Take down the present step in a trainer's state if its scores are the best so far; return whether they are."""
    found = is_best(state, scores, metric)
    if found:
        state.best_metric, state.best_global_step = scores[metric], state.global_step
    return found


def scored(state: Any) -> list[dict[str, float]]:
    """Return the evaluations in a trainer's log."""
    return [entry for entry in state.log_history if "eval_loss" in entry]


class Patience(TrainerCallback):
    """Stop when nothing has become better for some evaluations; resumable, as it reads the log."""

    def __init__(self, patience: int, metric: str):
        self.patience, self.key = patience, f"eval_{metric}"

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        values = [(entry[self.key], entry["eval_loss"]) for entry in scored(state)]
        best = min(range(len(values)), key=values.__getitem__) if values else 0
        if len(values) - 1 - best >= self.patience:
            logger.info("no better %s for %d evaluations: stopping", self.key, self.patience)
            control.should_training_stop = True
