"""The ASGI application: routes made of the table of operations, every answer and every refusal with its headers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from math import ceil

from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from pipeline.errors import Overloaded, Unavailable
from pipeline.gateway.answers import send_answer, send_problem
from pipeline.gateway.endpoints import Endpoint, Exchange, Methods, refuse_keys
from pipeline.gateway.health import Opening
from pipeline.gateway.ids import request_id
from pipeline.gateway.limits import Admission, AuthFailures
from pipeline.gateway.metrics import Metrics
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.parts import Parts, Service
from pipeline.gateway.problems import INVALID_REQUEST, Problem, invalid, too_many, unavailable, unexpected
from pipeline.gateway.request_body import Gone
from pipeline.gateway.request_log import RequestLog

API_VERSION = b"2026-10-28.endive"
"""What an answer says when the request names no version."""
GONE_STATUS = 499
"""In log and metrics: the client went away before it could be answered."""
ONCE = (b"authorization", b"idempotency-key", b"content-type", b"content-encoding", b"stripe-version")
"""Headers that decide, and so have to be told once."""
READ_AGAIN = "What was asked for cannot be read at the moment. Nothing was changed: try again after a pause."

_VERSION = re.compile(rb"\d{4}-\d\d-\d\d(?:\.[a-z_]{1,30})?")


class App:
    """All operations behind one ASGI callable. ``places``: requests at once, as many that append usage and as many
    others. What comes in on ``metrics_port`` is Prometheus, and sees nothing else.
    """

    def __init__(
        self,
        parts: Parts,
        operations: Iterable[Operation],
        places: int,
        log: RequestLog,
        metrics_port: int | None = None,
    ) -> None:
        self.metrics = Metrics()
        self._writing, self._asking = Admission(places), Admission(places)
        self._services = parts.services
        self._journal = parts.journal
        self._log = log
        self._metrics_port = metrics_port
        failures, opening = AuthFailures(), Opening(parts)
        by_path: dict[str, dict[str, Endpoint]] = {}
        for operation in operations:
            room = self._writing if operation.writes else self._asking
            endpoint = Endpoint(operation, parts, room, failures, opening)
            by_path.setdefault(operation.path, {})[operation.method] = endpoint
        # Fixed words before names: /v1/products/search is no product's id.
        paths = sorted(by_path, key=lambda path: [part.startswith("{") for part in path.split("/")])
        routes = [Route(path, Methods(by_path[path])) for path in paths]
        self._router = Router(routes, redirect_slashes=False, default=_no_route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._live(receive, send)
            return
        if scope["server"][1] == self._metrics_port:
            await self._send_metrics(scope, send)
            return
        began_s = time.perf_counter()
        exchange = Exchange(request_id(), dict(scope["headers"]))
        scope["exchange"] = exchange
        status, sent = GONE_STATUS, 0
        try:
            exchange.sent_headers = _common_headers(exchange)
            if len(exchange.headers) != len(scope["headers"]):
                _refuse_doubles(scope["headers"])
            refuse_keys(scope["query_string"])
            await self._router(scope, receive, send)
            answer = exchange.answer
            assert answer is not None, "an endpoint answers or raises"
            status = answer.status
            sent = await send_answer(send, answer, exchange.sent_headers)
        except Gone:
            pass
        except Exception as error:
            problem = error if isinstance(error, Problem) else self._problem_of(error, exchange)
            status = problem.status
            sent = await send_problem(send, problem, _face(scope, exchange), exchange.sent_headers)
        took_s = time.perf_counter() - began_s
        name = exchange.operation.name if exchange.operation else "unrouted"
        self.metrics.answered(name, status, took_s)
        self._log.request(exchange.id, name, exchange.key_id, status, took_s, sent)

    def _problem_of(self, error: Exception, exchange: Exchange) -> Problem:
        """What the client is told of an error that was not meant for it; the rest is for our log."""
        if isinstance(error, Overloaded):
            return too_many("resource-specific", ceil(error.retry_after_s))
        if isinstance(error, Unavailable):
            self._log.say(f"{exchange.id} unavailable: {error}")
            asked = exchange.operation is not None and exchange.operation.method == "GET"
            return unavailable(ceil(error.retry_after_s), READ_AGAIN if asked else None)
        self._log.exception(exchange.id, error)
        return unexpected(exchange.id)

    async def _send_metrics(self, scope: Scope, send: Send) -> None:
        running = self._writing.taken + self._asking.taken
        gauges = {
            "meterline_gateway_requests_running": ("Requests that are being worked on.", {"": float(running)}),
            "meterline_gateway_brokers_ahead_seconds": (
                "How far the brokers' clock is ahead of this machine's, as far as acknowledgements tell.",
                {"": self._journal.clock.ahead_ms / 1000},
            ),
            "meterline_gateway_part_ready": (
                "Whether a part is ready.",
                {f'{{part="{one.name}"}}': float(one.not_ready() is None) for one in self._services},
            ),
        }
        found = scope["path"] == "/metrics"
        text = self.metrics.text(gauges) if found else "Metrics are at /metrics.\n"
        answer = Answer(text.encode(), 200 if found else 404, media_type="text/plain; version=0.0.4; charset=utf-8")
        await send_answer(send, answer, [])

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start the services in order; stop them in reverse."""
        await receive()
        started: list[Service] = []
        try:
            for service in self._services:
                await service.start()
                started.append(service)
        except Exception as error:
            await self._stop(started)
            self._log.say(f"cannot start: {type(error).__name__}: {error}")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop(started)
        await send({"type": "lifespan.shutdown.complete"})

    async def _stop(self, started: list[Service]) -> None:
        for service in reversed(started):
            try:
                await service.stop()
            except Exception as error:
                self._log.exception(f"stopping {service.name}", error)
        self._log.flush()


async def _no_route(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(404, INVALID_REQUEST, "Unrecognized request URL: the paths are listed at /meterline/v1/openapi.json.")


def _refuse_doubles(headers: list[tuple[bytes, bytes]]) -> None:
    """Raises Problem 400 for a header that means something else to whoever takes the first one of its name."""
    names = [name for name, _ in headers]
    for name in ONCE:
        if names.count(name) > 1:
            raise invalid(None, f"The header {name.decode()} is given twice.")


def _face(scope: Scope, exchange: Exchange) -> str:
    if exchange.operation:
        return exchange.operation.face
    return "v2" if scope["path"].startswith("/v2/") else "v1"


def _common_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """What every answer has. Raises Problem 400 for a Stripe-Version that is none."""
    headers = [(b"request-id", exchange.id.encode())]
    exchange.sent_headers = headers
    version = exchange.headers.get(b"stripe-version", API_VERSION)
    if not _VERSION.fullmatch(version):
        raise invalid(None, "Stripe-Version is a date, as in 2026-10-28.endive.")
    headers.append((b"stripe-version", version))
    if said := exchange.headers.get(b"idempotency-key"):
        headers.append((b"idempotency-key", said))
    return headers
