"""The engine of Modal: the job folder goes to a volume, a deployed function runs the worker there, results come back.

The function is spawned, not waited for: the machine that asked may sleep or restart, the call's id finds it again. What
is in the volume is deleted with the job. Needs `pip install 'egrecho[cloud]'`, an account, and one deployment:
`modal deploy -m egrecho_inner.serve.engines.modal_app`.
"""

import importlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from egrecho_inner.errors import extra_missing
from egrecho_inner.runtime.files import atomic_file
from egrecho_inner.serve.engines.base import EngineError
from egrecho_inner.serve.jobs import JobFolder

APP, VOLUME, FUNCTION = "egrecho-personal", "egrecho-personal", "train"
FETCHED = ("run/final", "run/base", "run/tuned", "run/events.jsonl", "run/report.json", "run/compare.json", "run/train",
           "run/basemodel_eval_result.txt", "run/final_eval_result.txt", "artifact.tar.gz", "log.txt")  # fmt: skip
LOOK_SECONDS = 15.0
LEFT_THERE = ("checkpoint-",)
"""Parts of names of what only a continued training needs."""


class ModalEngine:
    """Run workers on Modal.

    Args:
        api: Modal's package; loaded if not given.

    Raises:
        MachineError: It is not installed.
    """

    def __init__(self, api: Any = None):
        try:
            self.modal = api or importlib.import_module("modal")
        except ImportError as error:
            raise extra_missing("modal", "cloud") from error
        self.looked: dict[str, float] = {}

    def submit(self, folder: JobFolder) -> str:
        """Upload the job and spawn the function; return the call's id."""
        for word in folder.read("job.json").get("arguments", []):
            if word.startswith(("--model=", "--model_path=")) and Path(word.partition("=")[2]).is_dir():
                raise EngineError(
                    "the base is a folder of this machine; on Modal give a hub id such as openai/whisper-tiny"
                )
        with named("Modal did not take the job"):
            volume = self.volume()
            with volume.batch_upload(force=True) as batch:
                batch.put_file(str(folder.path / "job.json"), f"/{folder.path.name}/job.json")
                batch.put_directory(str(folder.data), f"/{folder.path.name}/data")
            return self.modal.Function.from_name(APP, FUNCTION).spawn(folder.path.name).object_id

    def runs(self, handle: str, folder: JobFolder) -> bool:
        """Tell whether the call runs; once it does not, fetch what it made."""
        if not handle or folder.result.is_file():
            return False
        with named("Modal does not answer"):
            try:
                self.modal.FunctionCall.from_id(handle).get(timeout=0)
            except (TimeoutError, self.modal.exception.TimeoutError):
                self.follow(folder)
                return True
            except self.modal.exception.Error:  # it failed or was cancelled; the volume shows how far it came
                pass
            self.fetch(folder)
        return False

    def follow(self, folder: JobFolder) -> None:
        """Download the events of a job that runs, now and then."""
        if time.monotonic() - self.looked.get(folder.path.name, -LOOK_SECONDS) < LOOK_SECONDS:
            return
        self.looked[folder.path.name] = time.monotonic()
        with suppress(self.modal.exception.NotFoundError, FileNotFoundError):
            self.download(folder, "run/events.jsonl")

    def fetch(self, folder: JobFolder) -> None:
        """Download a job's results, `result.json` last."""
        id = folder.path.name
        entries = [entry for entry in self.volume().iterdir(f"/{id}", recursive=True) if entry.type.name == "FILE"]
        paths = [entry.path.lstrip("/").removeprefix(f"{id}/") for entry in entries]
        wanted = [path for path in paths if path.startswith(FETCHED) and not any(part in path for part in LEFT_THERE)]
        for path in [*wanted, *(path for path in paths if path == "result.json")]:
            self.download(folder, path)

    def download(self, folder: JobFolder, path: str) -> None:
        """Download one file of a job.

        Raises:
            EngineError: Its name leads out of the job's folder.
        """
        out = folder.path / path
        if ".." in Path(path).parts or not out.resolve().is_relative_to(folder.path.resolve()):
            raise EngineError(f"Modal's volume names {path!r}, which leads out of the job's folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file:
            for block in self.volume().read_file(f"{folder.path.name}/{path}"):
                file.write(block)

    def cancel(self, handle: str, folder: JobFolder) -> None:
        """Cancel the call and its container."""
        if handle:
            with named("Modal did not cancel the job"):
                self.modal.FunctionCall.from_id(handle).cancel(terminate_containers=True)

    def forget(self, handle: str, folder: JobFolder) -> None:
        """Delete the job's files from the volume."""
        gone = self.modal.exception.NotFoundError, FileNotFoundError
        with named("Modal did not delete the job's files"), suppress(*gone):
            self.volume().remove_file(f"/{folder.path.name}", recursive=True)

    def list(self) -> list[str]:
        """Return the ids of the jobs that the volume holds."""
        with named("Modal does not answer"):
            return sorted(entry.path.strip("/") for entry in self.volume().listdir("/"))

    def volume(self) -> Any:
        """Return the volume of all jobs."""
        return self.modal.Volume.from_name(VOLUME, create_if_missing=True)


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn a fault of Modal's into one of an engine."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # its client raises errors of gRPC, of the network and of its own
        raise EngineError(f"{what}: {type(error).__name__}: {str(error)[:300]}") from error


def copy_job(folder: JobFolder, out: Path) -> None:
    """Copy what a finished job made to where a user wants it."""
    shutil.copytree(folder.run / "final", out / "model", dirs_exist_ok=True)
    for name in ("basemodel_eval_result.txt", "final_eval_result.txt", "report.json"):
        if (folder.run / name).is_file():
            shutil.copyfile(folder.run / name, out / name)
