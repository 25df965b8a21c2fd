#!/usr/bin/env python3
"""A model folder with pickled weights (`pytorch_model.bin`, in one file or several) in, one with safetensors out.

    egrecho to-safetensors vicuna-7b-v1.5 vicuna-7b-safe

Everything else in the folder is copied. Only tensors are read (`weights_only`): a pickle that brings code is refused.
Weights that are one another's are written once.
"""

from pathlib import Path

from egrecho_inner.config import run


def to_safetensors(source: str, out: str) -> None:
    """Write a copy of a model folder with safetensors instead of pickles.

    Args:
        source: Folder with pytorch_model*.bin.
        out: Folder to write.
    """
    from egrecho_inner.model.pickled import convert_folder

    count, size = convert_folder(Path(source), Path(out))
    print(f"{out}: {count} files, {size / 1e9:.2f} GB")


to_safetensors.positional = ["source", "out"]


if __name__ == "__main__":
    run(to_safetensors)
