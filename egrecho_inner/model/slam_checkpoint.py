"""SLAM-LLM's `model.pt` and ours: the same weights under other names.

Theirs is a dict of the trained parameters, `encoder_projector.*` and, with an adapter, `llm.*.lora_*`; DeepSpeed's
`mp_rank_00_model_states.pt` holds such a dict under `module`. Only tensors are read (`weights_only`), never code.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egrecho_inner.errors import ModelError

THEIRS, OURS = "encoder_projector.", "projector."


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a `model.pt`, a `pytorch_model.bin` or a `mp_rank_00_model_states.pt`, under our names.

    Raises:
        ModelError: It holds other things than tensors, or nothing of a speech LLM.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"{path} does not read as a checkpoint of tensors alone ({' '.join(str(error).split())[:160]}); a pickle "
            "that brings code is never run"
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get("module"), Mapping):
        found = found["module"]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path}: expected a dict of tensors, as SLAM-LLM's model.pt is")
    named = {our_name(name): value for name, value in found.items()}
    if not any(name.startswith(OURS) for name in named):
        raise ModelError(
            f"{path} has no weights of a projector (encoder_projector.*); it is no checkpoint of SLAM-LLM's"
        )
    return named


def our_name(name: str) -> str:
    """Return our name of a weight of theirs."""
    name = name.removeprefix("module.")
    return OURS + name.removeprefix(THEIRS) if name.startswith(THEIRS) else name


def their_name(name: str) -> str:
    """Return their name of a weight of ours."""
    return THEIRS + name.removeprefix(OURS) if name.startswith(OURS) else name


def write_checkpoint(state: Mapping[str, Tensor], path: Path) -> None:
    """Write a `model.pt` that SLAM-LLM loads."""
    torch.save({their_name(name): value.contiguous() for name, value in state.items()}, path)
