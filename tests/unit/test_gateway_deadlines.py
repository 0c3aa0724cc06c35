"""H3: how long a slow client may take, by a clock that the test moves; no test waits for it."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from pipeline.gateway import server
from pipeline.gateway.server import BoundedProtocol

HEAD_S, BODY_S = 10, 30
"""What the handbook promises: to the end of the head, and from there to the end of the body."""
LOOK_S = server.LOOK_EVERY_TICKS * 0.1
HEAD = b"POST /v1/billing/meter_events HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


class Wire(asyncio.Transport):
    """The client's end: what was written to it, and whether it was closed."""

    def __init__(self, own: socket.socket) -> None:
        super().__init__({"socket": own})
        self.written = b""
        self.ended = self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing to pause."""

    def resume_reading(self) -> None:
        """Nothing to resume."""


class Task:
    """Of a request that is never worked on."""

    def add_done_callback(self, *_: Any) -> None:
        """It is never done."""


class Clock:
    """An event loop, as far as a connection asks it for anything; ``now_s`` is the test's to move."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def time(self) -> float:
        return self.now_s

    def create_task(self, coroutine: Any, **_: Any) -> Any:
        coroutine.close()  # what an app would do with the request is of no interest
        return Task()

    def call_later(self, *_: Any) -> Any:
        raise AssertionError("nothing is finished here")


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never run."""


class Client:
    """One connection to a gateway, which is looked at as its server does."""

    def __init__(self, own: socket.socket) -> None:
        self.clock, self.wire = Clock(), Wire(own)
        config = uvicorn.Config(nothing, http=BoundedProtocol, ws="none", log_config=None)
        self.connection = BoundedProtocol(config, ServerState(), {}, self.clock)  # type: ignore[arg-type]
        self.connection.connection_made(self.wire)

    def says(self, data: bytes) -> None:
        if data:
            self.connection.data_received(data)

    def refused_after_s(self, saying: bytes = b"", at_most_s: float = 120) -> float:
        """How long it may go on, saying so little at each look; infinite if it is not refused at all."""
        began = self.clock.now_s
        while not self.wire.ended and self.clock.now_s < began + at_most_s:
            self.says(saying)
            self.look()
        return self.clock.now_s - began if self.wire.ended else math.inf

    def look(self) -> None:
        self.clock.now_s += LOOK_S
        self.connection.overdue(self.clock.now_s)


@pytest.fixture
def client() -> Iterator[Client]:
    with socket.socket() as own:
        yield Client(own)


@pytest.mark.parametrize(("begun", "then"), [(b"", b""), (b"GET /", b""), (b"GET / HTTP/1.1\r\nA: ", b"a")])
def test_h3_a_head_has_ten_seconds_whether_it_drips_or_not(client: Client, begun: bytes, then: bytes) -> None:
    assert server.HEAD_WITHIN_S + LOOK_S <= HEAD_S, "also if its time is up just after a look"
    client.says(begun)
    assert HEAD_S / 2 < client.refused_after_s(then) <= HEAD_S
    assert client.wire.written.startswith(b"HTTP/1.1 408 ")
    for _ in range(int(server.LINGER_S / LOOK_S) + 1):
        assert not client.wire.closed
        client.look()
    assert client.wire.closed, "who was refused does not keep the connection"


@pytest.mark.parametrize("then", [b"", b"1"])
def test_h3_a_body_has_half_a_minute_whether_it_drips_or_not(client: Client, then: bytes) -> None:
    client.says(HEAD.replace(b": 5", b": 500000"))
    assert HEAD_S < client.refused_after_s(then) <= BODY_S + LOOK_S
    assert client.wire.written.startswith(b"HTTP/1.1 408 ")


def test_h3_the_head_of_a_later_request_has_no_more_time(client: Client) -> None:
    """On a connection that is kept it begins with the first byte."""
    client.says(HEAD + b"hello")
    assert client.refused_after_s() == math.inf, "the gateway is at work on it, and nobody is late"
    client.connection.cycle.response_complete = True
    client.says(b"GET")
    assert client.refused_after_s() <= HEAD_S


def test_h3_a_kept_connection_without_a_request_is_gone_in_ten_seconds() -> None:
    assert 0 < server.IDLE_S <= HEAD_S
