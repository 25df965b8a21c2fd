#!/usr/bin/env python3
"""`egrecho on-demand`: personalise a model on rented or shared GPUs from one's own machine, without a server.

    egrecho on-demand run my_recordings exp/me --model openai/whisper-small --language en    # on Modal
    egrecho on-demand list
    egrecho on-demand download ID exp/me    # a run whose waiting was ended, by Ctrl-C or a closed lid
    egrecho on-demand delete ID    # everything of it, there and here

`run` uploads the recordings, waits, writes `exp/me/{model,basemodel_eval_result.txt,final_eval_result.txt,report.json}`
and deletes what it uploaded. Modal needs an account and `modal deploy -m egrecho_inner.serve.engines.modal_app`, once.
"""

import logging
import re
import shutil
import time
from pathlib import Path
from typing import Literal

from egrecho_inner.config import run
from egrecho_inner.config_types import PositiveFloat
from egrecho_inner.errors import ConfigError, DataError, MachineError
from egrecho_inner.serve.engines import make_engines
from egrecho_inner.serve.engines.base import Engine, EngineError
from egrecho_inner.serve.engines.modal import ModalEngine, copy_job
from egrecho_inner.serve.engines.slurm import SlurmOptions
from egrecho_inner.serve.jobs import JobFolder
from egrecho_inner.serve.store import new_id

logger = logging.getLogger(__name__)

PAUSE = 3.0
LOST_SECONDS = 60.0
"""A job without result whose worker is gone for so long is not waited for."""


def on_demand(
    action: Literal["run", "list", "download", "delete"],
    what: str | None = None,
    out: str | None = None,
    engine: Literal["modal", "slurm", "local"] = "modal",
    model: str = "openai/whisper-tiny",
    language: str | None = None,
    options: list[str] | None = None,
    work: str = "exp/on_demand",
    keep: bool = False,
    price: PositiveFloat | None = None,
    slurm: SlurmOptions = SlurmOptions(),
) -> None:
    """Personalise a model on GPUs elsewhere: run, list, download, delete.

    Args:
        action: run a training and wait for it; list runs; download the result of one; delete one.
        what: The folder of recordings, or the id of a run.
        out: Folder for the result.
        engine: Where it runs; slurm needs a work folder that the cluster sees.
        model: Hub id of the base, or a folder that the engine's machines see.
        language: Of the recordings.
        options: More options of egrecho personal, as `[--tune.epochs=5,--tune.policy=sweep]`.
        work: Folder of the runs here.
        keep: Leave the uploaded files where they are.
        price: Of an hour, for the cost of the run.
        slurm: What a job asks of the cluster.
    """
    place = make_engines(slurm if engine == "slurm" else None, engine == "modal")[engine]
    try:
        if action == "list":
            show_runs(Path(work), place)
        elif action == "run":
            folder = prepare(Path(work), wanted(what, "a folder of recordings"), model, language, options or [])
            start(folder, place)
            finish(folder, place, Path(wanted(out, "a folder for the result")), keep, price)
        elif action == "download":
            finish(find(Path(work), what), place, Path(wanted(out, "a folder for the result")), keep, price)
        else:
            remove(find(Path(work), what), place)
    except EngineError as error:
        raise MachineError(str(error)) from error


on_demand.positional = ["action", "what", "out"]


def wanted(value: str | None, name: str) -> str:
    """Return an argument that an action needs."""
    if value is None:
        raise ConfigError(f"{name} is missing; egrecho on-demand -h shows the forms")
    return value


def prepare(work: Path, recordings: str, model: str, language: str | None, options: list[str]) -> JobFolder:
    """Make the job's folder."""
    if not Path(recordings).is_dir():
        raise DataError(f"{recordings} is no folder; expected one with UID.wav and UID.txt files")
    folder = JobFolder(work.resolve() / new_id())
    folder.path.mkdir(parents=True, mode=0o700)
    shutil.copytree(recordings, folder.data)
    base = str(Path(model).resolve()) if Path(model).is_dir() else model
    words = ["--folder={job}/data", "--out={job}/run", f"--model={base}", f"--language={language or 'null'}"]
    folder.write("job.json", {"arguments": ["-m", "egrecho_inner.personal", *words, *options], "attempt": 1})
    return folder


def start(folder: JobFolder, place: Engine) -> None:
    """Hand the job to the engine."""
    folder.write("handle.json", {"handle": place.submit(folder)})
    logger.info("run %s is on its way; Ctrl-C leaves it there, `egrecho on-demand download` waits on", folder.path.name)


def finish(folder: JobFolder, place: Engine, out: Path, keep: bool, price: float | None) -> None:
    """Wait for a run, copy its result, and delete what was uploaded.

    Raises:
        MachineError: It failed.
    """
    handle, shown, lost = folder.read("handle.json").get("handle", ""), "", None
    while not folder.result.is_file():
        if not place.runs(handle, folder) and not folder.result.is_file():
            lost = lost or time.monotonic()
            if time.monotonic() - lost > LOST_SECONDS:
                raise MachineError(f"run {folder.path.name} is gone without a result; {folder.log} has its last lines")
        if (phase := folder.phase()) != shown:
            shown = phase
            logger.info("%s", phase)
        time.sleep(PAUSE)
    result = folder.read("result.json")
    if result.get("state") != "succeeded":
        raise MachineError(
            f"run {folder.path.name} {result.get('state')}: {result.get('error', {}).get('message', '')}"
        )
    copy_job(folder, out)
    seconds = float(result.get("seconds", 0.0))
    cost = "" if price is None else f", {price * seconds / 3600:.2f} at {price:g} an hour"
    print(f"{out}: {result['report']['verdict']}; {seconds:.0f} s{cost}")
    if not keep:
        remove(folder, place)


def remove(folder: JobFolder, place: Engine) -> None:
    """Delete a run, there and here."""
    place.cancel(folder.read("handle.json").get("handle", ""), folder) if not folder.result.is_file() else None
    place.forget(folder.read("handle.json").get("handle", ""), folder)
    shutil.rmtree(folder.path, ignore_errors=True)


def find(work: Path, id: str | None) -> JobFolder:
    """Return the folder of a run.

    Raises:
        ConfigError: There is none of this id.
    """
    folder = JobFolder(work.resolve() / (id or ""))
    if id is None or not re.fullmatch(r"[0-9a-f]{32}", id) or not folder.path.is_dir():
        raise ConfigError(f"there is no run {id!r} in {work}; egrecho on-demand list shows them")
    return folder


def show_runs(work: Path, place: Engine) -> None:
    """Print the runs of this machine, and those that only the engine has."""
    here = sorted(path.name for path in work.iterdir() if path.is_dir()) if work.is_dir() else []
    for id in here:
        folder = JobFolder(work.resolve() / id)
        print(f"{id}  {folder.read('result.json').get('state') or folder.phase() or 'waiting'}")
    for id in place.list() if isinstance(place, ModalEngine) else []:
        if id not in here:
            print(f"{id}  on Modal only")


if __name__ == "__main__":
    run(on_demand)
