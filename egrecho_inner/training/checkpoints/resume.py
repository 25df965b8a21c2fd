"""Whether a checkpoint may be continued by this command: what must agree, what changed, what it means to go on.

In: the facts in a checkpoint's `_COMPLETE.json` and the same facts about the run that starts. Out: nothing, a log line,
or one error that lists every difference. Settings that cannot change the result may differ freely.
"""

import hashlib
import logging
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from egrecho_inner import __version__
from egrecho_inner.errors import ConfigError
from egrecho_inner.training.guards.devices import same_bits_need

logger = logging.getLogger(__name__)

FREE = {
    "out", "outdir", "allow_changed", "allow_reshard",
    # known by content, wherever the files lie
    "model.path", "data.train", "data.dev",
    "data.max_skip_ratio",
    "train.workers", "train.prefetch", "train.eval_seconds", "train.keep_checkpoints",
    "train.logging_steps", "train.save_steps", "train.report_to", "train.max_hours",
    "train.nonfinite", "train.nonfinite_limit", "train.rehearse", "train.auto_halve", "train.deterministic",
}  # fmt: skip
ADDED = {"train.eps": 1e-8, "window.of": "cuts", "window.zeros": 0.0, "window.last": 1.0}
"""Settings that older versions did not have, as they were then; what is null by default needs no entry."""
LONGER = ("train.max_steps", "train.num_epochs")
DIGESTS = ("data", "dev", "model")


@dataclass(frozen=True)
class Allowance:
    """What may differ from the checkpoint that a run continues from."""

    changed: bool = False
    """Other settings or data."""
    reshard: bool = False
    """Another number of processes."""


def facts_of(config: Mapping[str, Any], data: str, dev: str | None, model: str, world_size: int) -> dict[str, Any]:
    """Return what a checkpoint remembers of its run."""
    return {
        "config": dict(config),
        "data": data,
        "dev": dev,
        "model": model,
        "world_size": world_size,
        "versions": {
            "egrecho": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            **same_bits_need(),
        },
    }


def digest_weights(model: nn.Module, extras: tuple[str, ...] = ()) -> str:
    """Hash what an adapter belongs to: the base's tensors, by names, shapes and 64 values of each, without `extras`."""
    found = hashlib.sha256()
    add_weights(model, found, extras)
    return found.hexdigest()[:16]


def add_weights(model: nn.Module, found: Any, extras: tuple[str, ...] = ()) -> None:
    """Add a model's tensors to a hash, without those whose names begin with `extras`: they are drawn, not loaded."""
    for name, value in model.state_dict().items():
        if name.startswith(extras):
            continue
        flat = value.detach().reshape(-1)
        sample = flat[:: max(len(flat) // 64, 1)].float().cpu().contiguous()
        found.update(f"{name} {tuple(value.shape)}".encode() + sample.numpy().tobytes())


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return every setting and digest that differs and may not, as `key: old -> new`."""
    old, new = (ADDED | dict(flatten(facts.get("config") or {})) for facts in (then, now))
    keys = dict.fromkeys([*old, *new])
    changed = [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in keys
        if key not in FREE
        and not key.startswith("data.dev.")
        and old.get(key) != new.get(key)
        and not is_longer(key, old, new)
    ]
    if not then.get("config"):
        changed = []
    names = {"data": "the training cuts' content", "dev": "the development cuts' content", "model": "the base model"}
    changed += [
        f"{names[key]}: {str(then[key])[:12]} -> {str(now[key])[:12]}"
        for key in DIGESTS
        if key in then and then[key] != now[key]
    ]
    return changed


def is_free(key: str) -> bool:
    """Return whether a setting may differ; of development sets with names each has a key."""
    return key in FREE or key.startswith("data.dev.")


def is_longer(key: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether a difference only makes the run longer."""
    if key not in LONGER:
        return False
    if old.get("train.max_steps") is None and new.get("train.max_steps") is None:
        return key == "train.max_steps" or new[key] >= old[key]
    if key == "train.num_epochs":
        return True  # ignored where max_steps is given
    return None not in (old.get(key), new.get(key)) and new[key] >= old[key]


def check_same(folder: str, then: dict[str, Any], now: dict[str, Any], allow: Allowance, sharded: bool) -> None:
    """Refuse to continue what would become another run, unless asked to.

    Args:
        folder: The checkpoint, for the message.
        then: Its facts.
        now: Those of the run that starts.
        allow: What may differ.
        sharded: Whether the optimizer's state lies in one file per process.

    Raises:
        ConfigError: Listing what changed.
    """
    changed = differences(then, now)
    if changed and not allow.changed:
        raise ConfigError(
            f"{folder} was made with other settings ({listing(changed)}); go back to them, give another --out, or "
            f"--allow_changed true to go on from step {then['step']} with the new ones"
        )
    if changed:
        logger.warning(
            "continuing with other settings (%s): weights and optimizer go on; the batch plan is the new one, entered "
            "at step %d, so some cuts may come twice and others not in this epoch",
            listing(changed), then["step"],
        )  # fmt: skip
    if then["world_size"] != now["world_size"]:
        check_reshard(folder, then, now, allow, sharded)
    old, new = then.get("versions") or {}, now["versions"]
    if news := [f"{name} {old[name]} -> {new.get(name)}" for name in old if old[name] != new.get(name)]:
        logger.warning("other versions or devices than before (%s): the run goes on, not bit for bit", listing(news))


def check_reshard(folder: str, then: dict[str, Any], now: dict[str, Any], allow: Allowance, sharded: bool) -> None:
    """Judge another number of processes.

    Raises:
        ConfigError: Not allowed, or not possible.
    """
    old, new = then["world_size"], now["world_size"]
    if sharded:
        raise ConfigError(
            f"{folder} holds the optimizer in {old} shards, one per process; continue with {old} processes, or start a "
            f"new run from its weights (local/zero_to_fp32.py gathers them)"
        )
    if not allow.reshard:
        raise ConfigError(
            f"{folder} was made by {old} processes, now there are {new}; start {old}, or --allow_reshard true to go on "
            f"from step {then['step']} with {new}"
        )
    per_step = [batches_of_step(each) for each in (then, now)]
    logger.warning(
        "continuing with %d processes instead of %d: %s; dropout draws differ from here on",
        new, old,
        "each step has the same cuts as before" if per_step[0] == per_step[1] else
        f"a step has {per_step[1]} batches instead of {per_step[0]}, so the plan is another one, entered at step "
        f"{then['step']}: some cuts may come twice and others not in this epoch",
    )  # fmt: skip


def batches_of_step(facts: dict[str, Any]) -> int:
    """Return how many batches, or with `train.global_batch` cuts, a run takes in a step."""
    config = dict(flatten(facts["config"]))
    return config.get("train.global_batch") or config.get("train.accumulation", 1) * facts["world_size"]


def listing(items: Iterable[str], most: int = 8) -> str:
    """Join items for a message, the first few of many."""
    items = list(items)
    return "; ".join(items[:most]) + (f"; and {len(items) - most} more" if len(items) > most else "")
