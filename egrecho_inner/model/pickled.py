"""Pickled weights to safetensors, file by file: the explicit way in for models that are published as `.bin` alone."""

import pickle
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.runtime.files import working_folder, write_json

INDEX = "pytorch_model.bin.index.json"


def convert_folder(source: Path, out: Path) -> tuple[int, int]:
    """Copy a model folder with its pickles as safetensors; return how many files there were and their bytes.

    Raises:
        ConfigError: The folder is there already.
        ModelError: There are no pickles, or one holds other things than tensors.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; give a new folder")
    pickles = sorted(source.glob("pytorch_model*.bin"))
    if not pickles:
        raise ModelError(f"{source} has no pytorch_model*.bin; expected a model folder with pickled weights")
    places: dict[str, str] = {}
    total = 0
    with working_folder(out) as folder:
        for file in source.iterdir():
            if file.is_file() and file.suffix in (".json", ".model", ".txt", ".md", ".jinja") and file.name != INDEX:
                shutil.copyfile(file, folder / file.name)
        for file in pickles:
            state = apart(read_pickle(file))
            name = file.name.replace("pytorch_model", "model").replace(".bin", ".safetensors")
            save_file(state, folder / name, {"format": "pt"})
            total += (folder / name).stat().st_size
            places |= dict.fromkeys(state, name)
        if len(pickles) > 1:
            write_json(
                folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places}
            )
    return len(pickles), total


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Read a pickle of tensors.

    Raises:
        ModelError: It holds other things, or does not read.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(f"{path} is no pickle of tensors alone ({' '.join(str(error).split())[:160]})") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ModelError(f"{path}: expected a dict of tensors")
    return found


def apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor once: of names that share one, the first; Transformers ties the others again."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    kept = {}
    for name, value in state.items():
        place = (value.data_ptr(), tuple(value.shape))
        if value.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = value.contiguous().clone()
    return kept
