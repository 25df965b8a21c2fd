"""Development scores of a step: by real decoding, after the checkpoint is written, made up for by a restart.

In: a trainer whose checkpoint of the step is there. Out: scores in the log, the best step in the trainer's state, and
`evaluation.json` in the checkpoint.
"""

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from egrecho_inner.runtime.files import write_json
from egrecho_inner.training.checkpoints import best
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.guards import memory, sharding

Evaluate = Callable[[nn.Module], dict[str, float]]
"""Scores the model on the development cuts: names without `eval_` to values; every process calls it."""


def owes_evaluation(trainer: Any) -> bool:
    """Return whether the step reached has an evaluation due that its checkpoint does not know of."""
    step = trainer.state.global_step
    due = step and (step % trainer.state.eval_steps == 0 or step >= trainer.state.max_steps)
    done = any(entry["step"] == step and "eval_loss" in entry for entry in trainer.state.log_history)
    return bool(due) and not done and trainer.args.eval_strategy != "no"


def known_scores(trainer: Any, folder: Path) -> dict[str, Any] | None:
    """Return the development scores of a checkpoint, if there are any and they were measured as they are now."""
    path = folder / checkpoint.EVALUATION
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return scores if scores.get("eval_measure") == best.measure(trainer.fingerprint) else None


def score_step(trainer: Any, known: dict[str, float] | None = None) -> None:
    """Evaluate and note the best step.

    Args:
        trainer: A `PlanTrainer`.
        known: The scores, if the checkpoint was evaluated before.
    """
    step = trainer.state.global_step
    trainer.stops.nothing_to_lose = trainer.saved_step == step
    try:
        scores = trainer.evaluate(known)
    finally:
        trainer.stops.nothing_to_lose = False
    trainer._determine_best_metric(scores, None)
    folder = Path(trainer.args.output_dir) / f"{checkpoint.PREFIX}{step}"
    if trainer.args.should_save and folder.is_dir() and known is None:
        normalizers = ", ".join(sorted(getattr(trainer.score, "normalizers", ())))
        named = {"eval_normalizer": normalizers} if normalizers else {}
        named["eval_measure"] = best.measure(trainer.fingerprint)
        write_json(folder / checkpoint.EVALUATION, scores | named)


def measure(trainer: Any, known: dict[str, float] | None) -> dict[str, float]:
    """Return the scores of the present weights with the names and the speed that Transformers' line has.

    Args:
        trainer: A `PlanTrainer`.
        known: The scores, where they are known.
    """
    began, scores = time.perf_counter(), known
    if scores is None:
        with memory.evaluation_named(trainer.state.global_step):
            sharded = trainer.accelerator.unwrap_model(trainer.model)
            model = sharding.unsharded(sharded, trainer.family.plain)
            averaged = contextlib.nullcontext() if trainer.average is None else trainer.average.in_place()
            with averaged, trainer.accelerator.autocast():  # a copy of a sharded model has none of its own
                found = trainer.score(sharded if model is None else model)
        scores = {f"eval_{name}": value for name, value in found.items()}
        runtime = time.perf_counter() - began
        cuts, batches = scores.pop("eval_cuts", 0), scores.pop("eval_batches", 0)
        scores["eval_runtime"] = round(runtime, 4)
        scores["eval_samples_per_second"] = round(cuts / max(runtime, 1e-9), 3)
        scores["eval_steps_per_second"] = round(batches / max(runtime, 1e-9), 3)
    trainer.tally.began += time.perf_counter() - began  # evaluation is not training time
    return {name: value for name, value in scores.items() if not isinstance(value, str)}
