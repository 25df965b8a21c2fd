"""Train a speech LLM under one strategy after the other; run by test_slam_processes.py under torchrun.

usage: speech_two.py CUTS DEV OUT ENCODER LLM TASK...      a task is ddp, fsdp or zero0 to zero3
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from launching import say
from safetensors.torch import load_file
from speech_runs import train
from transformers import TrainingArguments

from egrecho_inner.data.batches.options import BatchOptions
from egrecho_inner.model.speech_loading import TRAINED, load_folder
from egrecho_inner.model.speech_options import LlmLoraOptions, SpeechLossOptions
from egrecho_inner.training import arguments, fit
from egrecho_inner.training.checkpoints import folder as checkpoint

cuts, dev, out, encoder, llm = (Path(word) for word in sys.argv[1:6])
KEPT, CHECK = fit.training_arguments, arguments.check_options


def strategy(task: str) -> dict[str, str]:
    """Return the options of a task; of ZeRO-3 all parameters are sharded, not only the large ones."""
    if task == "fsdp":
        return {"fsdp": "config/fsdp.yaml"}
    if task == "ddp":
        return {}
    stage = int(task.removeprefix("zero"))
    config = json.loads(Path(f"config/ds_zero{max(stage, 1)}.json").read_text())
    config["zero_optimization"]["stage"] = stage
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    path = out / f"{task}.json"
    path.write_text(json.dumps(config))
    return {"deepspeed": str(path)}


def as_on_gpu(*args: Any, **kwargs: Any) -> TrainingArguments:
    """Make accelerate take the processes for ones with GPUs, to which alone it gives FSDP."""
    made = KEPT(*args, **kwargs)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return made


def run(task: str) -> dict[str, Any]:
    AcceleratorState._reset_state()
    PartialState._reset_state()
    pretended = task == "fsdp" and not torch.cuda.is_available()
    fit.training_arguments = as_on_gpu if pretended else KEPT
    arguments.check_options = (lambda _: None) if pretended else CHECK
    place = out / task
    train(
        cuts, place, (encoder, llm), dev, lora=LlmLoraOptions(r=2, dropout=0.0), batch=BatchOptions(None, 2),
        loss=SpeechLossOptions(ctc_weight=0.2), max_steps=3, **strategy(task),
    )  # fmt: skip
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    found = {key: [row[key] for row in rows if key in row] for key in ("loss", "grad_norm", "eval_loss")}
    if int(PartialState().process_index):
        return found
    state, last = load_file(place / "final" / TRAINED), checkpoint.newest(place)
    kept = load_file(last / "model.safetensors")
    model, _, _ = load_folder(str(place / "final"))
    own = dict(model.named_parameters())
    same = all(torch.equal(own[name], value) and torch.equal(kept[name], value) for name, value in state.items())
    size = (place / "final" / TRAINED).stat().st_size
    return found | {"shapes": {name: list(value.shape) for name, value in state.items()}, "same": same, "size": size}


if __name__ == "__main__":
    for task in sys.argv[6:]:
        say(task, **run(task))
