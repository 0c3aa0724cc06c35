"""The HTTP server: uvicorn with httptools, and what both leave open.

httptools refuses most of what two parsers could understand differently (Content-Length with Transfer-Encoding or twice,
bare line feeds, folded headers). Refused here: other transfer codings than chunked, chunked in HTTP/1.0, a head without
exactly one Host, HTTP before 1.0. Added here: deadlines for head and body, bounds for the head and for the bytes of a
request as they come over the wire, a bound for connections below the process's limit of open files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.gateway.answers import encode
from pipeline.gateway.ids import request_id
from pipeline.gateway.problems import INVALID_REQUEST, Problem, invalid, unavailable

HEAD_WITHIN_S = 9.0
"""From the connection, or from the first byte behind a finished request, to the end of the head."""
BODY_WITHIN_S = 30.0
LINGER_S = 1.0
"""A refused connection is read on for so long, so that no reset overtakes the answer (RFC 9112, 9.6)."""
IDLE_S = 9
"""How long a connection may be kept without a request. Looks are half a second apart, so all is closed within ten."""
LOOK_EVERY_TICKS = 5
"""uvicorn ticks ten times a second."""
HEAD_BYTES_MAX = 16 * 1024
WIRE_BYTES_MAX = 8 * 1024 * 1024
"""Of one request as it comes: a body of the greatest size in chunks of one byte. More is no body but an attack."""
STOP_WITHIN_S = 7
GONE_WITHIN_S = 9.5
"""Whatever hangs then is left behind: what was acknowledged is durable, and who has no answer asks again."""
SPARE_FILES = 16
"""Open files kept back from connections: sockets to brokers come and go."""
CONNECTIONS_MAX = 10_000

_log = logging.getLogger(__name__)
_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class _Refused(Exception):  # httptools stops at any exception of a callback
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``overdue`` is asked every half second by the server."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._problem: Problem | None = None
        self.url = b""
        self._in_head = True
        self._lingers = False
        self._head_bytes = self._wire_bytes = 0
        self._deadline_s = self.loop.time() + HEAD_WITHIN_S
        if len(self.connections) > CONNECTIONS_MAX or _hardly_fits(transport):
            self._refuse(unavailable(1, "Too many connections are open. Nothing was done: try again in a moment."))
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._problem is not None:
            self._wire_bytes += len(data)
            if self._lingers and self._wire_bytes > WIRE_BYTES_MAX:
                self.transport.close()
            return
        if self._deadline_s == math.inf and (self.cycle is None or self.cycle.response_complete):
            self._deadline_s = self.loop.time() + HEAD_WITHIN_S
        self._wire_bytes += len(data)
        super().data_received(data)
        if self._problem is None and self._wire_bytes > (HEAD_BYTES_MAX if self._in_head else WIRE_BYTES_MAX):
            self._refuse(_head_too_large() if self._in_head else invalid(None, "The request has too many bytes."))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)  # first, so that the refusal knows whose envelope it needs
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        # Also called for trailers, which nobody reads: they count all the same.
        self._count_head(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._check_head()
        self._deadline_s = self.loop.time() + BODY_WITHIN_S
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # Nothing is upgraded to; what follows is nobody's.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._deadline_s = math.inf
        self._in_head = True
        self._wire_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for whatever its parser refuses."""
        self._refuse(self._problem or invalid(None, "This is not HTTP/1.1 as it should be."))

    def eof_received(self) -> None:
        self.transport.close()

    def overdue(self, now_s: float) -> None:
        """Close the connection when its head or its body takes too long, or when it was refused a while ago."""
        if now_s <= self._deadline_s or self.transport.is_closing():
            return
        if self._lingers:
            self.transport.close()
        else:
            self._refuse(Problem(408, INVALID_REQUEST, "The request did not come within its time."))

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > HEAD_BYTES_MAX:
            self._problem = _head_too_large()
            raise _Refused(self._problem)

    def _check_head(self) -> None:
        hosts = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings += 1 if value.strip().lower() == b"chunked" else 2
        version = self.parser.get_http_version()
        said = None
        if version not in ("1.0", "1.1"):
            said = "The version is HTTP/1.1."
        elif codings > (1 if version == "1.1" else 0):
            said = "Transfer-Encoding is chunked, in HTTP/1.1, or not given."
        elif hosts != 1 and (version == "1.1" or hosts):
            said = "A request has exactly one Host."
        if said is not None:
            self._problem = invalid(None, said)
            raise _Refused(self._problem)

    def _refuse(self, problem: Problem) -> None:
        """Answer, if that is still possible, and close."""
        self._problem = problem
        cycle = self.cycle
        under_way = cycle is not None and not cycle.response_complete
        if under_way and self._in_head:
            # A request that stands behind another one: that one is still answered, and is the last.
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        answered = cycle is not None and cycle.response_started and not self._in_head
        if not answered and not self.transport.is_closing():
            self.transport.write(_rendered(problem, "v2" if self.url.startswith(b"/v2/") else "v1"))
        if under_way:
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
        self._linger()

    def _linger(self) -> None:
        """Say no more, and let what is on its way come to nothing."""
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._lingers = True
        self._deadline_s = self.loop.time() + LINGER_S


def _head_too_large() -> Problem:
    return Problem(431, INVALID_REQUEST, f"The request's head is larger than {HEAD_BYTES_MAX} bytes.")


def _rendered(problem: Problem, face: str) -> bytes:
    body = encode(problem.body(face))
    lines = [f"HTTP/1.1 {problem.status} {_REASONS[problem.status]}", f"request-id: {request_id()}"]
    lines += [f"{name}: {text}" for name, text in (problem.headers or {}).items()]
    lines += ["content-type: application/json", f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Server(uvicorn.Server):
    """uvicorn's server, which also looks at every connection's deadline. A signal ends it with exit code 0.

    ``on_listening`` is called when clients are accepted.
    """

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            last = threading.Timer(GONE_WITHIN_S, os._exit, (0,))
            last.daemon = True
            last.start()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK_EVERY_TICKS == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.overdue(now_s)
        return await super().on_tick(counter)


def serve(app: Callable[..., Any], sockets: list[socket.socket], on_listening: Callable[[], None]) -> int:
    """Serve ``app`` on sockets that are bound, until SIGTERM or SIGINT: then finish what runs, and return 0.

    1 when the app could not start.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody can write X-Forwarded-For
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        backlog=2048,
    )
    server = Server(config, on_listening)
    # Modules stay for ever: looking for garbage among them holds all requests up, for 20 ms each time.
    gc.freeze()
    # uvicorn raises the signals that it has heard once more when it has stopped: so that they end nothing then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    try:
        server.run(sockets=sockets)
    except SystemExit:
        return 1
    return 0 if server.started else 1


def bound(host: str, port: int) -> socket.socket:
    """A listening address. Raises OSError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _hardly_fits(transport: asyncio.Transport) -> bool:
    """Whether this connection is one of the last open files that the process may have. A new one has the lowest free
    number, so its own number tells how many there are.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    number: int = transport.get_extra_info("socket").fileno()
    return number >= most - SPARE_FILES
