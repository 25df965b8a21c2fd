"""The weighted mean of several models' weights: checkpoints of one run, or a base and what it was tuned to.

In: folders with safetensors of the same names and shapes. Out: one state dict. Averaging the last checkpoints of a run
is what Kaldi and icefall recipes end with; the mean of a base and its fine-tuned model keeps more of what the base
knew (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from egrecho_inner.errors import ModelError


def average_weights(folders: Sequence[Path], weights: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return the weighted sum of the folders' tensors, computed in float64 and kept in the first folder's type.

    Args:
        folders: Each with `model*.safetensors`.
        weights: One for each folder; they are not normalised.

    Raises:
        ModelError: Names or shapes differ, or a folder has no safetensors.
    """
    first, *others = (index_tensors(folder) for folder in folders)
    for folder, index in zip(folders[1:], others, strict=True):
        if odd := sorted(first.keys() ^ index.keys()):
            raise ModelError(
                f"{folder} and {folders[0]} are different models: {len(odd)} tensors are in one only, e.g. {odd[0]}"
            )
    mean: dict[str, torch.Tensor] = {}
    for name in first:  # one tensor at a time, so that memory holds one model and not all of them
        total: torch.Tensor | None = None
        for folder, index, weight in zip(folders, [first, *others], weights, strict=True):
            tensor = read_tensor(index[name], name)
            if total is None:
                total, kind = weight * tensor.double(), tensor.dtype
            elif total.shape != tensor.shape:
                raise ModelError(f"{folder}: {name} is {list(tensor.shape)}, in {folders[0]} {list(total.shape)}")
            else:
                total += weight * tensor.double()
        mean[name] = total.to(kind)
    return mean


def index_tensors(folder: Path) -> dict[str, Path]:
    """Return the file of each tensor of a model folder.

    Raises:
        ModelError: No safetensors there, or a file does not read.
    """
    index: dict[str, Path] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                index |= dict.fromkeys(tensors.keys(), file)
        except Exception as error:  # safetensors raises several types for a truncated or foreign file
            raise ModelError(f"{file} does not read: {error}") from error
    if not index:
        raise ModelError(f"{folder} has no model*.safetensors; expected a model folder or a complete checkpoint")
    return index


def read_tensor(file: Path, name: str) -> torch.Tensor:
    """Read one tensor of a safetensors file."""
    with safe_open(file, framework="pt") as tensors:
        return tensors.get_tensor(name)
