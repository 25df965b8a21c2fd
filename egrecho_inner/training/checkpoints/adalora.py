"""AdaLoRA in the Trainer: ranks that really move, orthogonal factors, and a state that a checkpoint can hold.

peft saves an adapter pruned to its present ranks, which training cannot go on from, and nothing of the importance
scores; so a checkpoint gets both, unpruned, in a file of its own. The result is still peft's pruned adapter.
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

    def on_optimizer_step(
        self, args: TrainingArguments, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        adapted: PeftModel = getattr(model, "module", model)
        config = adapted.peft_config["default"]
        left_out = optimizer.step_was_skipped or all(p.grad is None for p in adapted.parameters())
        # an fp16 overflow leaves infinite gradients: one would stay in the running means of the scores for ever;
        # from the last allocation on no gradient is looked at, and that step must not be missed
        if not left_out or state.global_step >= config.total_step - config.tfinal:
            adapted.base_model.update_and_allocate(state.global_step)


def is_adalora(model: nn.Module) -> bool:
    """Return whether a model trains an AdaLoRA adapter."""
    return isinstance(model, PeftModel) and model.peft_config["default"].peft_type == "ADALORA"


def penalty(model: PeftModel) -> torch.Tensor:
    """Return what the loss has to pay for factors A (r, in) and B (out, r) that are not orthogonal.

    It is peft's form of Zhang et al. 2023 (arXiv:2303.10512, eq. 4): the mean over the factors of the Frobenius norm of
    A A^T - I and B^T B - I, times `orth_reg_weight`. peft adds it in a forward that its own PeftModel never calls.
    """
    norms = []
    for name, factor in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            products = factor @ factor.T if "lora_A" in name else factor.T @ factor  # (r, r)
            norms.append(torch.linalg.matrix_norm(products - torch.eye(len(products), device=factor.device)))
    return model.peft_config["default"].orth_reg_weight * torch.stack(norms).mean()


def save_state(model: PeftModel, folder: Path) -> None:
    """Save the unpruned adapter and its importance scores."""
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
