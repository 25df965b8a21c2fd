"""How many steps a run has, how large each is, and when it is scored.

In: the batch plan, `train.max_steps`, `num_epochs`, `epoch_steps`, `eval_per_epoch`, `global_batch`. Out: the same
options in steps and batches.
"""

import dataclasses
import math

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.data.batches.stream import StreamPlan
from egrecho_inner.errors import ConfigError
from egrecho_inner.training.options import TrainOptions


def count_steps(plan: BatchPlan | StreamPlan, train: TrainOptions) -> int:
    """Return the optimizer steps of a run."""
    if train.max_steps is not None:
        return train.max_steps
    if train.epoch_steps is not None:
        return max(round(train.num_epochs * train.epoch_steps), 1)
    full = math.floor(train.num_epochs)
    part = round((train.num_epochs - full) * plan.steps_per_epoch(full)) if train.num_epochs > full else 0
    return max(plan.first_step(full) + part, 1)


def epochs_at(plan: BatchPlan | StreamPlan, train: TrainOptions, step: int) -> float:
    """Return how many epochs are done before a step."""
    return step / train.epoch_steps if train.epoch_steps is not None else plan.epochs_at(step)


def with_evaluations(plan: BatchPlan | StreamPlan, train: TrainOptions) -> TrainOptions:
    """Return the options with `eval_per_epoch` as steps."""
    if train.eval_per_epoch is None:
        return train
    epoch = train.epoch_steps or plan.steps_per_epoch(0)
    return dataclasses.replace(train, eval_steps=max(1, epoch // train.eval_per_epoch))


def with_accumulation(batch: BatchOptions, train: TrainOptions, world_size: int) -> TrainOptions:
    """Return the options with `global_batch` as accumulation.

    Raises:
        ConfigError: It does not divide by the cuts that the processes take at once.
    """
    if train.global_batch is None:
        return train
    if batch.batch_size is None:
        raise ConfigError("train.global_batch counts cuts: set batch.batch_size, and batch.max_duration to null")
    if train.accumulation != 1:
        raise ConfigError("train.global_batch sets the accumulation; leave train.accumulation out")
    at_once = batch.batch_size * world_size
    if train.global_batch % at_once:
        raise ConfigError(
            f"train.global_batch {train.global_batch} is no multiple of {at_once}, which is batch.batch_size "
            f"{batch.batch_size} on {world_size} processes; take a multiple"
        )
    return dataclasses.replace(train, accumulation=train.global_batch // at_once)
