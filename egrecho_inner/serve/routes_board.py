"""A job's TensorBoard through the server: it listens on this machine only and knows no users of its own."""

import httpx
from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from egrecho_inner.serve.auth import BOARD_COOKIE, BOARD_SECONDS, Refusal
from egrecho_inner.serve.calls import asked_by, service_of, threaded

router = APIRouter(prefix="/v1/jobs/{id}/tensorboard", tags=["tensorboard"])
PASSED_ON = ("accept", "accept-encoding", "user-agent", "if-none-match")
PASSED_BACK = ("content-type", "content-encoding", "content-length", "etag", "expires")


@router.post("", status_code=204)
async def open_board(request: Request, id: str) -> Response:
    """Set a cookie for looking at this board alone: a page's own links carry no Authorization header."""
    service, token = service_of(request), asked_by(request, "read")
    await threaded(service.job, token, id)
    response = Response(status_code=204)
    response.set_cookie(
        BOARD_COOKIE, service.gate.open_board(token, id), max_age=int(BOARD_SECONDS), httponly=True, samesite="strict",
        path=f"/v1/jobs/{id}/tensorboard/", secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.get("/{path:path}")
async def board(request: Request, id: str, path: str) -> Response:
    """Fetch a part of the board."""
    service, token = service_of(request), asked_by(request, "read")
    job = await threaded(service.job, token, id)
    port = service.folder(job).read("tensorboard.json").get("port")
    if not port:
        raise Refusal(404, "no_tensorboard", "TensorBoard runs while the job does; see /v1/jobs/ID/metrics")
    client: httpx.AsyncClient = request.app.state.client
    try:
        address = httpx.URL(f"http://127.0.0.1:{port}{request.url.path}", query=request.url.query.encode())
    except httpx.InvalidURL as error:
        raise Refusal(404, "no_part", "TensorBoard has no such part") from error
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    try:
        found = await client.send(client.build_request("GET", address, headers=headers), stream=True)
    except httpx.TransportError as error:
        raise Refusal(503, "tensorboard_starts", "TensorBoard is starting", {"Retry-After": "3"}) from error
    kept = {name: found.headers[name] for name in PASSED_BACK if name in found.headers}
    return StreamingResponse(found.aiter_raw(), found.status_code, kept, background=BackgroundTask(found.aclose))
