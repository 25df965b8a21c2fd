"""A page for one model: record or drop a file, read the text, take subtitles along.

In: a transcriber, limits. Out: an ASGI application with the page, `POST /v1/transcribe` (audio as the body) and nothing
else. The page's pieces, the checks of host and origin and the headers are the training server's. One recording at a
time: others wait for their turn.
"""

import importlib.resources
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from jinja2 import Environment, PackageLoader
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from egrecho_inner import __version__
from egrecho_inner.decoding.passages import transcript_of
from egrecho_inner.decoding.transcribe import Transcriber
from egrecho_inner.errors import UserError
from egrecho_inner.serve.app import no_route, refuse
from egrecho_inner.serve.auth import Gate, Refusal
from egrecho_inner.serve.middleware import Guard
from egrecho_inner.serve.options import Settings
from egrecho_inner.serve.uploads import save_body
from egrecho_inner.text.transcripts import WRITERS

PAGE = importlib.resources.files("egrecho_inner.serve") / "page"
SENT = ("txt", "srt", "vtt")
"""Formats that an answer holds."""


class Demo:
    """One model behind a page.

    Args:
        transcriber: Ready to be used.
        name: Of the model, as the page shows it.
        longest: Seconds of a recording at most.
    """

    def __init__(self, transcriber: Transcriber, name: str, longest: float):
        self.transcriber, self.name, self.longest = transcriber, name, longest
        self.turn = threading.Lock()

    def transcribe(self, path: Path) -> dict[str, Any]:
        """Transcribe a file.

        Raises:
            Refusal: It is no audio, or too long.
        """
        from egrecho_inner.data.sources.recordings import AudioFile, open_recording

        try:
            cut = open_recording(AudioFile(path, Path("recording")), 0, path.parent)
        except UserError as error:
            raise Refusal(422, "bad_audio", str(error).replace(f"{path.parent}/", "")) from error
        if cut.duration > self.longest:
            raise Refusal(422, "too_long", f"{cut.duration:.0f} s of audio; this page takes up to {self.longest:.0f} s")
        with self.turn:
            ((_, windows),) = self.transcriber.windows([cut])
            found = transcript_of(self.transcriber, windows, cut.duration, True)
        return {
            "seconds": round(cut.duration, 2),
            "language": found.language,
            "text": found.text,
            "files": {name: WRITERS[name](found) for name in SENT},
        }


def make_demo(demo: Demo, settings: Settings) -> FastAPI:
    """Make the application."""
    app = FastAPI(title="egrecho demo", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    templates = Environment(loader=PackageLoader("egrecho_inner.serve", "page"), autoescape=True)
    shown = templates.get_template("demo.html").render(version=__version__, model=demo.name, longest=demo.longest)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(shown)

    @app.get("/healthz")
    async def health() -> Response:
        return JSONResponse({"status": "ok"})

    @app.post("/v1/transcribe")
    async def transcribe(request: Request) -> Response:
        place = Path(tempfile.mkdtemp(prefix="egrecho-demo-"))
        try:
            await save_body(request, place / "recording", settings.limits)
            return JSONResponse(await run_in_threadpool(demo.transcribe, place / "recording"))
        finally:
            await run_in_threadpool(shutil.rmtree, place, True)

    app.add_exception_handler(Refusal, refuse)
    app.add_exception_handler(HTTPException, no_route)
    app.mount("/static", StaticFiles(directory=str(PAGE / "static")))
    app.add_middleware(Guard, gate=Gate(settings))
    return app
