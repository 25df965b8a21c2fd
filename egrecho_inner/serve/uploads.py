"""Request bodies from strangers: a multipart form written to the disk as it comes, bounded in every direction.

In: a request. Out: the form's fields and its one file with its SHA-256. Bytes, fields, headers and silence are limited
while they arrive; the file goes straight to where it is needed, never through memory or a shared temporary folder.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from egrecho_inner.runtime.files import free_space
from egrecho_inner.serve.auth import Refusal
from egrecho_inner.serve.options import Limits

FIELDS, FIELD_BYTES, HEADER_BYTES = 40, 10_000, 8_000
BUFFER = 1 << 20
LOOK_BYTES = 64 << 20
"""Bytes between two looks at the free disk."""
SLOWEST = 10_000.0
"""Bytes per second of an upload at least, over all of it, after the first minute."""


@dataclass
class Form:
    """A form that has arrived."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    sha256: str = ""


def check_room(place: Path, limits: Limits, bytes_: int = 0) -> None:
    """Refuse new data while the disk is nearly full.

    Raises:
        Refusal: 507.
    """
    if free_space(place) - bytes_ < limits.disk_floor_gb * 1e9:
        raise Refusal(507, "disk_full", "the server's disk is nearly full; try again later")


async def body(request: Request, limits: Limits, most: float) -> AsyncIterator[bytes]:
    """Yield a request's body, bounded in size and in time.

    Raises:
        Refusal: 413 for too much, 408 for too slow.
    """
    announced = request.headers.get("content-length")
    if announced is not None and (not announced.isdigit() or int(announced) > most):
        raise Refusal(413, "body_too_large", f"the request has over {most / 1e6:,.0f} MB")
    stream, count, loop = request.stream().__aiter__(), 0, asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            block = await asyncio.wait_for(anext(stream), limits.idle_seconds)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Refusal(408, "too_slow", f"nothing came for {limits.idle_seconds:g} s") from error
        except ClientDisconnect as error:
            raise Refusal(400, "cut_off", "the request was cut off") from error
        count += len(block)
        if count > most:
            raise Refusal(413, "body_too_large", f"the request has over {most / 1e6:,.0f} MB")
        elapsed = loop.time() - began
        if elapsed > 60 and count < SLOWEST * elapsed:
            raise Refusal(408, "too_slow", "the upload is slower than 10 kB/s")
        yield block


async def save_body(request: Request, place: Path, limits: Limits) -> None:
    """Write a request's body to a file that must not be there yet."""
    with contextlib.closing(open(place, "xb")) as out:
        async for block in body(request, limits, limits.file_mb * 1e6):
            await asyncio.to_thread(out.write, block)


async def receive_form(request: Request, place: Path, limits: Limits) -> Form:
    """Receive a multipart form with at most one file.

    Args:
        request: Its body is read here.
        place: Where the file is written.
        limits: Of the server.

    Raises:
        Refusal: 400 no such form, 408, 413, 507.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Refusal(400, "bad_form", "send multipart/form-data: curl -F base_model_name=... -F data=@data.tar.gz")
    check_room(place.parent, limits)
    receiver = Receiver(place, limits)
    try:
        parser = MultipartParser(boundary, receiver.callbacks())
        async for block in body(request, limits, limits.upload_mb * 1e6):
            parser.write(block)
            if len(receiver.waiting) >= BUFFER:
                await asyncio.to_thread(receiver.flush)
        parser.finalize()
        await asyncio.to_thread(receiver.close)
    except (FormParserError, UnicodeDecodeError) as error:
        receiver.discard()
        raise Refusal(400, "bad_form", "the form does not read") from error
    except BaseException:
        receiver.discard()
        raise
    if not receiver.ended:
        receiver.discard()
        raise Refusal(400, "bad_form", "the form was cut off")
    return Form(receiver.fields, receiver.place if receiver.seen else None, receiver.digest.hexdigest())


class Receiver:
    """Take the parts of a form.

    Args:
        place: Where the file is written.
        limits: Of the server.
    """

    def __init__(self, place: Path, limits: Limits):
        self.place, self.limits = place, limits
        self.fields: dict[str, str] = {}
        self.digest = hashlib.sha256()
        self.seen = self.ended = False
        """Whether there was a file; whether the form's end has come."""
        self.waiting = bytearray()
        self.out: IO[bytes] | None = None
        self.written = self.looked = self.count = 0
        self.name, self.value, self.in_file = "", bytearray(), False
        self.header, self.content, self.disposition, self.overhead = bytearray(), bytearray(), b"", 0

    def callbacks(self) -> dict:
        """Return what the parser calls."""
        return {
            "on_part_begin": self.begin,
            "on_header_field": lambda data, start, end: self.add(self.header, data[start:end]),
            "on_header_value": lambda data, start, end: self.add(self.content, data[start:end]),
            "on_header_end": self.end_header,
            "on_headers_finished": self.start,
            "on_part_data": lambda data, start, end: self.take(data[start:end]),
            "on_part_end": self.finish,
            "on_end": self.end,
        }

    def begin(self) -> None:
        """Begin a part."""
        self.count += 1
        if self.count > FIELDS:
            raise Refusal(400, "too_many_fields", f"the form has over {FIELDS} fields")
        self.disposition, self.overhead = b"", 0
        self.value = bytearray()

    def add(self, to: bytearray, piece: bytes) -> None:
        """Add a piece of a part's headers."""
        self.overhead += len(piece)
        if self.overhead > HEADER_BYTES:
            raise Refusal(400, "bad_form", "a part of the form has too large headers")
        to += piece

    def end_header(self) -> None:
        """Take one header line."""
        if self.header.lower() == b"content-disposition":
            self.disposition = bytes(self.content)
        self.header, self.content = bytearray(), bytearray()

    def start(self) -> None:
        """Decide what a part is, after its headers."""
        _, options = parse_options_header(self.disposition)
        self.name = options.get(b"name", b"").decode("utf-8")
        self.in_file = b"filename" in options
        if self.in_file and (self.seen or self.name != "data"):
            raise Refusal(400, "bad_form", "the form takes one file, as -F data=@data.tar.gz")
        if self.name in self.fields:
            raise Refusal(400, "bad_form", f"the field {self.name[:40]!r} comes twice")
        self.seen = self.seen or self.in_file

    def take(self, block: bytes) -> None:
        """Take content of the part."""
        if self.in_file:
            self.waiting += block
            return
        if len(self.value) + len(block) > FIELD_BYTES:
            raise Refusal(400, "field_too_large", f"the field {self.name[:40]!r} has over {FIELD_BYTES:,} bytes")
        self.value += block

    def finish(self) -> None:
        """End a part."""
        if not self.in_file:
            self.fields[self.name] = self.value.decode("utf-8").strip()

    def end(self) -> None:
        """End the form."""
        self.ended = True

    def flush(self) -> None:
        """Write what has come of the file."""
        if not self.waiting:
            return
        block, self.waiting = self.waiting, bytearray()
        if self.out is None:
            self.out = open(self.place, "xb")  # noqa: SIM115 - closed by close or discard
        if self.written - self.looked >= LOOK_BYTES:
            self.looked = self.written
            check_room(self.place.parent, self.limits)
        self.out.write(block)
        self.digest.update(block)
        self.written += len(block)

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self.out is not None:
            self.out.close()
        elif self.seen:
            self.place.touch()

    def discard(self) -> None:
        """Forget the file."""
        if self.out is not None:
            self.out.close()
        self.place.unlink(missing_ok=True)
