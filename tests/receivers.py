"""An endpoint that webhooks are sent to: a real HTTP server that remembers what came and answers what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST. ``number`` counts from 0."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: bytes


Respond = Callable[[Delivery], int]


class Receiver:
    """Listens on a port of its own inside a ``with``. ``respond`` decides each answer's status; 302 leads to itself."""

    def __init__(self, respond: Respond = lambda delivery: 200) -> None:
        self.deliveries: list[Delivery] = []
        self.respond = respond
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                delivery = Delivery(len(receiver.deliveries), self.path, dict(self.headers.items()), body)
                receiver.deliveries.append(delivery)
                status = receiver.respond(delivery)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/redirected")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
