"""Parts of a model: which are frozen, and how fast each of the others learns.

In: the parts that a family names, `train.freeze`, `train.learning_rates`, `train.weight_decays`. Out: parameters
without gradient, and the groups of the optimizer.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from lion_pytorch import Lion
from torch import nn
from transformers import Trainer, TrainingArguments

from egrecho_inner.errors import ConfigError
from egrecho_inner.training.options import TrainOptions

Parts = Mapping[str, list[nn.Module]]
HALVES = {"bfloat16": "bf16", "float16": "fp16"}
"""The precision of training under which frozen weights may have a type."""


def freeze(model: nn.Module, parts: Parts, names: list[str]) -> None:
    """Switch off the gradient of the named parts.

    Raises:
        ConfigError: The model has no such part, or nothing is left to train.
    """
    check_names("train.freeze", names, parts)
    for name in names:
        for module in parts[name]:
            module.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"train.freeze {names} leaves nothing to train")


def check_names(key: str, names: Collection[str], parts: Parts) -> None:
    """Refuse the name of a part that the model has not.

    Raises:
        ConfigError: With those it has.
    """
    for name in names:
        if name not in parts:
            raise ConfigError(f"{key} {name}: this model has the parts {', '.join(parts)}")


def shrink_frozen(model: nn.Module, options: TrainOptions, saved_apart: bool) -> None:
    """Give frozen weights the type of `train.frozen_dtype`.

    Args:
        model: With `requires_grad` where it is trained.
        options: Which type.
        saved_apart: Whether the result leaves frozen weights out (an adapter, a family with `kept`).

    Raises:
        ConfigError: The result would hold the rounded weights, or what is trained would meet another type than it has.
    """
    name = options.frozen_dtype
    if name is None:
        return
    if options.precision != HALVES[name]:
        raise ConfigError(f"train.frozen_dtype {name} needs train.precision {HALVES[name]}, here {options.precision}")
    if not saved_apart:
        raise ConfigError("train.frozen_dtype would round what the result is made of; it is for adapters")
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, name))


def make_optimizer(
    model: nn.Module, parts: Parts, options: TrainOptions, args: TrainingArguments, decaying: Collection[str]
) -> torch.optim.Optimizer | None:
    """Make the optimizer where Transformers would make another one; None leaves it to Transformers.

    Args:
        model: With `requires_grad` where it is trained.
        parts: Of the model.
        options: Optimizer, rates.
        args: The same as Transformers has it.
        decaying: Names of the parameters that weight decay is for: no biases, no norms.
    """
    if not (options.learning_rates or options.weight_decays or options.optimizer == "lion"):
        return None
    groups = parameter_groups(model, parts, options, decaying)
    if options.optimizer == "lion":
        # decoupled_weight_decay False (the default): the decay is scaled by the learning rate, as AdamW's
        return Lion(groups, lr=args.learning_rate, betas=(args.adam_beta1, args.adam_beta2))
    kind, given = Trainer.get_optimizer_cls_and_kwargs(args, model)
    return kind(groups, **given)


def parameter_groups(
    model: nn.Module, parts: Parts, options: TrainOptions, decaying: Collection[str]
) -> list[dict[str, Any]]:
    """Group the trained parameters by learning rate and weight decay, decaying ones first as Transformers does.

    A parameter of several parts (`decoder` and `embeddings`, say) goes with the smallest of those that are named.

    Raises:
        ConfigError: A named part is not there, or nothing of it is trained.
    """
    wanted = {"train.learning_rates": options.learning_rates, "train.weight_decays": options.weight_decays}
    chosen = {key: choose(values, parts) for key, values in wanted.items()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    used: set[tuple[str, str]] = set()
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    for name, parameter in sorted(trained, key=lambda pair: pair[0] not in decaying):
        values = {
            "train.learning_rates": options.learning_rate,
            "train.weight_decays": options.weight_decay,
        }
        for key, of in chosen.items():
            if id(parameter) in of:
                part, values[key] = of[id(parameter)]
                used.add((key, part))
        rate, decay = values.values()
        groups.setdefault((rate, decay if name in decaying else 0.0), []).append(parameter)
    for key, part in [(key, part) for key, values in wanted.items() for part in values]:
        check_names(key, [part], parts)
        if (key, part) not in used:
            raise ConfigError(f"{key} {part}: nothing of it is trained, or smaller parts that are named hold all of it")
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]


def choose(values: Mapping[str, float], parts: Parts) -> dict[int, tuple[str, float]]:
    """Return part and value of each parameter that a named part holds, by its id; the smallest part wins."""
    sizes = {name: sum(p.numel() for module in parts[name] for p in module.parameters()) for name in parts}
    chosen: dict[int, tuple[str, float]] = {}
    for part in sorted((name for name in values if name in parts), key=lambda name: -sizes[name]):
        for module in parts[part]:
            chosen |= {id(parameter): (part, values[part]) for parameter in module.parameters()}
    return chosen
