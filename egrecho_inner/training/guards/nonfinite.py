"""Gradients that are NaN or infinite: the run ends before the optimizer takes them, or leaves the step out.

In: a gradient's norm. Out: nothing, or the end of the run; the ids of the step's cuts in `nonfinite-STEP-rankN.json`.
"""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from egrecho_inner.errors import DataError
from egrecho_inner.runtime.files import write_json
from egrecho_inner.training.guards import strategy

logger = logging.getLogger(__name__)


def meet_nonfinite(trainer: Any, model: nn.Module, norm: float) -> None:
    """Stop before the optimizer takes the step, or leave the step out and count it.

    Args:
        trainer: A `PlanTrainer`.
        model: As the trainer wraps it.
        norm: Of the gradient.

    Raises:
        DataError: By `train.nonfinite: stop`, or after too many of them.
    """
    trainer.tally.nonfinite += 1
    step, scale = trainer.state.global_step, strategy.loss_scale(trainer)
    if scale is not None:  # fp16: the scaler leaves the step out and lowers its scale
        if scale >= strategy.MIN_SCALE:
            return
        raise DataError(strategy.fallen_scale(f"{scale:g}", step))
    path = Path(trainer.args.output_dir) / f"nonfinite-{step}-rank{trainer.args.process_index}.json"
    write_json(path, {"step": step, "grad_norm": str(norm), "ids": trainer.tally.ids})
    if trainer.options.nonfinite == "skip" and trainer.tally.nonfinite <= trainer.options.nonfinite_limit:
        logger.warning("the gradient norm is %s at step %d: no update; its cuts are in %s", norm, step, path)
        if not trainer.is_deepspeed_enabled:  # which has left the step out already
            model.zero_grad(set_to_none=True)  # an optimizer passes over parameters without gradient
        return
    count = f" (number {trainer.tally.nonfinite} of this run)" if trainer.options.nonfinite == "skip" else ""
    raise DataError(
        f"the gradient norm is {norm}{count} at step {step}; its cuts are in {path}; check their audio and text, "
        "lower train.learning_rate, or train.nonfinite skip; the same command continues from the last checkpoint"
    )
