"""What every route needs: the service, who asks, and blocking work away from the event loop."""

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from starlette.datastructures import QueryParams
from starlette.requests import Request

from egrecho_inner.serve.auth import Refusal, Role, Token
from egrecho_inner.serve.service import Service

Result = TypeVar("Result")


def service_of(request: Request) -> Service:
    """Return the server's work."""
    return request.app.state.service


def asked_by(request: Request, role: Role) -> Token:
    """Return who asks.

    Raises:
        Refusal: 403 if the token does not allow what the role does.
    """
    token: Token = request.state.token
    if not token.may(role):
        raise Refusal(403, "not_allowed", f"this token is for {token.role}; {role} is needed")
    return token


def number(query: QueryParams, name: str, default: int | None, low: int, high: int) -> int | None:
    """Return a whole number of the query.

    Raises:
        Refusal: 422 if it is none, or out of bounds.
    """
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
        raise Refusal(422, "bad_field", f"{name}: expected a whole number from {low} to {high}")
    return int(value)


async def threaded(
    function: Callable[..., Result], *arguments: object, limiter: anyio.CapacityLimiter | None = None
) -> Result:
    """Call what blocks in a thread; `limiter` bounds how many calls of its kind run at a time."""
    return await anyio.to_thread.run_sync(lambda: function(*arguments), limiter=limiter)
