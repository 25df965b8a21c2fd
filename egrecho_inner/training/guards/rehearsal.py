"""Whether the largest batch fits, found out before the first step by running it as a step would.

In: a prepared trainer. Out: nothing, or `OutOfMemory` on all processes. No weight, random draw or figure of the log is
another afterwards.
"""

import logging
from typing import Any

import torch

from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.training.guards import memory

logger = logging.getLogger(__name__)


def rehearse(trainer: Any) -> None:
    """Run the plan's largest batch.

    Args:
        trainer: A `PlanTrainer` whose model and optimizer are prepared.

    Raises:
        OutOfMemory: It does not fit, on this process or another.
    """
    largest, fault, device = trainer.plan.largest(), None, trainer.args.device
    if largest is None:
        logger.info("no rehearsal: a stream cannot be asked for its longest cuts")
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            run(trainer, largest)
        except memory.OutOfMemory as error:
            fault = error.bare()
    trainer.model.zero_grad(set_to_none=True)
    trainer.forget_figures()
    trainer.fits.agree(fault)
    if device.type == "cuda":
        logger.info(
            "rehearsal: the largest batch (%.0f s with padding) takes %.1f of %.1f GB",
            trainer.plan.padded_seconds(largest), torch.cuda.max_memory_allocated() / 1e9,
            torch.cuda.get_device_properties(device).total_memory / 1e9,
        )  # fmt: skip
    memory.release()


def run(trainer: Any, largest: Batch) -> None:
    """Hold what a step in the middle of a run holds: the optimizer's moments, gradients, one batch."""
    loaded, device, model = trainer.batches[largest], trainer.args.device, trainer.model_wrapped
    trainer.batches.inputs.to_device(loaded.inputs, device)
    items = torch.tensor(max(loaded.targets, 1))
    room = 0 if trainer.optimizer.state else memory.moments(trainer.model, trainer.options.optimizer)
    with memory.named(loaded, trainer.plan.options, "0 (rehearsal)"):
        moments = torch.empty(room, dtype=torch.uint8, device=device)
        trainer.encode_frozen(loaded)
    for _ in range(min(trainer.args.gradient_accumulation_steps, 2)):  # the second finds gradients there
        with trainer.accelerator.no_sync(model):
            trainer.run_batch(model, loaded, items, "0 (rehearsal)")
    del moments
