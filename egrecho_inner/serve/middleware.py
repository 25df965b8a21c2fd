"""What every request passes: host, origin and token checks before, security headers after, faults without their inside.

Plain ASGI, so that streams are not touched. The page and its parts need no token; everything else does if any does.
"""

import errno
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from egrecho_inner.serve.auth import Gate, Refusal

logger = logging.getLogger(__name__)

PUBLIC = ("/", "/healthz", "/favicon.ico")
"""What needs no token besides /static/."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self' blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-store",
}
BOARD_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)
"""TensorBoard's own page cannot live with less."""

App = Callable[..., Any]


class Guard:
    """Check requests, and add headers to answers.

    Args:
        app: The server.
        gate: Who is let in.
    """

    def __init__(self, app: App, gate: Gate):
        self.app, self.gate = app, gate

    async def __call__(self, scope: dict[str, Any], receive: App, send: App) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websockets here
        headers, path, method = Headers(scope=scope), scope["path"], scope["method"]
        began, status = time.monotonic(), 0

        async def send_on(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
                if "/tensorboard/" in path:
                    found["Content-Security-Policy"] = BOARD_POLICY
            await send(message)

        try:
            self.gate.check_host(headers)
            self.gate.check_origin(method, headers)
            scope.setdefault("state", {})["token"] = self.token(scope, headers, path)
            await self.app(scope, receive, send_on)
        except Refusal as refusal:
            await answer(send_on, refusal.status, refusal.code, str(refusal), refusal.headers)
        except Exception as error:
            if is_full(error) and not status:
                logger.warning("%s %r: the disk is full: %s", method, path[:200], error)
                await answer(send_on, 507, "disk_full", "the server's disk is full; try again later", {})
                return
            name = secrets.token_hex(6)
            logger.exception("fault %s at %s %r", name, method, path[:200])
            if status:
                raise
            await answer(send_on, 500, "internal", f"the server met a fault; its log has it as {name}", {})
        finally:
            took = 1000 * (time.monotonic() - began)
            logger.debug("%s %r %d %.0f ms", method, path[:200], status, took)

    def token(self, scope: dict[str, Any], headers: Headers, path: str) -> Any:
        """Return who asks; None on the page and its parts."""
        if path in PUBLIC or path.startswith("/static/"):
            return None
        address = (scope.get("client") or ("?",))[0]
        if self.gate.needed and (ticket := self.gate.ticket(headers, scope["method"], path)):
            return ticket
        return self.gate.token(headers, address)


def is_full(error: Exception) -> bool:
    """Tell whether an exception means that nothing more can be written."""
    if isinstance(error, sqlite3.Error):
        return "disk is full" in str(error) or getattr(error, "sqlite_errorname", "") == "SQLITE_IOERR_WRITE"
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def answer(send: App, status: int, code: str, message: str, headers: dict[str, str]) -> None:
    """Send a refusal as JSON."""
    content = json.dumps({"code": code, "message": message}).encode()
    lines = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
