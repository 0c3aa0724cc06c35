"""One HTTP client of a gateway, and what it makes of an answer: it happened, it did not, or nobody knows."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tests.chaos.ledger import FAIL, INFO, OK

TOKEN_LIVES_S = 600.0
LAST_PER_S = 200.0


class Client:
    """A connection to one gateway, kept open. Belongs to one thread."""

    def __init__(self, port: int, key: str, patience_s: float = 20.0) -> None:
        self._port, self._key, self._patience_s = port, key, patience_s
        self._connection: http.client.HTTPConnection | None = None
        self._token, self._token_at = "", 0.0

    def post(self, path: str, body: Any, *, repeat: str | None = None, form: bool = False) -> str:
        """ok, info or fail. ``repeat``: the Idempotency-Key."""
        status, answer = self._ask(path, body, self._key, repeat, form)
        return _meaning(status, answer)

    def stream(self, events: list[dict[str, Any]]) -> str:
        """The same for a stream, in a session that is begun anew when it must be."""
        if not self._token or time.monotonic() > self._token_at + TOKEN_LIVES_S:
            status, answer = self._ask("/v2/billing/meter_event_session", {}, self._key, None, False)
            if status != 200:
                return FAIL  # of the events, nothing was sent
            self._token, self._token_at = json.loads(answer)["authentication_token"], time.monotonic()
        status, answer = self._ask("/v2/billing/meter_event_stream", {"events": events}, self._token, None, False)
        if status == 401:
            self._token = ""
        return _meaning(status, answer)

    def _ask(self, path: str, body: Any, key: str, repeat: str | None, form: bool) -> tuple[int, bytes]:
        """0: nobody listens there, nothing was sent. -1: it was sent, and no answer came."""
        kind = "application/x-www-form-urlencoded" if form else "application/json"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        if repeat is not None:
            headers["Idempotency-Key"] = repeat
        sent = (urlencode(flat(body)) if form else json.dumps(body)).encode()
        try:
            connection = self._connected()
        except OSError:
            self.close()
            return 0, b""
        try:
            connection.request("POST", path, sent, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return -1, b""

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._patience_s)
        if self._connection.sock is None:
            self._connection.connect()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None


def _meaning(status: int, answer: bytes) -> str:
    if status == 200:
        return OK
    if status == 400 and b"already exists" in answer:
        return OK  # an earlier attempt of ours got through
    assert status != 400, f"the gateway finds fault with what is sent: {answer[:300]!r}"
    return FAIL if status in (0, 401, 429) else INFO


def flat(body: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """As a form says it: ``payload[value]``."""
    found: dict[str, str] = {}
    for name, part in body.items():
        whole = f"{above}[{name}]" if above else name
        if isinstance(part, Mapping):
            found |= flat(part, whole)
        else:
            found[whole] = str(part)
    return found


class Pace:
    """So many a second for all who ask, together."""

    def __init__(self, per_s: float) -> None:
        self.per_s = per_s
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def turn(self, count: int, over: threading.Event) -> None:
        """Return when so many may be sent, or when it is over."""
        with self._lock:
            # What could not be sent for a while is made up for, but not all at once.
            begin = max(self._next, time.monotonic() - 5.0)
            self._next = begin + count / self.per_s
        over.wait(max(0.0, begin - time.monotonic()))

    def slow_down(self) -> None:
        """From now on, only as many as keep everything moving."""
        self.per_s = min(self.per_s, LAST_PER_S)
