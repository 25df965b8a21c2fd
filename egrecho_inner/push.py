#!/usr/bin/env python3
"""`egrecho push`: a model folder with its card and results to a repository of a model hub.

    egrecho push exp/mine/full/final me/whisper-small-mine --dry_run true
    egrecho push exp/mine/full/final me/whisper-small-mine --results '[exp/mine/full/eval]'

In: a model folder, the repository's name. Out: one commit there. The token is what `hf auth login` stored, or HF_TOKEN.
`--dry_run true` prints what would go and asks nobody. Nothing of the run but the folder itself and what `results` names
is sent.
"""

import logging
import os
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, DataError, MachineError, ModelError

logger = logging.getLogger(__name__)

RESULT_FILES = ("results.json", "table.md", "errs.txt")
"""Of a result folder; hypotheses and references are the corpus's, and stay."""
CARD = "README.md"


def push(
    model: str,
    repo: str,
    results: list[str] | None = None,
    private: bool = True,
    dry_run: bool = False,
    message: str = "Upload by egrecho",
) -> None:
    """Upload a model, its card and its result tables to a hub repository, in one commit.

    Args:
        model: Folder of a model or an adapter, such as exp/NAME/final.
        repo: Repository, OWNER/NAME; it is made if it is not there.
        results: Result folders of egrecho eval, whose tables go along.
        private: Make a new repository private; an old one stays what it is.
        dry_run: Print what would go, and ask nobody.
        message: Of the commit.
    """
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"repo is '{repo}', expected OWNER/NAME")
    files = collect(Path(model), [Path(folder) for folder in results or []])
    size = sum(path.stat().st_size for path in files.values())
    print(f"{repo}: {len(files)} files, {size / 1e6:,.1f} MB")
    for name, path in files.items():
        print(f"{path.stat().st_size:>14,}  {name}")
    if dry_run:
        print("nothing was sent (--dry_run true)")
        return
    print(upload(repo, files, private, message))


push.positional = ["model", "repo"]


def collect(folder: Path, results: list[Path]) -> dict[str, Path]:
    """Return what goes into a repository: the name there, and the file here.

    Raises:
        ModelError: The folder is no complete result.
        DataError: A result folder has no results.
    """
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ModelError(f"{folder} is no model folder; expected one with config.json, such as exp/NAME/final")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} has no weights (*.safetensors)")
    if not (folder / CARD).is_file():
        raise ModelError(f"{folder} has no card ({CARD}); egrecho eval writes one, or write what the model is for")
    found = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    for place in results:
        tables = [path for path in sorted(place.rglob("*")) if path.name in RESULT_FILES and path.is_file()]
        if not tables:
            raise DataError(f"{place} has no results.json; expected a folder that egrecho eval wrote")
        found |= {f"eval/{path.relative_to(place).as_posix()}": path for path in tables}
    return found


def upload(repo: str, files: dict[str, Path], private: bool, message: str) -> str:
    """Commit files to a repository and return the commit's address.

    Raises:
        MachineError: The hub does not answer, or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)
    except Exception as error:  # the hub's client has dozens of classes, over two HTTP libraries
        text = " ".join(str(error).split())[:300]
        raise MachineError(
            f"{repo} was not uploaded ({type(error).__name__}: {text}); see `hf auth whoami`, then repeat"
        ) from error


if __name__ == "__main__":
    run(push)
