"""Data sets under /v1: files one by one from a browser or a script, a look at them, then a job without a new upload."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.calls import asked_by, service_of, threaded
from egrecho_inner.serve.inspect import inspect
from egrecho_inner.serve.uploads import check_room, save_body

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])
SPLIT = {"dev": float, "test": float, "seed": int, "groups": str}


@router.post("", status_code=201)
async def create(request: Request) -> Response:
    """Make an empty data set."""
    service, token = service_of(request), asked_by(request, "write")
    check_room(service.settings.work, service.settings.limits)
    id = await threaded(service.datasets.new, token)
    return JSONResponse({"id": id}, 201, headers={"Location": f"/v1/datasets/{id}"})


@router.get("")
async def listing(request: Request) -> Response:
    """List the caller's data sets, the oldest first: id, created, files, bytes."""
    service, token = service_of(request), asked_by(request, "read")
    return JSONResponse({"datasets": await threaded(service.datasets.owned, token.name)})


@router.put("/{id}/files/{name}", status_code=204)
async def put_file(request: Request, id: str, name: str) -> Response:
    """Put one file into a data set: audio, its transcript, or a CSV file of splits; the body is the file."""
    service, token = service_of(request), asked_by(request, "write")
    folder = await threaded(service.datasets.find, token, id)
    limits = service.settings.limits
    check_room(service.settings.work, limits)
    place = service.incoming()
    try:
        await save_body(request, place, limits)
        await threaded(service.datasets.put, folder, name, place, limiter=service.unpacking)
    finally:
        place.unlink(missing_ok=True)
    return Response(status_code=204)


@router.delete("/{id}/files/{name}", status_code=204)
async def delete_file(request: Request, id: str, name: str) -> Response:
    """Take one file out of a data set."""
    service, token = service_of(request), asked_by(request, "write")
    folder = await threaded(service.datasets.find, token, id)
    await threaded(service.datasets.remove_file, folder, name)
    return Response(status_code=204)


@router.get("/{id}")
async def show(request: Request, id: str) -> Response:
    """Look at a data set: its recordings with their splits, what cannot be used, what is wrong."""
    service, token = service_of(request), asked_by(request, "read")
    folder = await threaded(service.datasets.find, token, id)
    options = {}
    for name, kind in SPLIT.items():
        if (value := request.query_params.get(name)) is not None:
            try:
                options[name] = kind(value[:20])
            except ValueError as error:
                raise Refusal(422, "bad_field", f"{name}: {value[:20]!r} is none") from error
    if options.get("groups", "auto") not in ("auto", "sentence", "none"):
        raise Refusal(422, "bad_field", "groups: expected auto, sentence or none")
    report = await threaded(
        inspect, folder / "files", options, service.settings.limits.audio_hours, limiter=service.unpacking
    )
    return JSONResponse({"id": id, **report})


@router.delete("/{id}", status_code=204)
async def delete(request: Request, id: str) -> Response:
    """Delete a data set with all its files; jobs made of it keep their copies."""
    service, token = service_of(request), asked_by(request, "write")
    folder = await threaded(service.datasets.find, token, id)
    await threaded(service.datasets.delete, folder)
    return Response(status_code=204)
