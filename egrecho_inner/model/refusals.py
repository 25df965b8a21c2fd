"""Why a model is not loaded: paths that are none, folders that are incomplete, code of their own, missing kernels.

In: what was asked for, an error of a library. Out: errors of one line with the remedy.
"""

import os
from pathlib import Path

from egrecho_inner.errors import ConfigError, ModelError
from egrecho_inner.model.hub import why_unreachable


def check_path(path: str) -> None:
    """Refuse early what can be neither a folder nor a hub id.

    Raises:
        ModelError: With the reason and the remedy.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "tokenizer_config.json").is_file():
            raise ModelError(f"{path} is a folder without config.json; expected a model folder such as exp/NAME/final")
    elif path.count("/") != 1 or path.startswith((".", "/", "~")) or folder.parent.is_dir():
        offline = "; the hub is switched off (HF_HUB_OFFLINE)" if os.environ.get("HF_HUB_OFFLINE") == "1" else ""
        raise ModelError(f"{path} does not exist and is not a hub id like openai/whisper-small{offline}")
    else:
        why_unreachable()  # before the libraries ask for each file, again and again


def explain(path: str, error: Exception) -> str:
    """Return in one line why a model did not load."""
    text = " ".join(str(error).split())[:300]
    if not Path(path).is_dir():
        text = why_unreachable() or text
        return f"{path} is no folder here and the hub did not give it ({text}); local/hf_download.sh fetches a model"
    if list(Path(path).glob("*.bin")) and not list(Path(path).glob("*.safetensors")):
        return f"{path} has pickled weights (.bin), which are not loaded; convert them to safetensors first"
    return f"{path} does not load: {text}"


def refuse_code(path: str, file: str, named: object) -> None:
    """Refuse a model that brings code of its own, which would not be run: it is then not what its maker meant.

    Raises:
        ModelError: With the file.
    """
    if named:
        raise ModelError(
            f"{path}: {file} asks for code of its own (auto_map), which is never run; give a plain Whisper"
        )


def no_kernel(name: str, error: Exception) -> ConfigError:
    """Return the error of a kernel of attention that does not work on this machine."""
    reason = " ".join(str(error).split()).partition(". ")[0]
    return ConfigError(f"attention {name} does not work here: {reason}; take sdpa")
