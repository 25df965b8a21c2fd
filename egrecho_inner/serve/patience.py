"""Connections that send no complete request head are closed: uvicorn waits for them for ever.

A client may open many connections and send a byte of a header now and then; each would hold a place among those that
the server takes at once. Bodies have limits of their own (`uploads.py`).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit of time for a request's head."""

    head_seconds = 20.0
    looks = 4
    """How often within that time a connection is looked at."""

    def connection_made(self, transport: Any) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self.waited, self.seen = 0, None
        self.look_again()

    def look_again(self) -> None:
        """Look once more in a while."""
        loop = asyncio.get_running_loop()
        self.look_timer = loop.call_later(self.head_seconds / self.looks, self.look)

    def look(self) -> None:
        """Close a connection that was without a request for too long."""
        busy = self.cycle is not None and not self.cycle.response_complete
        self.waited = 0 if busy or self.cycle is not self.seen else self.waited + 1
        self.seen = self.cycle
        if self.waited >= self.looks:
            self.transport.close()
        else:
            self.look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self.look_timer.cancel()
        super().connection_lost(exc)
