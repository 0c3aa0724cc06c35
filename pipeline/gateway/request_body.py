"""The bytes of a request's body: bounded before anything is kept, decompressed within bounds, their type checked."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive

from pipeline.gateway.forms import read_form
from pipeline.gateway.problems import INVALID_REQUEST, Problem, invalid
from pipeline.gateway.strict_json import read_json

BODY_BYTES_MAX = 1024 * 1024
GZIP_RATIO_MAX = 20
GZIP_FREE_BYTES = 64 * 1024
"""A body this small may have any ratio: a hundred events that are all alike are no attack."""

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Gone(Exception):
    """The client went away before its request was whole: nobody is left to answer, and nothing was done."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body, decompressed. Raises Problem 413 before more than the limit is kept, 400, 415, or Gone."""
    length = headers.get(b"content-length")
    if length is not None and int(length) > BODY_BYTES_MAX:
        raise _too_large()
    encoding = headers.get(b"content-encoding", b"").strip().lower()
    if encoding not in (b"", b"identity", b"gzip"):
        raise _unsupported("Content-Encoding is gzip, or not given.")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body"):
            if size > BODY_BYTES_MAX:
                raise _too_large()
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise Gone
    if len(body) > BODY_BYTES_MAX:
        raise _too_large()
    return _decompressed(body) if encoding == b"gzip" else body


def parse_body(face: str, body: bytes, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The parameters as they came: a form in v1, a JSON object elsewhere. An empty body has none."""
    if not body:
        return {}
    check_type(FORM if face == "v1" else JSON, headers)
    if face == "v1":
        return read_form(body)
    read = read_json(body)
    if not isinstance(read, dict):
        raise invalid(None, "The request's body is a JSON object.", "invalid_json")
    return read


def check_type(wanted: str, headers: Mapping[bytes, bytes]) -> None:
    """Raises Problem 415 for a body that says to be of another type."""
    said = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if said != wanted:
        raise _unsupported(f"Content-Type is {wanted} for this request.")


def _decompressed(body: bytes) -> bytes:
    reader = zlib.decompressobj(wbits=31)
    most = min(BODY_BYTES_MAX, max(GZIP_FREE_BYTES, GZIP_RATIO_MAX * len(body)))
    try:
        read = reader.decompress(body, most + 1)
    except zlib.error:
        raise invalid(None, "The request's body is not gzip, as Content-Encoding says.") from None
    if len(read) > most:
        if most == BODY_BYTES_MAX:
            raise _too_large()
        raise invalid(None, f"The request's body is compressed more than {GZIP_RATIO_MAX} to one.")
    if not reader.eof or reader.unused_data:
        raise invalid(None, "The request's body is not one whole gzip stream.")
    return read


def _too_large() -> Problem:
    # The connection stays: a client that hears of its end while it still sends may never read why. What it sends is
    # dropped as it comes, and bounded by the server.
    return Problem(
        413,
        INVALID_REQUEST,
        f"The request's body is larger than {BODY_BYTES_MAX} bytes, which is the limit, also after decompression.",
    )


def _unsupported(message: str) -> Problem:
    return Problem(415, INVALID_REQUEST, message)
