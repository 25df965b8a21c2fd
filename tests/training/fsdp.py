"""Train under FSDP2 as accelerate sets it up, on a CPU; run by test_sharding.py under torchrun.

usage: fsdp.py CUTS DEV OUT TASK...

accelerate gives FSDP to GPUs alone. Told that the processes have some, it wraps, clips, saves and loads by the same
code on gloo; what a GPU's kernels do is for tests/gpu.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from launching import say
from runs import kill_at_step, same, train
from safetensors import safe_open
from transformers import TrainingArguments

from egrecho_inner.data.batches.plan import BatchOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.model.adapters import LoraOptions
from egrecho_inner.training import arguments, fit

cuts, dev, out = (Path(word) for word in sys.argv[1:4])
OWN = ("activation_checkpointing: false", "activation_checkpointing: true")
TASKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recomputed": {"gradient_checkpointing": True},
    "no_dropout": {"dropout": 0.0},
    "own_checkpointing": {"dropout": 0.0, "replace": OWN},
    "own_with_dropout": {"replace": OWN},
    "lora": {"lora": LoraOptions(r=4, dropout=0.0), "replace": OWN, "dropout": 0.0},
    "bf16": {"precision": "bf16"},
    "cache": {"freeze": ["encoder"], "augment": None, "encoder_cache_gb": 0.1, "dropout": 0.0},
    "kill": {},
    "again": {},
}


def pretend(kept: Any = fit.training_arguments) -> None:
    """Make accelerate take the processes for ones with GPUs."""

    def as_on_gpu(*args: Any, **kwargs: Any) -> TrainingArguments:
        made = kept(*args, **kwargs)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        return made

    fit.training_arguments = as_on_gpu
    arguments.check_options = lambda _: None  # refuses FSDP without a GPU


def run(task: str, replace: tuple[str, str] = ("", ""), **changes: Any) -> dict[str, Any]:
    AcceleratorState._reset_state()
    place = out / task.replace("again", "kill")
    config = place.with_suffix(".yaml")
    config.write_text(Path("config/fsdp.yaml").read_text().replace(*replace))
    if task == "kill":
        kill_at_step(5)
    try:
        batch = BatchOptions(max_duration=None, batch_size=2)
        train(cuts, place, dev, batch=batch, fsdp=str(config), max_steps=6, metric="wer", **changes)
    except ConfigError as error:
        return {"error": str(error)}
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    last = place / "checkpoint-6"
    with safe_open(next(last.glob("*model.safetensors")), "pt") as file:
        names = sorted(file.keys())
    found = {key: [row[key] for row in rows if key in row] for key in ("loss", "grad_norm", "eval_loss")}
    return found | {"names": names, "same": task == "again" and same(last, out / "plain" / last.name)}


if __name__ == "__main__":
    if not torch.cuda.is_available():
        pretend()
    for task in sys.argv[4:]:
        say(task, **run(task, **TASKS[task]))
