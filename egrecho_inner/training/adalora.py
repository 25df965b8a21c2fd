"""AdaLoRA in the Trainer: ranks that really move, and a state that a checkpoint can hold.

peft saves an adapter pruned to its present ranks, which training cannot go on from, and nothing of the importance
scores; so a checkpoint gets both, whole, in a file of its own. The result is still peft's pruned adapter.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

FILE = "adalora.safetensors"
SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class AdaLora(TrainerCallback):
    """Re-allocate AdaLoRA's ranks after each step, before the gradients are cleared: the Trainer never does."""

    def on_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        whole: PeftModel = getattr(model, "module", model)
        if any(p.grad is not None for p in whole.parameters()):  # none where a non-finite step is left out
            whole.base_model.update_and_allocate(state.global_step)


def is_adalora(model: nn.Module) -> bool:
    """Tell whether a model trains an AdaLoRA adapter."""
    return isinstance(model, PeftModel) and model.peft_config["default"].peft_type == "ADALORA"


def save_state(model: PeftModel, folder: Path) -> None:
    """Save the whole adapter and its importance scores."""
    tensors = {f"weight.{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}
    allocator = model.base_model.rankallocator
    for score in SCORES:
        tensors |= {f"{score}.{name}": value for name, value in getattr(allocator, score).items()}
    pattern = json.dumps(model.peft_config["default"].rank_pattern)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FILE, {"rank_pattern": pattern})


def load_state(model: PeftModel, folder: Path) -> None:
    """Put the state of a checkpoint back."""
    parameters = dict(model.named_parameters())
    allocator = model.base_model.rankallocator
    device = next(model.parameters()).device
    with safe_open(folder / FILE, framework="pt") as file:
        model.peft_config["default"].rank_pattern = json.loads(file.metadata()["rank_pattern"])
        for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
            kind, name = key.split(".", 1)
            value = file.get_tensor(key).to(device)
            if kind == "weight":
                with torch.no_grad():
                    parameters[name].copy_(value)
            else:
                getattr(allocator, kind)[name] = value
