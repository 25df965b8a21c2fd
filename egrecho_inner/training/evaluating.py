"""The Trainer's evaluation: by real decoding, after the checkpoint is written, made up for by a restart."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from egrecho_inner.runtime.files import write_json
from egrecho_inner.training.callbacks import Tally
from egrecho_inner.training.checkpoints import best
from egrecho_inner.training.checkpoints import folder as checkpoint
from egrecho_inner.training.guards import memory, sharding
from egrecho_inner.training.guards.stops import Stops
from egrecho_inner.training.saving import SavingTrainer

Evaluate = Callable[[nn.Module], dict[str, float]]
"""Scores the model on the development cuts: names without `eval_` to values; every process calls it."""


class EvaluatingTrainer(SavingTrainer):
    """A Trainer that evaluates what it has saved; the attributes are set by the subclass."""

    score: Evaluate
    stops: Stops
    tally: Tally

    def owes_evaluation(self) -> bool:
        """Return whether the step reached has an evaluation due that its checkpoint does not know of."""
        step = self.state.global_step
        due = step and (step % self.state.eval_steps == 0 or step >= self.state.max_steps)
        done = any(entry["step"] == step and "eval_loss" in entry for entry in self.state.log_history)
        return bool(due) and not done and self.args.eval_strategy != "no"

    def known_scores(self, folder: Path) -> dict[str, Any] | None:
        """Return the development scores of a checkpoint, if there are any and they were measured as they are now."""
        path = folder / checkpoint.EVALUATION
        scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return scores if scores.get("eval_measure") == best.measure(self.fingerprint) else None

    def score_step(self, known: dict[str, float] | None = None) -> None:
        """Evaluate and note the best step.

        Args:
            known: The scores, if the checkpoint was evaluated before.
        """
        self.stops.nothing_to_lose = self.saved_step == self.state.global_step
        try:
            scores = self.evaluate(known)
        finally:
            self.stops.nothing_to_lose = False
        self._determine_best_metric(scores, None)
        folder = Path(self.args.output_dir) / f"{checkpoint.PREFIX}{self.state.global_step}"
        if self.args.should_save and folder.is_dir() and known is None:
            normalizers = ", ".join(sorted(getattr(self.score, "normalizers", ())))
            named = {"eval_normalizer": normalizers} if normalizers else {}
            named["eval_measure"] = best.measure(self.fingerprint)
            write_json(folder / checkpoint.EVALUATION, scores | named)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if (metric := self.args.metric_for_best_model) is None:
            return False
        found = best.is_best(self.state, metrics, f"eval_{metric}")
        if found:
            self.state.best_metric, self.state.best_global_step = metrics[f"eval_{metric}"], self.state.global_step
        return found

    def evaluate(self, known: dict[str, float] | None = None, *_: Any, **__: Any) -> dict[str, float]:
        """Score the development cuts; the log line has Transformers' names.

        Args:
            known: The scores, where they are known.
        """
        began = time.perf_counter()
        scores = known
        if scores is None:
            with memory.evaluation_named(self.state.global_step):
                sharded = self.accelerator.unwrap_model(self.model)
                model = sharding.unsharded(sharded, self.family.plain)
                with self.accelerator.autocast():  # a copy of a sharded model has none of its own
                    found = self.score(sharded if model is None else model)
                scores = {f"eval_{name}": value for name, value in found.items()}
            runtime = time.perf_counter() - began
            cuts, batches = scores.pop("eval_cuts", 0), scores.pop("eval_batches", 0)
            scores["eval_runtime"] = round(runtime, 4)
            scores["eval_samples_per_second"] = round(cuts / max(runtime, 1e-9), 3)
            scores["eval_steps_per_second"] = round(batches / max(runtime, 1e-9), 3)
        self.tally.began += time.perf_counter() - began  # evaluation is not training time
        scores = {name: value for name, value in scores.items() if not isinstance(value, str)}
        self.log(dict(scores))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores
