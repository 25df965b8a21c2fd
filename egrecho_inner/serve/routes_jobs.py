"""Jobs under /v1: make, list, watch, stop, continue, delete; what they learned, and the model."""

import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from fastapi import APIRouter, Request
from sse_starlette import EventSourceResponse
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from egrecho_inner.data.sources.containers import container_of
from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.calls import asked_by, number, service_of, threaded
from egrecho_inner.serve.forms import read_form
from egrecho_inner.serve.jobs import JobFolder, read_events
from egrecho_inner.serve.routes_spec import marks
from egrecho_inner.serve.service import Service
from egrecho_inner.serve.store import FINAL, Job
from egrecho_inner.serve.uploads import receive_form, save_body
from egrecho_inner.serve.views import job_view

router = APIRouter(prefix="/v1", tags=["jobs"])
LOG_BYTES = 1_000_000
WATCH_SECONDS = 0.5
EVENT_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
WAITING = 8
"""Recordings that may wait to be transcribed."""


async def find(request: Request, id: str, role: str = "read") -> tuple[Service, Job]:
    """Return the service and the job that a request is about."""
    service, token = service_of(request), asked_by(request, role)
    return service, await threaded(service.job, token, id)


@router.post("/jobs", status_code=201)
async def create(request: Request) -> Response:
    """Queue a job: the form of /training, or the field dataset with the id of an uploaded data set."""
    service, token = service_of(request), asked_by(request, "write")
    form = await receive_form(request, service.incoming(), service.settings.limits)
    try:
        dataset = form.fields.pop("dataset", None)
        if (form.file is None) == (dataset is None):
            raise Refusal(422, "missing_field", "data or dataset: give a file as data, or the id of a data set")
        asked = read_form(form.fields, service.settings)
        key = request.headers.get("idempotency-key")
        job = await threaded(
            service.create, token, asked, form.file, form.sha256, dataset, key, limiter=service.unpacking
        )
    finally:
        if form.file is not None:
            form.file.unlink(missing_ok=True)
    where = {"Location": f"/v1/jobs/{job.id}", "X-Job-Id": job.id}
    return JSONResponse(await threaded(job_view, job, service.store), 201, headers=where)


@router.get("/jobs")
async def listing(request: Request) -> Response:
    """List the caller's jobs, newest first; an admin's `all=true` lists everyone's."""
    service, token = service_of(request), asked_by(request, "read")
    query = request.query_params
    everyone = token.may("admin") and query.get("all", "true") == "true"
    limit, before = number(query, "limit", 50, 1, 200), number(query, "before", None, 1, 2**62)
    jobs = await threaded(service.store.newest, None if everyone else token.name, limit, before)
    views = [await threaded(job_view, job, service.store) for job in jobs]
    return JSONResponse({"jobs": views, "next": jobs[-1].number if len(jobs) == limit else None})


@router.get("/jobs/{id}")
async def show(request: Request, id: str) -> Response:
    """Show one job."""
    service, job = await find(request, id)
    return JSONResponse(await threaded(job_view, job, service.store))


@router.post("/jobs/{id}/cancel")
async def cancel(request: Request, id: str) -> Response:
    """Stop a job; what it learned so far is kept, and it can be resumed."""
    service, job = await find(request, id, "write")
    return JSONResponse(job_view(await threaded(service.cancel, job), service.store))


@router.post("/jobs/{id}/resume")
async def resume(request: Request, id: str) -> Response:
    """Continue a cancelled or failed job from its last checkpoint."""
    service, job = await find(request, id, "write")
    return JSONResponse(job_view(await threaded(service.resume, job), service.store))


@router.delete("/jobs/{id}", status_code=204)
async def delete(request: Request, id: str) -> Response:
    """Delete a job with its recordings, checkpoints, logs and model."""
    service, job = await find(request, id, "write")
    await threaded(service.delete, job)
    return Response(status_code=204)


@router.get("/jobs/{id}/logs")
async def logs(request: Request, id: str) -> Response:
    """Send the log from byte `offset` on; X-Next-Offset is where to go on."""
    service, job = await find(request, id)
    offset = number(request.query_params, "offset", 0, 0, 2**62)
    path = service.folder(job).log

    def read() -> bytes:
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                return file.read(LOG_BYTES)
        except OSError:
            return b""

    content = await threaded(read)
    hidden = content.replace(str(service.settings.work).encode(), b"")
    text = hidden.decode("utf-8", errors="replace").replace("\x1b", "\ufffd")
    return PlainTextResponse(text, headers={"X-Next-Offset": str(offset + len(content))})


