"""The three routes of the specification, to the letter, over the same jobs as /v1."""

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, JSONResponse, Response

from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.calls import asked_by, service_of, threaded
from egrecho_inner.serve.forms import JobForm, read_form
from egrecho_inner.serve.uploads import receive_form
from egrecho_inner.serve.views import status_view

router = APIRouter(tags=["specification"])
BUSY = "Service busy, come back later"
EPOCHS = "5"


@router.post("/training")
async def training(request: Request) -> Response:
    """Queue a training: fields base_model_name, epochs, language, and data, a tar.gz of audio and text files."""
    service, token = service_of(request), asked_by(request, "write")
    if service.settings.compat_busy and await threaded(service.store.active):
        return JSONResponse({"message": BUSY}, 429)
    form = await receive_form(request, service.incoming(), service.settings.limits)
    try:
        if form.file is None:
            raise Refusal(400, "missing_field", "data is missing: -F data=@data.tar.gz")
        asked = read_as_specified(form.fields, service.settings)
        key = request.headers.get("idempotency-key")
        job = await threaded(service.create, token, asked, form.file, form.sha256, None, key, limiter=service.unpacking)
    finally:
        if form.file is not None:
            form.file.unlink(missing_ok=True)
    message = f"training is queued; watch /status, then get /download_model?training_id={job.id}"
    content = {"training_id": job.id, "message": message}
    return JSONResponse(content, headers={"X-Job-Id": job.id})


def read_as_specified(fields: dict[str, str], settings: object) -> JobForm:
    """Read the form; what the specification's server answers with 400 is 400 here too."""
    try:
        return read_form(fields, settings, {"epochs": EPOCHS})
    except Refusal as refusal:
        if refusal.code == "missing_field" or refusal.headers.get("X-Field") == "epochs":
            raise Refusal(400, refusal.code, str(refusal)) from refusal
        raise


@router.get("/status")
async def status(request: Request) -> Response:
    """Tell what the server does."""
    service, token = service_of(request), asked_by(request, "read")
    base = str(request.base_url)
    return JSONResponse(await threaded(status_view, token, service.store, base, service.folder))


@router.get("/download_model")
async def download_model(request: Request) -> Response:
    """Send the tuned model of a training as tar.gz."""
    service, token = service_of(request), asked_by(request, "read")
    id = request.query_params.get("training_id", "")
    if not id:
        raise Refusal(400, "missing_field", "training_id is missing: /download_model?training_id=ID")
    job = await threaded(service.job, token, id)
    path, sha256 = await threaded(service.artifact, job)
    return FileResponse(path, filename=f"{job.id}.tar.gz", media_type="application/gzip", headers=marks(sha256))


def marks(sha256: str) -> dict[str, str]:
    """Return the headers by which a client knows a file."""
    return {"ETag": f'"{sha256}"', "X-Content-SHA256": sha256}
