"""The page, and small things beside it: health, what is offered."""

import importlib.resources

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, JSONResponse, Response

from egrecho_inner import __version__
from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.calls import asked_by, service_of
from egrecho_inner.serve.forms import LANGUAGES

router = APIRouter(tags=["page"])
templates = Environment(loader=PackageLoader("egrecho_inner.serve", "page"), autoescape=True)


def sentences() -> list[str]:
    """Return the sentences that are offered for reading aloud."""
    path = importlib.resources.files("egrecho_inner.serve") / "page" / "sentences.txt"
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Show the page."""
    service = service_of(request)
    shown = templates.get_template("index.html").render(version=__version__, needs_token=service.gate.needed)
    return HTMLResponse(shown)


@router.get("/healthz")
async def health() -> Response:
    """Tell that the server answers."""
    return JSONResponse({"status": "ok"})


@router.get("/v1/offers")
async def offers(request: Request) -> Response:
    """Show which models, languages and engines there are, within which limits, and sentences to read."""
    service, token = service_of(request), asked_by(request, "read")
    settings = service.settings
    return JSONResponse(
        {
            "models": list(settings.models),
            "languages": sorted(LANGUAGES),
            "engines": ["local", *settings.engines],
            "limits": {"epochs": settings.limits.epochs, "file_mb": settings.limits.file_mb},
            "sentences": sentences(),
            "you": {"name": token.name, "role": token.role},
        }
    )


@router.get("/favicon.ico", include_in_schema=False)
async def favicon() -> Response:
    """Have no icon."""
    raise Refusal(404, "no_icon", "there is none")
