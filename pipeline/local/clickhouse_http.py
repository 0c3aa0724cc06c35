"""ClickHouse's HTTP interface, as far as its clients use it; what executes a statement is passed in.

A thread per connection: the engine's calls block. User and password are taken and not looked at, since only this
machine can connect; a page in a browser here is turned away by its Origin and Host headers.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import secrets
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from pipeline.local import statement
from pipeline.local.clickhouse_body import Body, Disconnected, body_of, form_of
from pipeline.local.encodings import PACKERS, chosen
from pipeline.local.statement import LONGEST_STATEMENT, QUERY_IS_TOO_LARGE, STD_EXCEPTION, SqlError

# Parameters of a request that are about the request; every other one is a setting of the engine.
_NOT_SETTINGS = re.compile(
    "database|default_format|query|query_id|session_.*|close_session|user|password|quota_key|compress|decompress|"
    "wait_end_of_query|buffer_size|client_protocol_version|role|stacktrace|enable_http_compression|"
    "send_progress_in_http_headers|http_headers_progress_interval_ms|param_.*"
)
_STATUS = {
    400: (6, 26, 27, 36, 38, 41, 43, 53, 62, 69, 70, 72, 89, 130, 131, 179, 386, 456, 457),
    403: (164, 192, 193, 497, 516),
    404: (1, 16, 46, 47, 50, 56, 60, 63, 73, 81, 115),
    408: (159,),
    413: (QUERY_IS_TOO_LARGE,),
    501: (48,),
    503: (202,),
}
_STATUS_OF = {code: status for status, codes in _STATUS.items() for code in codes}
LOOPBACK = "127.0.0.1"
_LOOPBACK = re.compile(r"^(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$")


@dataclass(frozen=True, slots=True)
class Request:
    """One statement and how it is to be executed.

    ``rows`` are those of an INSERT, in ``input_format``; ``sql`` then ends before its FORMAT clause. ``readonly`` is
    what the HTTP method implies; with ``whole``, nothing is sent before the result is complete.
    """

    sql: str
    rows: Body | None
    input_format: str
    output_format: str
    database: str
    settings: dict[str, str]
    parameters: dict[str, str]
    readonly: bool
    whole: bool


class Answer(NamedTuple):
    """What a statement gave: the format of its chunks, the counts known beforehand, and the chunks."""

    format: str
    summary: dict[str, str]
    chunks: Iterator[bytes]


Run = Callable[[Request], AbstractContextManager[Answer]]


def display_name(directory: Path) -> str:
    """What the endpoint of a data directory calls itself, in a header of every answer."""
    return f"meterline-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"


class Endpoint(ThreadingHTTPServer):
    """The server. ``run`` executes a request and raises SqlError; ``version`` is the engine's.

    On 127.0.0.1, unless ``address`` is another: then whoever can connect is served, since nobody is asked who it is.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, run: Run, version: str, name: str, address: str = LOOPBACK) -> None:
        self.run = run
        self.only_here = address == LOOPBACK
        self.name = name
        self.version = version
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__((address, port), Exchange)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a request as running."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def finish(self, timeout_s: float = 8.0) -> None:
        """Wait until the requests that are running have been answered."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout_s)


class Exchange(BaseHTTPRequestHandler):
    """One connection: a request, its answer, the next request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 3600.0  # of an idle connection: clients that keep one open meet no race with its end

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path in ("/ping", "/replicas_status") or (url.path == "/" and "query=" not in url.query):
            self._reply(200, [], b"Ok.\n")
        else:
            self._execute(readonly=True)

    def do_HEAD(self) -> None:
        self._reply(200, [], b"")

    def do_POST(self) -> None:
        self._execute(readonly=False)

    def version_string(self) -> str:
        return "ClickHouse (chDB)"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are not logged: they are many, and hold what users asked."""

    @property
    def _endpoint(self) -> Endpoint:
        return cast(Endpoint, self.server)

    def _execute(self, readonly: bool) -> None:
        body: Body | None = None
        with self._endpoint.busy():
            try:
                self._turn_strangers_away()
                body = body_of(self.headers, self.rfile)
                request, packed = self._understand(body, readonly)
                with self._endpoint.run(request) as answer:
                    self._answer(answer, packed)
                # What the engine did not take of a body would be read as the next request.
                body.discard()
            except SqlError as error:
                self._complain(error, body)
            except (Disconnected, ConnectionError, TimeoutError):
                self.close_connection = True
            except Exception as error:
                traceback.print_exc()
                self._complain(SqlError(STD_EXCEPTION, f"{type(error).__name__}: {error}"), body)

    def _turn_strangers_away(self) -> None:
        """A page from elsewhere can make a browser on this machine send requests here; it must not get anywhere."""
        if not self._endpoint.only_here:
            return
        origin = self.headers.get("Origin")
        if not _LOOPBACK.match(self.headers.get("Host", "localhost")) or (
            origin is not None and not _LOOPBACK.match(urlsplit(origin).netloc)
        ):
            raise SqlError(516, "Authentication failed: only this machine is served, and no page from elsewhere")

    def _understand(self, body: Body, readonly: bool) -> tuple[Request, str | None]:
        """The request, and the encoding of its answer."""
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            fields |= form_of(kind, body)
        if fields.get("query"):
            body.put_back(fields["query"].encode() + (b"\n" if body.head(1) else b""))
        head = body.head(LONGEST_STATEMENT + 1)
        rows = statement.rows_of_insert(head)
        if rows is not None and rows.format == "Values" and len(head) <= LONGEST_STATEMENT:
            rows = None
        if rows is not None:
            sql, input_format = rows.statement, rows.format
            body.skip(rows.offset)
        else:
            if len(head) > LONGEST_STATEMENT:
                raise SqlError(QUERY_IS_TOO_LARGE, f"Max query size exceeded ({LONGEST_STATEMENT} bytes)")
            sql, input_format = head.decode(errors="replace"), ""
            body.skip(len(head))
        own_format = statement.format_of(sql) if rows is None else None
        default = self.headers.get("X-ClickHouse-Format") or fields.get("default_format") or "TabSeparated"
        request = Request(
            sql=sql,
            rows=body if rows is not None else None,
            input_format=input_format,
            output_format=own_format or default,
            database=self.headers.get("X-ClickHouse-Database") or fields.get("database", ""),
            settings={name: value for name, value in fields.items() if not _NOT_SETTINGS.fullmatch(name)},
            parameters={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
            readonly=readonly,
            whole=fields.get("wait_end_of_query") in ("1", "true"),
        )
        compressed = fields.get("enable_http_compression") in ("1", "true")
        packed = chosen(self.headers.get("Accept-Encoding", "")) if compressed else None
        return request, packed

    def _answer(self, answer: Answer, packed: str | None) -> None:
        fields = dict(parse_qsl(urlsplit(self.path).query))
        tag = secrets.token_hex(8)
        headers = [
            (
                "Content-Type",
                "text/plain; charset=UTF-8" if answer.format.startswith("Tab") else "application/octet-stream",
            ),
            ("X-ClickHouse-Format", answer.format),
            ("X-ClickHouse-Query-Id", fields.get("query_id") or str(uuid.uuid4())),
            ("X-ClickHouse-Timezone", "UTC"),
            ("X-ClickHouse-Exception-Tag", tag),
        ]
        if answer.summary:
            headers.append(("X-ClickHouse-Summary", json.dumps(answer.summary)))
        chunks = answer.chunks
        if packed:
            headers.append(("Content-Encoding", packed))
            chunks = _packed(chunks, packed)
        first, second = next(chunks, b""), next(chunks, None)
        if second is None:
            self._reply(200, headers, first)
        else:
            self._send_chunks(headers, itertools.chain((first, second), chunks), tag)

    def _send_chunks(self, headers: list[tuple[str, str]], chunks: Iterator[bytes], tag: str) -> None:
        self._head(200, [*headers, ("Transfer-Encoding", "chunked")])
        try:
            for chunk in chunks:
                if chunk:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except SqlError as error:
            # The status is sent long since. ClickHouse puts the error at the end of the body, between marks, and
            # breaks off without the last chunk, so that no client takes the result for whole.
            text = self._text(error)
            mark = f"\r\n__exception__\r\n{tag}\r\n{text}\n{len(text.encode())} {tag}\r\n__exception__\r\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(mark), mark))
            self.close_connection = True
        self.wfile.flush()

    def _complain(self, error: SqlError, body: Body | None) -> None:
        try:
            # A client that is still sending does not listen; and its next request must start at a border.
            if body is not None:
                body.discard()
            else:
                self.close_connection = True
            headers = [("X-ClickHouse-Exception-Code", str(error.code)), ("Content-Type", "text/plain; charset=UTF-8")]
            self._reply(_STATUS_OF.get(error.code, 500), headers, (self._text(error) + "\n").encode())
        except (Disconnected, ConnectionError, TimeoutError, SqlError):
            self.close_connection = True

    def _text(self, error: SqlError) -> str:
        return f"Code: {error.code}. DB::Exception: {error} (version {self._endpoint.version} (chDB))"

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self._head(status, [*headers, ("Content-Length", str(len(content)))])
        self.wfile.write(content)
        self.wfile.flush()

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        self.send_header("X-ClickHouse-Server-Display-Name", self._endpoint.name)
        for name, value in headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _packed(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    packer = PACKERS[encoding]()
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