@router.get("/jobs/{id}/metrics")
async def metrics(request: Request, id: str) -> Response:
    """Send every line of the training's log: steps, losses, development scores."""
    service, job = await find(request, id)
    rows = await threaded(training_rows, service.folder(job))
    return JSONResponse({"metrics": rows})


@router.get("/jobs/{id}/events")
async def events(request: Request, id: str) -> EventSourceResponse:
    """Stream what happens, as server-sent events: state, event, metric; Last-Event-ID goes on after a gap."""
    service, job = await find(request, id)
    return EventSourceResponse(watch(service, job, request.headers.get("last-event-id", "")), ping=15)


async def watch(service: Service, job: Job, last: str) -> AsyncIterator[dict[str, Any]]:
    """Yield what is new in a job's files until it has ended; the id of an event is how much was sent before it."""
    seen = [int(part) for part in last.split(".")] if EVENT_ID.fullmatch(last) else [0, 0]
    folder, shown = service.folder(job), None
    while job is not None and job.state != "deleted":
        happened = await threaded(read_events, folder.events, seen[0])
        rows = (await threaded(training_rows, folder))[seen[1] :]
        for kind, items, place in (("event", happened, 0), ("metric", rows, 1)):
            for item in items:
                seen[place] += 1
                yield {"event": kind, "data": json.dumps(item), "id": f"{seen[0]}.{seen[1]}"}
        view = {"state": job.state, "phase": job.phase, "cancelling": job.cancel and job.running}
        if view != shown:
            shown = view
            yield {"event": "state", "data": json.dumps(view), "id": f"{seen[0]}.{seen[1]}"}
        if job.state in FINAL:
            return
        await anyio.sleep(WATCH_SECONDS)
        job = await threaded(service.store.get, job.id)


def training_rows(folder: JobFolder) -> list[dict[str, Any]]:
    """Return the lines of all training logs of a job, with the run each belongs to."""
    found = []
    for path in sorted(folder.run.glob("train/*/metrics.jsonl"), key=lambda path: path.stat().st_mtime):
        found += [{"run": path.parent.name, **row} for row in read_events(path)]
    return found


@router.get("/jobs/{id}/artifact")
async def artifact(request: Request, id: str) -> Response:
    """Send the model as tar.gz; knows Range and If-Range."""
    service, job = await find(request, id)
    path, sha256 = await threaded(service.artifact, job)
    return FileResponse(path, filename=f"{job.id}.tar.gz", media_type="application/gzip", headers=marks(sha256))


@router.get("/jobs/{id}/compare")
async def compare(request: Request, id: str) -> Response:
    """Show base and tuned model on every test recording, word by word."""
    service, job = await find(request, id)
    found = await threaded(service.folder(job).read, "run/compare.json")
    if not found:
        raise Refusal(404, "not_yet", "both models are compared at the end of the job")
    return JSONResponse(found)


@router.post("/jobs/{id}/transcribe")
async def transcribe(request: Request, id: str) -> Response:
    """Transcribe the audio that is the request's body with the base and with the tuned model."""
    service, job = await find(request, id, "write")
    if service.transcribing.statistics().tasks_waiting >= WAITING:
        raise Refusal(503, "busy", "others are being transcribed; try again", {"Retry-After": "10"})
    place = service.incoming()
    place.mkdir(mode=0o700)
    try:
        await save_body(request, place / "audio", service.settings.limits)
        path = await threaded(name_audio, place / "audio")
        return JSONResponse(await threaded(service.transcribe, job, path, limiter=service.transcribing))
    finally:
        await threaded(shutil.rmtree, place, True)


def name_audio(path: Path) -> Path:
    """Give a file the suffix that its content asks for."""
    with open(path, "rb") as file:
        kind = container_of(file.read(64))
    return path.rename(path.with_suffix({"mov": ".m4a", "matroska": ".webm", "aac": ".aac"}.get(kind or "", ".wav")))


@router.get("/jobs/{id}/clips/{uid}")
async def clip(request: Request, id: str, uid: str) -> Response:
    """Send one recording of a job."""
    service, job = await find(request, id)
    return FileResponse(await threaded(service.clip, job, uid))
