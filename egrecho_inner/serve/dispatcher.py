"""The dispatcher: starts workers for waiting jobs, follows running ones, brings the store up to date after a kill.

One thread of the server. In: the store, the job folders, engines. Out: changes of state, each naming the state it
expects. What is true of a job that runs is in its folder: whether its lock is held and whether `result.json` is there.
A job whose worker is gone without a result waits again, and its next attempt continues from the last checkpoint.
"""

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from egrecho_inner.serve.engines.base import Engine, EngineError
from egrecho_inner.serve.jobs import PHASES, JobFolder
from egrecho_inner.serve.options import Settings
from egrecho_inner.serve.store import RUNNING, Job, Store

logger = logging.getLogger(__name__)

PAUSE = 0.2
START_SECONDS = 15.0
"""A worker that has no lock so long after its start did not begin."""


class Dispatcher:
    """Follow all jobs.

    Args:
        settings: Of the server.
        store: Of the jobs.
        engines: By name.
    """

    def __init__(self, settings: Settings, store: Store, engines: Mapping[str, Engine]):
        self.settings, self.store, self.engines = settings, store, engines
        self.stopping, self.wake = threading.Event(), threading.Event()
        self.submitted: dict[str, float] = {}
        """When this process started the worker of a job."""
        self.thread = threading.Thread(target=self.loop, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    def stop(self) -> None:
        """End; workers go on, and the next server finds them."""
        self.stopping.set()
        self.wake.set()
        self.thread.join(10)

    def loop(self) -> None:
        """Work until stopped."""
        while not self.stopping.is_set():
            try:
                self.step()
            except Exception:  # whatever one job's folder or engine does, the others go on
                logger.exception("the dispatcher met a fault and goes on")
                self.stopping.wait(1)
            self.wake.wait(PAUSE)
            self.wake.clear()

    def step(self) -> None:
        """Look at every running job once, then start what there is room for."""
        active = self.store.active()
        for job in active:
            try:
                self.follow(job)
            except (EngineError, OSError) as error:
                logger.warning("job %s: %s", job.id, error)
        busy = len(self.store.active())
        while busy < self.settings.slots and (job := self.store.claim()):
            self.begin(job)
            busy += 1

    def begin(self, job: Job) -> None:
        """Start the worker of a job that was claimed."""
        folder = self.folder(job)
        if not folder.data.is_dir():
            self.end(job, {"state": "failed", "error": {"code": "data", "message": "its recordings are gone"}})
            return
        folder.write("job.json", folder.read("job.json") | {"attempt": job.attempt})
        try:
            handle = self.engines[job.engine].submit(folder)
        except KeyError:
            message = f"engine {job.engine} is not set up on this server"
            self.end(job, {"state": "failed", "error": {"code": "engine", "message": message}})
        except EngineError as error:
            self.end(job, {"state": "failed", "error": {"code": "engine", "message": str(error)[:500]}})
        else:
            self.submitted[job.id] = time.monotonic()
            self.store.update(job.id, RUNNING, handle=handle)

    def follow(self, job: Job) -> None:
        """Bring one running job's row up to date."""
        folder, engine = self.folder(job), self.engines.get(job.engine)
        runs = engine is not None and engine.runs(job.handle, folder)
        if result := folder.read("result.json"):
            self.end(job, result)
            return
        if runs:
            if job.cancel:
                folder.cancel.touch()
                engine.cancel(job.handle, folder)
            phase = folder.phase()
            if phase and phase != job.phase:
                self.store.update(job.id, RUNNING, phase=phase, state=PHASES[phase])
            return
        begun = folder.begun() >= job.attempt
        since = self.submitted.setdefault(job.id, time.monotonic())
        if not begun and time.monotonic() - since < START_SECONDS:
            return  # its worker, perhaps of a server that was killed, is still starting
        self.interrupted(job, begun)

    def interrupted(self, job: Job, begun: bool) -> None:
        """Queue a job again whose worker is gone, or give it up after too many attempts that did begin."""
        if job.cancel:
            self.end(job, {"state": "cancelled"})
        elif job.attempt >= self.settings.limits.attempts:
            message = f"interrupted {job.attempt} times (killed, out of memory, or the machine went down)"
            self.end(job, {"state": "failed", "error": {"code": "interrupted", "message": message}})
        else:
            logger.warning("job %s was interrupted in attempt %d; it waits again", job.id, job.attempt)
            seconds = job.seconds + (self.spent(job) if begun else 0.0)
            attempt = job.attempt if begun else job.attempt - 1
            self.store.update(job.id, RUNNING, state="queued", phase="", handle="", seconds=seconds, attempt=attempt)
            self.submitted.pop(job.id, None)

    def end(self, job: Job, result: dict[str, Any]) -> None:
        """Write down how a job ended."""
        now = time.time()
        kept = {name: result[name] for name in ("report", "artifact", "exit_code") if name in result}
        seconds = job.seconds + (result.get("seconds") or self.spent(job))
        kept["cost"] = self.cost(job.engine, seconds)
        error = result.get("error") or {}
        if self.store.update(job.id, RUNNING, state=result["state"], phase="", ended=now, seconds=round(seconds, 1),
                             result=kept, error=error):  # fmt: skip
            self.submitted.pop(job.id, None)
            logger.info("job %s: %s after %.0f s", job.id, result["state"], seconds)

    def spent(self, job: Job) -> float:
        """Return the seconds of an attempt that left no result, from its events."""
        with suppress(OSError):
            folder = self.folder(job)
            begun = folder.read("worker.json") and (folder.path / "worker.json").stat().st_mtime
            return max(0.0, folder.events.stat().st_mtime - begun) if begun else 0.0
        return 0.0

    def cost(self, engine: str, seconds: float) -> dict[str, Any]:
        """Return the line of the ledger of costs: seconds times the price of the engine's hour."""
        price = self.settings.prices.get(engine)
        return {"engine": engine, "seconds": round(seconds, 1), "price_per_hour": price,
                "cost": None if price is None else round(price * seconds / 3600, 4)}  # fmt: skip

    def delete(self, job: Job) -> bool:
        """Delete a job that does not run: its data, model, logs and texts; return whether it was.

        Its row goes first: a server that is killed in between removes the folder when it starts.
        """
        if not self.store.forget(job.id):
            return False
        if job.engine in self.engines:
            with suppress(EngineError):
                self.engines[job.engine].forget(job.handle, self.folder(job))
        shutil.rmtree(self.folder(job).path, ignore_errors=True)
        return True

    def sweep(self) -> None:
        """Remove folders that belong to no job: of deleted ones, and of uploads that were cut off."""
        known = {job.id for job in self.store.select("state != 'deleted'")}
        for path in self.settings.jobs.iterdir() if self.settings.jobs.is_dir() else ():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def folder(self, job: Job) -> JobFolder:
        """Return a job's folder."""
        return JobFolder(self.settings.jobs / job.id)
