"""The body of an HTTP request as a stream: by length or in chunks, packed or plain, held a piece at a time."""

from __future__ import annotations

import email.parser
import email.policy
import re
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from io import BufferedIOBase

from pipeline.local.encodings import UNPACKERS, Unpacker
from pipeline.local.statement import (
    CANNOT_DECOMPRESS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    UNKNOWN_COMPRESSION,
    SqlError,
)

_PIECE = 1 << 20
_LONGEST_FORM = 16 << 20
_DISCARD_FOR_S = 30.0


class Disconnected(ConnectionError):
    """The client went away before its request was complete."""


class Body:
    """The unpacked bytes of a body, read once, in pieces of about a megabyte."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._ahead = b""

    def read(self) -> bytes:
        """The next piece; empty at the end. Raises Disconnected when the client breaks off."""
        if self._ahead:
            piece, self._ahead = self._ahead, b""
            return piece
        return next((piece for piece in self._pieces if piece), b"")

    def head(self, size: int) -> bytes:
        """The first ``size`` bytes, or all if there are fewer; they are still to be read."""
        while len(self._ahead) < size and (piece := next(self._pieces, None)) is not None:
            self._ahead += piece
        return self._ahead[:size]

    def skip(self, size: int) -> None:
        """Drop the first bytes, of which ``head`` has been asked."""
        self._ahead = self._ahead[size:]

    def put_back(self, before: bytes) -> None:
        """Put bytes before what is to be read next."""
        self._ahead = before + self._ahead

    def discard(self) -> None:
        """Read and forget what is left. Raises Disconnected when that takes too long."""
        self._ahead = b""
        deadline = time.monotonic() + _DISCARD_FOR_S
        for _ in self._pieces:
            if time.monotonic() > deadline:
                raise Disconnected


def body_of(headers: Message, source: BufferedIOBase) -> Body:
    """The body that these headers announce. Raises SqlError for an encoding that is not known."""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        pieces = _chunks(source)
    else:
        length = headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Disconnected
        pieces = _counted(source, int(length))
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return Body(pieces)
    if encoding not in UNPACKERS:
        raise SqlError(UNKNOWN_COMPRESSION, f"Unknown compression method: {encoding}")
    return Body(_unpacked(pieces, UNPACKERS[encoding]))


def _counted(source: BufferedIOBase, left: int) -> Iterator[bytes]:
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise Disconnected
        left -= len(piece)
        yield piece


def _chunks(source: BufferedIOBase) -> Iterator[bytes]:
    while True:
        line = source.readline(1024)
        # A line that breaks off could read as another number, even as the 0 that ends a body.
        if not (number := re.fullmatch(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n", line)):
            raise Disconnected
        size = int(number[1], 16)
        if size == 0:
            break
        yield from _counted(source, size)
        source.readline(2 + 1)
    while source.readline(65536) not in (b"\r\n", b"\n", b""):
        pass  # trailers


def _unpacked(pieces: Iterator[bytes], begin: Callable[[], Unpacker]) -> Iterator[bytes]:
    """Unpack; clients may send several frames one after the other."""
    unpacker = begin()
    for packed in pieces:
        piece = packed
        while piece:
            if unpacker.eof:
                unpacker = begin()
            try:
                unpacked = unpacker.decompress(piece)
            except Exception as error:  # each library has its own
                raise SqlError(CANNOT_DECOMPRESS, f"Cannot decompress the body: {error}") from None
            yield unpacked
            piece = unpacker.unused_data or b"" if unpacker.eof else b""
    if not unpacker.eof:
        raise SqlError(CANNOT_DECOMPRESS, "Cannot decompress the body: it ends too early")


def form_of(content_type: str, body: Body) -> dict[str, str]:
    """The fields of a multipart form. Raises SqlError for files: external tables are not supported."""
    content = body.head(_LONGEST_FORM + 1)
    if len(content) > _LONGEST_FORM:
        raise SqlError(QUERY_IS_TOO_LARGE, f"A form may have {_LONGEST_FORM} bytes")
    body.skip(len(content))
    head = b"Content-Type: " + content_type.encode() + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        if part.get_filename() is not None:
            raise SqlError(NOT_IMPLEMENTED, "The laptop stack takes no external data")
        name = part.get_param("name", header="content-disposition")
        assert isinstance(part, EmailMessage)
        # As bytes: a part that names no charset is ASCII for the email package, and UTF-8 for ClickHouse's clients.
        value = part.get_payload(decode=True)
        assert isinstance(value, bytes)
        fields[str(name)] = value.decode(errors="replace")
    return fields
