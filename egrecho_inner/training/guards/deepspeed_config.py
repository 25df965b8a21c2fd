"""A configuration of DeepSpeed beside the options of a run: what both say has to be the same.

Batches, optimizer, learning rate, clipping and precision are options here. A configuration that was written for another
trainer sets them, too, and DeepSpeed would take its own optimizer, at its own rate, without the rates of parts; or it
lacks one that DeepSpeed then leaves out without a word, as gradient clipping.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egrecho_inner.errors import ConfigError
from egrecho_inner.training.options import TrainOptions

AUTO = "auto"
OWN = {
    "optimizer": "train.optimizer, train.learning_rate and train.learning_rates",
    "scheduler": "train.schedule and train.warmup_steps",
}
"""Blocks that take the place of options, and of which."""


def check_deepspeed_config(path: str, options: TrainOptions) -> None:
    """Refuse a configuration that contradicts the options.

    Raises:
        ConfigError: It is no JSON object, or naming each contradiction.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"train.deepspeed: {path} is not JSON ({error}); config/ has examples") from error
    if not isinstance(config, dict):
        raise ConfigError(f"train.deepspeed: {path} is not a JSON object; config/ has examples")
    if found := list(conflicts(config, options)):
        raise ConfigError(
            f"train.deepspeed: {path} contradicts the options of the run: {'; '.join(found)}; "
            "config/ds_zero2_offload.json and the others of config/ leave all of these to the options"
        )


def conflicts(config: dict[str, Any], options: TrainOptions) -> Iterator[str]:
    """Yield each contradiction with what to do about it."""
    micro = config.get("train_micro_batch_size_per_gpu", AUTO)
    if micro not in (AUTO, 1):
        yield (
            f"train_micro_batch_size_per_gpu {micro} (write auto, and batch.batch_size {micro} with batch.max_duration "
            "null)"
        )
    if config.get("train_batch_size", AUTO) != AUTO:
        yield f"train_batch_size {config['train_batch_size']} (write auto; batch.* and train.accumulation make it)"
    accumulation = config.get("gradient_accumulation_steps", AUTO)
    if accumulation not in (AUTO, options.accumulation):
        yield f"gradient_accumulation_steps {accumulation} (train.accumulation is {options.accumulation})"
    for block, names in OWN.items():
        if block in config:
            kind = config[block].get("type") if isinstance(config[block], dict) else config[block]
            yield f"{block} {kind} (remove it; here it is {names})"
    clipping = config.get("gradient_clipping")
    if clipping is None and options.max_grad_norm:
        yield f"no gradient_clipping (write auto, or train.max_grad_norm {options.max_grad_norm} is ignored)"
    elif clipping not in (None, AUTO, options.max_grad_norm):
        yield f"gradient_clipping {clipping} (train.max_grad_norm is {options.max_grad_norm})"
    for kind in ("fp16", "bf16"):
        yield from precision_conflicts(kind, config.get(kind), options.precision)


def precision_conflicts(kind: str, block: Any, precision: str) -> Iterator[str]:
    """Yield how a block of fp16 or bf16 contradicts train.precision."""
    enabled = block.get("enabled", False) if isinstance(block, dict) else False
    if enabled != AUTO and bool(enabled) != (precision == kind):
        state = "is missing or false" if not enabled else "true"
        yield f"{kind}.enabled {state} (train.precision is {precision}; write auto)"
