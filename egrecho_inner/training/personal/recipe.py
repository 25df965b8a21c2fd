"""Settings for a hundred recordings: what is trained, how fast, for how long, from the model's size and the data's.

In: a few options, the base, the training cuts. Out: options of `fit()`. The defaults are those of the specification
(encoder only, polynomial schedule of power 4, evaluation twice an epoch); the learning rate follows the model's size.
"""

import math

import torch
from torch import nn

from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.data.batches.plan import BatchPlan
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.options import LoraOptions
from egrecho_inner.model.whisper import Whisper
from egrecho_inner.training.options import TrainOptions, WindowOptions
from egrecho_inner.training.personal.options import Policy, TuneOptions

SPEC_WARMUP = 50
REFERENCE = 39e6, 3.75e-5
"""Parameters and peak learning rate of tiny: a fortieth of that of its training (Radford et al. 2022, table 17)."""
EXPONENT = 0.58
"""That table's rates fall with the parameters to about this power, from tiny's 1.5e-3 to large's 1.75e-4."""


def peak_rate(options: TuneOptions, policy: Policy, parameters: int) -> float:
    """Return the peak learning rate for a model of so many parameters."""
    if options.learning_rate is not None:
        return options.learning_rate
    size, rate = REFERENCE
    found = rate * (size / parameters) ** EXPONENT
    return float(f"{min(30 * found, 1e-2) if policy == 'lora' else min(found, 1e-3):.2g}")


def batch_options(options: TuneOptions, cuts: CutList) -> BatchOptions:
    """Return how cuts are put together; no batch is larger than a third of the data."""
    return BatchOptions(max_duration=None, batch_size=max(1, min(options.batch_size, math.ceil(len(cuts) / 3))))


def window_options(options: TuneOptions) -> WindowOptions:
    """Return the length of the input: as short as the utterances, and 30 s at times."""
    if options.padded in (0.0, 1.0):
        return WindowOptions("30s" if options.padded else "longest")
    return WindowOptions("mixed", options.padded)


def train_options(
    options: TuneOptions, policy: Policy, base: Whisper, plan: BatchPlan, max_steps: int | None = None
) -> TrainOptions:
    """Return the training options of one run.

    Args:
        options: What the user chose.
        policy: What is trained.
        base: Whose size sets the learning rate.
        plan: Whose epochs set the steps between evaluations.
        max_steps: Train exactly so long, without development cuts.
    """
    epoch = plan.steps_per_epoch(0)
    steps = max_steps or max(round(options.epochs * epoch), 1)
    rate = peak_rate(options, policy, sum(p.numel() for p in base.parameters()))
    return TrainOptions(
        max_steps=steps,
        learning_rate=rate,
        schedule="polynomial",
        min_learning_rate=options.end_learning_rate * rate,
        power=options.power,
        warmup_steps=float(max(1, min(SPEC_WARMUP, round(options.warmup * steps)))),
        weight_decay=0.0,
        precision="bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32",
        freeze=["decoder"] if policy in ("encoder", "encoder-top") else [],
        eval_steps=steps if max_steps else 500,
        eval_per_epoch=None if max_steps else options.evals_per_epoch,
        logging_steps=max(1, epoch // 4),
        keep_checkpoints=1,
        patience=options.patience,
        workers=0 if len(plan.durations) < 2000 else 2,  # a loader process costs more than it saves
        seed=options.seed,
        max_hours=options.max_hours,
    )


def lora_options(options: TuneOptions) -> LoraOptions:
    """Return the adapter's shape."""
    return LoraOptions(r=options.lora_r, alpha=2 * options.lora_r, parts="encoder")


def freeze_below(base: Whisper, layers: int) -> None:
    """Keep the gradient for the top layers of the encoder and its last norm.

    Raises:
        ConfigError: The encoder has fewer layers.
    """
    encoder = base.model.encoder
    if layers > len(encoder.layers):
        raise ConfigError(f"tune.top_layers is {layers}; the encoder has {len(encoder.layers)}")
    below: list[nn.Module] = [encoder.conv1, encoder.conv2, encoder.embed_positions, *encoder.layers[:-layers]]
    for module in below:
        module.requires_grad_(False)
