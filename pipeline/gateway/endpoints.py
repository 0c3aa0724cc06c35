"""One operation's way from the head of a request to its answer, in one documented order.

1. the method, or 405
2. 503 while the gateway is starting; the key, or 401 (429 when an address fails too often); a place for it, or 429;
   its permission, or 403
3. the body, bounded and decompressed, or 413 and 415; its parameters, or 400
4. the handler: its Answer, or the Problem that it raises

Nothing of a request is done before all of 1 to 3 has passed. A handler that has begun runs to its end, whether its
client is still there or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from pipeline.gateway.calls import Call, Caller
from pipeline.gateway.forms import read_form
from pipeline.gateway.health import Opening
from pipeline.gateway.keys import credential_of
from pipeline.gateway.limits import Admission, AuthFailures
from pipeline.gateway.lists import EXPAND
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.parameters import read
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import INVALID_REQUEST, Problem, forbidden, invalid
from pipeline.gateway.request_body import JSON, check_type, parse_body, read_body

IDEMPOTENCY_KEY_CHARS_MAX = 255
SESSION_EXPIRED = "billing_meter_event_session_expired"
_KEY_IN_QUERY = re.compile(rb"(?:^|[&;])(?:api_?key|key|access_token|token|authorization|secret)=", re.IGNORECASE)
_KEY_ITSELF = re.compile(rb"(?:sk|rk)_(?:live|test)_")
_PREFIX_CHARS = 12


@dataclass(slots=True)
class Exchange:
    """One request on its way. ``headers``: of the request, the last one of each name."""

    id: str
    headers: dict[bytes, bytes]
    operation: Operation | None = None
    key_id: str = "-"
    answer: Answer | None = None
    sent_headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Nobody:
    """Who asks where no key is needed."""

    id = "-"
    livemode = False
    scopes: frozenset[str] = frozenset()


NOBODY = Nobody()


class Methods:
    """All operations of one path, as the ASGI application of its route."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = dict(endpoints)
        self._allowed = ", ".join(sorted(endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["method"])
        if endpoint is None:
            message = f"The method is {self._allowed} for this path."
            raise Problem(405, INVALID_REQUEST, message, headers={"allow": self._allowed})
        await endpoint(scope, receive)


class Endpoint:
    """One operation. ``places``, ``failures`` and ``opening`` are shared by all of a gateway's."""

    def __init__(
        self, operation: Operation, parts: Parts, places: Admission, failures: AuthFailures, opening: Opening
    ) -> None:
        self.operation = operation
        self._opening = opening
        self._parts = parts
        self._places = places
        self._failures = failures
        self._fields = {**operation.fields, **EXPAND} if operation.face == "v1" else operation.fields
        self._typed = operation.face != "v1" and operation.has_body

    async def __call__(self, scope: Scope, receive: Receive) -> None:
        """Puts the answer into the exchange. Raises Problem, or Gone."""
        exchange: Exchange = scope["exchange"]
        operation = exchange.operation = self.operation
        if operation.scope is None:
            caller: Caller = NOBODY
        else:
            self._opening.check()
            caller = self._authenticate(scope, exchange)
            exchange.key_id = caller.id
        holder = caller.id if caller is not NOBODY else "address " + _address(scope)
        self._places.enter(holder)
        try:
            if operation.scope is not None and not operation.allows(caller.scopes):
                raise forbidden(operation.scope.replace("|", " or "))
            call = await self._read(scope, receive, exchange, caller)
            exchange.answer = await operation.handler(self._parts, call)
        finally:
            self._places.leave(holder)

    async def _read(self, scope: Scope, receive: Receive, exchange: Exchange, caller: Caller) -> Call:
        operation, headers = self.operation, exchange.headers
        body = b""
        if operation.has_body:
            body = await read_body(receive, headers)
            if scope["query_string"]:
                raise invalid(None, "Parameters of a POST request belong into its body, not into the query string.")
        elif headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            message = f"Parameters of a {operation.method} request belong into the query string, not into a body."
            raise Problem(400, INVALID_REQUEST, message, headers={"connection": "close"})
        given: dict[str, Any] = {}
        if operation.own_body:
            if body:
                check_type(JSON, headers)
        else:
            raw = parse_body(operation.face, body, headers) if operation.has_body else read_form(scope["query_string"])
            given = read(self._fields, raw, typed=self._typed)
        return Call(
            operation=operation,
            key=caller,
            path=scope.get("path_params") or {},
            given=given,
            body=body,
            idempotency_key=_idempotency_key(headers) if operation.method != "GET" else None,
            request_id=exchange.id,
            now_ms=self._parts.clock(),
            expand=tuple(given.pop("expand", ())) if operation.face == "v1" else (),
            accept=headers.get(b"accept", b"").decode("latin-1"),
        )

    def _authenticate(self, scope: Scope, exchange: Exchange) -> Caller:
        """Who asks. Raises Problem 401, or 429 after too many of them."""
        header = exchange.headers.get(b"authorization")
        authorization = None if header is None else header.decode("latin-1")
        try:
            return (self._parts.tokens if self.operation.session else self._parts.keys).authenticate(authorization)
        except Problem as problem:
            if problem.status != 401 or problem.code == SESSION_EXPIRED:
                raise
            prefix = credential_of(authorization)[:_PREFIX_CHARS]
            if not prefix:
                raise  # who sends no key guesses none
            raise self._failures.failed(_address(scope), prefix, problem) from None


def refuse_keys(query: bytes) -> None:
    """Raises Problem 400 for a query string that holds a key: addresses end up in logs and histories everywhere."""
    if query and (_KEY_IN_QUERY.search(query) or _KEY_ITSELF.search(query)):
        message = "A key never belongs into the address: send it in the Authorization header, and replace this one."
        raise invalid(None, message)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
    said = headers.get(b"idempotency-key")
    if not said:
        return None
    key = said.decode("latin-1")
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
        message = f"Idempotency-Key is ASCII text of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters."
        raise invalid(None, message)
    return key
