"""What the server does, without HTTP: jobs and data sets of an owner, from request to download.

In: tokens, forms, files. Out: rows and paths, or a `Refusal` with the answer's status. Whoever asks for another owner's
job gets the answer of a job that does not exist. Paths come from ids that this server made, never from a request.
"""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter

from egrecho_inner.data.sources.folder import AUDIO
from egrecho_inner.serve.archive import ArchiveError, unpack
from egrecho_inner.serve.auth import Gate, Refusal, Token
from egrecho_inner.serve.datasets import FILES, ID, Datasets, missing
from egrecho_inner.serve.dispatcher import Dispatcher
from egrecho_inner.serve.engines.base import Engine
from egrecho_inner.serve.forms import JobForm
from egrecho_inner.serve.inspect import inspect
from egrecho_inner.serve.jobs import JobFolder, digest
from egrecho_inner.serve.options import Settings
from egrecho_inner.serve.store import RUNNING, Job, QueueFull, Store, new_id
from egrecho_inner.serve.transcriber import TranscriberProcess

KEY = re.compile(r"[\x21-\x7e]{1,200}")


class Service:
    """The server's work.

    Args:
        settings: Of the server.
        engines: By name.
    """

    def __init__(self, settings: Settings, engines: Mapping[str, Engine]):
        self.settings, self.gate = settings, Gate(settings)
        for folder in (settings.work, settings.jobs, settings.datasets, settings.work / "incoming"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # parents made on the way would be open to others
        self.store = Store(settings.work / "store.sqlite")
        self.dispatcher = Dispatcher(settings, self.store, engines)
        self.digests: dict[str, tuple[tuple, str]] = {}
        self.adding = threading.Lock()
        self.datasets, self.transcriber = Datasets(settings), TranscriberProcess()
        self.unpacking, self.transcribing = CapacityLimiter(os.cpu_count() or 1), CapacityLimiter(1)
        """What takes long waits here, and leaves the threads to what does not."""

    def start(self) -> None:
        """Clear up after a kill, and begin to work."""
        for left in (self.settings.work / "incoming").iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.dispatcher.sweep()
        self.datasets.sweep()
        self.dispatcher.start()

    def stop(self) -> None:
        """End; jobs that run go on."""
        self.dispatcher.stop()
        self.transcriber.stop()

    def incoming(self) -> Path:
        """Return a place for an upload."""
        return self.settings.work / "incoming" / new_id()

    def job(self, token: Token, id: str) -> Job:
        """Return a job that a token may see.

        Raises:
            Refusal: 404.
        """
        found = self.store.get(id) if ID.fullmatch(id) else None
        if found is None or found.state == "deleted" or (found.owner != token.name and not token.may("admin")):
            raise Refusal(404, "unknown_job", "there is no such job")
        return found

    def folder(self, job: Job) -> JobFolder:
        """Return a job's folder."""
        return self.dispatcher.folder(job)

    def repeated(self, token: Token, key: str | None, fingerprint: str) -> Job | None:
        """Return the job that an idempotency key made before.

        Raises:
            Refusal: 409 if that was another request, 422 if the key is none.
        """
        if key is None:
            return None
        if not KEY.fullmatch(key):
            raise Refusal(422, "bad_key", "Idempotency-Key: expected up to 200 visible characters")
        job = self.store.by_key(token.name, key)
        if job is not None and job.fingerprint != fingerprint:
            raise Refusal(409, "key_reused", "this Idempotency-Key belongs to another request")
        return job

    def create(
        self, token: Token, form: JobForm, archive: Path | None, sha256: str, dataset: str | None, key: str | None
    ) -> Job:
        """Queue a job on an uploaded archive or on a data set.

        Args:
            token: Whose job it is.
            form: What is asked for.
            archive: The upload; deleted here.
            sha256: Of the upload.
            dataset: Instead of an archive, the id of a data set.
            key: The request's idempotency key.
        """
        content = json.dumps([form.options(), sha256, dataset], sort_keys=True)
        fingerprint = hashlib.sha256(content.encode()).hexdigest()
        if (job := self.repeated(token, key, fingerprint)) is not None:
            return job
        folder = JobFolder(self.settings.jobs / new_id())
        folder.path.mkdir(mode=0o700)
        try:
            if dataset is not None:
                copy(self.datasets.find(token, dataset) / FILES, folder.data)
            else:
                unpack(archive, folder.data, self.settings.limits)
            self.check(folder.data, form)
            self.describe(folder, form)
            limits = self.settings.limits
            with self.adding:
                return self.store.add(
                    token.name, form.options(), form.engine, sha256, key, fingerprint,
                    limits.queue, limits.jobs_per_owner, id=folder.path.name,
                )  # fmt: skip
        except BaseException as error:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise translate(error) from error
        finally:
            if archive is not None:
                archive.unlink(missing_ok=True)

    def check(self, data: Path, form: JobForm) -> dict[str, Any]:
        """Look at a folder and refuse it if it cannot be learned from.

        Raises:
            Refusal: 422.
        """
        report = inspect(data, form.split(), self.settings.limits.audio_hours)
        if "error" in report:
            raise Refusal(422, "bad_data", report["error"])
        faults = [f"{row['file']} {row['fault']}" for row in report["recordings"] if "fault" in row]
        broken = [fault for fault in faults if not fault.endswith("longer than 30 s")]
        if broken:
            more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
            raise Refusal(422, "bad_audio", f"cannot be used: {'; '.join(broken[:5])}{more}")
        return report

    def describe(self, folder: JobFolder, form: JobForm) -> None:
        """Write what the worker needs to know."""
        limits, id, here = self.settings.limits, folder.path.name, form.engine == "local"
        folder.write(
            "job.json",
            {
                "id": id,
                "arguments": form.arguments(self.settings),
                "hours": limits.job_hours,
                "memory_gb": limits.memory_gb,
                "tensorboard": f"/v1/jobs/{id}/tensorboard" if here and self.settings.tensorboard else None,
            },
        )

    def cancel(self, job: Job) -> Job:
        """Stop a job for good; one that was cancelled stays so.

        Raises:
            Refusal: 409 if it has ended otherwise.
        """
        if self.store.update(job.id, ["queued", "interrupted"], state="cancelled", cancel=1):
            pass
        elif self.store.update(job.id, RUNNING, cancel=1):
            self.dispatcher.wake.set()
        elif self.store.get(job.id).state != "cancelled":
            raise Refusal(409, "job_ended", f"the job has {self.store.get(job.id).state} already")
        return self.store.get(job.id)

    def resume(self, job: Job) -> Job:
        """Queue a cancelled or failed job again; it continues from its last checkpoint.

        Raises:
            Refusal: 409 if it waits, runs or has succeeded; 429 if too many wait.
        """
        folder, limits = self.folder(job), self.settings.limits
        if job.state in ("cancelled", "failed"):
            folder.cancel.unlink(missing_ok=True)
            folder.result.unlink(missing_ok=True)
        try:
            done = self.store.requeue(job, limits.queue, limits.jobs_per_owner)
        except QueueFull as error:
            raise translate(error) from error
        if not done:
            raise Refusal(409, "not_resumable", f"the job is {self.store.get(job.id).state}")
        self.dispatcher.wake.set()
        return self.store.get(job.id)

    def delete(self, job: Job) -> None:
        """Delete a job and everything it knew.

        Raises:
            Refusal: 409 while it runs.
        """
        if not self.dispatcher.delete(job):
            raise Refusal(409, "job_runs", "the job runs; cancel it first")

    def artifact(self, job: Job) -> tuple[Path, str]:
        """Return a finished job's archive and its SHA-256, after a look at whether it still has it.

        Raises:
            Refusal: 404 before there is one, 500 if it was changed.
        """
        path, known = self.folder(job).artifact, job.result.get("artifact", {}).get("sha256")
        if job.state != "succeeded" or known is None or not path.is_file():
            raise Refusal(404, "no_model", f"the job has no model to download; it is {job.state}")
        if self.digest(path) != known:
            raise Refusal(500, "model_damaged", "the model on the server is not the one that was trained")
        return path, known

    def digest(self, path: Path) -> str:
        """Return a file's SHA-256, computed again when the file is another."""
        stat = path.stat()
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if self.digests.get(str(path), (None, ""))[0] != stamp:
            self.digests[str(path)] = (stamp, digest(path))
        return self.digests[str(path)][1]

    def transcribe(self, job: Job, audio: Path) -> dict[str, str]:
        """Transcribe a recording with the base and with the tuned model.

        Raises:
            Refusal: 404 before there is a model, 422 if it is no audio.
        """
        folder = self.folder(job)
        if job.state != "succeeded" or not (folder.run / "final").is_dir():
            raise Refusal(404, "no_model", f"the job has no model yet; it is {job.state}")
        models = {"base": self.settings.models[job.options["base_model_name"]], "tuned": str(folder.run / "final")}
        return self.transcriber(models, audio, job.options.get("language"))

    def clip(self, job: Job, uid: str) -> Path:
        """Return the audio of one recording of a job.

        Raises:
            Refusal: 404.
        """
        data = self.folder(job).data
        found = {path.stem: path for path in data.iterdir() if path.suffix.lower() in AUDIO} if data.is_dir() else {}
        if uid not in found:
            raise Refusal(404, "unknown_recording", "there is no such recording")
        return found[uid]


def copy(files: Path, to: Path) -> None:
    """Copy the files of a data set.

    Raises:
        Refusal: 404, it was deleted meanwhile.
    """
    try:
        shutil.copytree(files, to)
    except (FileNotFoundError, shutil.Error) as error:
        if files.is_dir():
            raise
        raise missing() from error


def translate(error: BaseException) -> BaseException:
    """Turn what goes wrong with an upload into an answer."""
    if isinstance(error, ArchiveError):
        return Refusal(error.status, error.code, str(error))
    if isinstance(error, QueueFull):
        whose = "you have" if error.args == ("owner",) else "there are"
        return Refusal(429, "queue_full", f"{whose} too many jobs waiting; come back later", {"Retry-After": "60"})
    return error
