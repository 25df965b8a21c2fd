"""The server as an ASGI application: routes, the page, and what begins and ends with it."""

import importlib.resources
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from egrecho_inner import __version__
from egrecho_inner.serve import routes_board, routes_data, routes_jobs, routes_page, routes_spec
from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.engines.base import Engine
from egrecho_inner.serve.middleware import Guard
from egrecho_inner.serve.options import Settings
from egrecho_inner.serve.service import Service

PAGE = importlib.resources.files("egrecho_inner.serve") / "page"


def make_app(settings: Settings, engines: Mapping[str, Engine]) -> FastAPI:
    """Make the application.

    Args:
        settings: Of the server.
        engines: By name; `local` is among them.
    """
    service = Service(settings, engines)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            app.state.client = client
            yield
        service.stop()

    app = FastAPI(title="egrecho", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.service = service
    app.add_exception_handler(Refusal, refuse)
    app.add_exception_handler(HTTPException, no_route)
    app.add_exception_handler(RequestValidationError, no_field)
    for routes in (routes_spec, routes_board, routes_jobs, routes_data, routes_page):
        app.include_router(routes.router)
    app.mount("/static", StaticFiles(directory=str(PAGE / "static")))
    app.add_middleware(Guard, gate=service.gate)
    return app


async def refuse(_: Request, refusal: Refusal) -> Response:
    """Answer with what was refused and why."""
    return JSONResponse({"code": refusal.code, "message": str(refusal)}, refusal.status, refusal.headers)


async def no_route(_: Request, error: HTTPException) -> Response:
    """Answer where there is no such address or method."""
    return JSONResponse({"code": "no_route", "message": str(error.detail)}, error.status_code, error.headers)


async def no_field(_: Request, error: RequestValidationError) -> Response:
    """Answer a wrong parameter without repeating it."""
    first = error.errors()[0]
    return JSONResponse({"code": "bad_field", "message": f"{first['loc'][-1]}: {first['msg']}"}, 422)
