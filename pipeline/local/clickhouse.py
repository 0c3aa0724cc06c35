"""The real ClickHouse engine (chDB) in a process of its own, behind ClickHouse's HTTP interface.

``python -m pipeline.local.clickhouse --data DIR --port PORT``. One process owns the directory. Every request has an
engine connection of its own, so that nothing is left behind by one request for the next, and requests run side by
side; that of a read serves the same statement again (clickhouse_sessions.py). The engine acknowledges an insert when
its part is renamed into place: kill -9 loses nothing that was acknowledged.

Confined in layers: the engine's own access control (infra/chdb/users.xml), a read-only session for every statement
that its parser calls a read, and ``pipeline.local.statement`` for what is left.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import chdb

from pipeline.local import formats, statement
from pipeline.local.clickhouse_body import Body
from pipeline.local.clickhouse_http import LOOPBACK, Answer, Endpoint, Request, display_name
from pipeline.local.clickhouse_sessions import Session, Sessions, Statement
from pipeline.local.lock import InUse, Lock
from pipeline.local.resources import infra
from pipeline.local.results import held, pieces
from pipeline.local.statement import (
    ACCESS_DENIED,
    READONLY,
    STD_EXCEPTION,
    SYNTAX_ERROR,
    TOO_MANY_QUERIES,
    UNKNOWN_SETTING,
    SqlError,
)

_AT_ONCE = 16
_WAIT_FOR_TURN_S = 60.0
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")
_ERROR = re.compile(r"Code: (\d+)\. (?:DB::\w*Exception: )?(.*)", re.DOTALL)
_VERSION = re.compile(r"\s*\(version [^)]*(?:\([^)]*\))?\)\s*$")
_LITERALS_ONLY = {
    "input_format_values_interpret_expressions": "0",
    "input_format_values_deduce_templates_of_expressions": "0",
}


class Engine:
    """The one chDB engine of this process, on ``directory``. Its methods may be called from any thread."""

    def __init__(self, directory: Path) -> None:
        """Open the directory, making it if need be. Raises InUse when another process has it open."""
        self._lock = Lock(directory / "owner", str(directory))
        self._results = directory / "results"
        shutil.rmtree(self._results, ignore_errors=True)
        self._results.mkdir()
        # The configuration names users.xml relative to the working directory.
        os.chdir(infra("chdb"))
        self._address = f"{directory}?config-file={infra('chdb', 'config.xml')}"
        self._kept_open = self._connect()
        self._sessions = Sessions()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        version = self._kept_open.query("SELECT version()", "TabSeparated").bytes()
        self.version = str(version.decode().strip())

    def close(self) -> None:
        self._sessions.close()
        self._kept_open.close()
        self._lock.release()

    @contextlib.contextmanager
    def run(self, request: Request) -> Iterator[Answer]:
        """Execute one statement. The answer's chunks must be taken before the context ends.

        Raises SqlError, here or while the chunks are taken; ConnectionError when the client's data break off.
        """
        if not self._turns.acquire(timeout=_WAIT_FOR_TURN_S):
            raise SqlError(TOO_MANY_QUERIES, f"Too many simultaneous queries: {_AT_ONCE} for a whole minute")
        try:
            asked = Statement.of(request)
            session = self._sessions.take(asked) or Session(self._connect())
            try:
                with _engine_errors():
                    yield self._answer(session, request)
            finally:
                self._sessions.give_back(asked, session)
        finally:
            self._turns.release()

    def _connect(self) -> Any:
        try:
            connect: Callable[[str], Any] = chdb.connect  # typed in some of its releases
            return connect(self._address)
        except RuntimeError as error:
            raise sql_error(str(error)) from None

    def _answer(self, session: Session, request: Request) -> Answer:
        connection, ready = session.connection, session.ready
        session.ready = False
        if not ready:
            kind = _examine(connection, request)
            if kind == "nothing":
                return Answer("TabSeparated", {}, iter(()))
            if kind == "write" and request.readonly:
                raise SqlError(READONLY, "Cannot execute query in readonly mode: GET implies it, use POST to modify")
            _prepare(connection, request, kind)
            if request.rows is not None:
                return _insert(connection, request, request.rows)
            if kind == "write":
                return _write(connection, request)
        streamed = request.output_format.lower() in formats.STREAMED and _selects(request.sql)
        answer = _stream(connection, request) if streamed else self._result_in_file(connection, request)
        if streamed and request.whole:
            answer = answer._replace(chunks=held(answer.chunks, self._results))
        return answer._replace(chunks=session.until_taken(answer.chunks))

    def _result_in_file(self, connection: Any, request: Request) -> Answer:
        """A result that cannot be sent as it comes: the engine writes it to a file, so that memory stays small."""
        path = self._results / uuid.uuid4().hex
        try:
            sql = statement.into_file(request.sql, request.output_format, str(path))
            result = connection.query(sql, "Null", params=request.parameters)
            # Without a name, the file goes when its chunks have been read or forgotten.
            file = path.open("rb")
        finally:
            path.unlink(missing_ok=True)
        read = {"read_rows": str(result.storage_rows_read()), "read_bytes": str(result.storage_bytes_read())}
        if path_is_empty := not os.fstat(file.fileno()).st_size:
            file.close()
        chunks = iter((_no_rows(connection, request),)) if path_is_empty else pieces(file)
        return Answer(request.output_format, read, chunks)


def _selects(sql: str) -> bool:
    """Whether this is a query that chDB can stream; it cannot stream SHOW, DESCRIBE and the like."""
    return statement.first_of(sql) in ("SELECT", "WITH", "FROM", "(")


def _examine(connection: Any, request: Request) -> str:
    """What a statement is: ``read``, ``write`` or ``nothing``. Raises SqlError when it is not allowed here."""
    # Without its rows, an INSERT is a statement for the parser only with its FORMAT clause.
    sql = request.sql if request.rows is None else f"{request.sql} FORMAT {request.input_format}"
    found = connection._conn.classify_query(sql)  # noqa: SLF001 - chDB's own wrapper does not pass it on
    kind = found["query_class"].name
    first = statement.first_of(sql)
    if kind == "UNKNOWN":
        # EXPLAIN AST parses and runs nothing: its error is the parser's, in ClickHouse's own words.
        connection.query(f"EXPLAIN AST {sql}", "Null")
        raise SqlError(SYNTAX_ERROR, f"Syntax error: {first} could not be classified")
    if found["statement_count"] != 1:
        raise SqlError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")
    if first in ("SET", "USE"):
        # There are no sessions, so neither would have an effect on anything.
        return "nothing"
    if kind not in ("READ_ONLY", "MUTATING"):
        raise SqlError(ACCESS_DENIED, f"Not enough privileges: the laptop stack does not allow {first}")
    refused = statement.refusal(sql) if kind == "MUTATING" else None
    if refused is None and statement.suspicious(sql):
        tree = connection.query(f"EXPLAIN AST {sql}", "TabSeparatedRaw").bytes().decode(errors="replace")
        reaching = statement.functions_in(tree) & statement.REACHING_OUT
        refused = f"the function {min(reaching)} reaches outside of the database" if reaching else None
    if refused is not None:
        raise SqlError(ACCESS_DENIED, f"Not enough privileges: {refused}, which the laptop stack does not allow")
    return "read" if kind == "READ_ONLY" else "write"


def _prepare(connection: Any, request: Request, kind: str) -> None:
    """Database and settings."""
    if request.database:
        connection.query(f"USE {_quoted(request.database, '`')}")
    settings = dict(request.settings)
    if kind == "read":
        # Last, since nothing more can be set afterwards. 2 still lets a query have its own SETTINGS clause.
        settings["readonly"] = "1" if settings.pop("readonly", "") == "1" else "2"
    elif request.input_format == "Values" or (statement.has_values(request.sql) and statement.suspicious(request.sql)):
        settings |= _LITERALS_ONLY
    _set(connection, settings)


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def _set(connection: Any, settings: Mapping[str, str]) -> None:
    pairs = []
    for name, value in settings.items():
        if not _NAME.match(name):
            raise SqlError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
        pairs.append(f"{name} = {_quoted(value, chr(39))}")
    if pairs:
        connection.query("SET " + ", ".join(pairs))


def _insert(connection: Any, request: Request, rows: Body) -> Answer:
    # Leaving the block without finish(), as when the client breaks off, takes the insert back.
    with connection.send_insert(request.sql, request.input_format) as inserter:
        while chunk := rows.read():
            inserter.append(chunk)
        result = inserter.finish()
    summary = {"written_rows": str(result.rows_written), "written_bytes": str(result.bytes_written)}
    return Answer("TabSeparated", summary, iter(()))


def _write(connection: Any, request: Request) -> Answer:
    result = connection.query(request.sql, "TabSeparated", params=request.parameters)
    summary = {"written_rows": str(result.rows_written()), "written_bytes": str(result.bytes_written())}
    return Answer("TabSeparated", summary, iter(()))


def _stream(connection: Any, request: Request) -> Answer:
    """Results block by block. The first is taken at once, so that an early error can still be an HTTP error."""
    stream = connection.send_query(request.sql, request.output_format, params=request.parameters)
    blocks = (block.bytes() for block in stream)
    first = next(blocks, None)
    if first is None:
        return Answer(request.output_format, {}, iter((_no_rows(connection, request),)))
    return Answer(request.output_format, {}, _with_sql_errors(itertools.chain((first,), blocks)))


def _with_sql_errors(chunks: Iterator[bytes]) -> Iterator[bytes]:
    with _engine_errors():
        yield from chunks


def _no_rows(connection: Any, request: Request) -> bytes:
    """A result without rows: chDB writes nothing in Native, but clients want a block that has the columns."""
    if request.output_format.lower() != "native":
        return b""
    sql = statement.with_format(request.sql, "RowBinaryWithNamesAndTypes")
    head = connection.query(sql, "RowBinaryWithNamesAndTypes", params=request.parameters).bytes()
    return formats.native_head(head) if head else b""


@contextlib.contextmanager
def _engine_errors() -> Iterator[None]:
    """Turn the errors of chDB (RuntimeError with ClickHouse's text in it) into SqlError."""
    try:
        yield
    except RuntimeError as error:
        raise sql_error(str(error)) from None


def sql_error(text: str) -> SqlError:
    """Read ClickHouse's code and text out of an error of chDB."""
    match = _ERROR.search(text)
    return SqlError(int(match[1]), _VERSION.sub("", match[2])) if match else SqlError(STD_EXCEPTION, text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.local.clickhouse", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the directory that this process will own")
    parser.add_argument("--port", type=int, required=True, help="port on that address")
    parser.add_argument(
        "--listen",
        default=LOOPBACK,
        help="address; any but the default serves everybody who can connect: for containers",
    )
    arguments = parser.parse_args()
    try:
        directory = arguments.data.absolute()
        engine = Engine(directory)
        endpoint = Endpoint(arguments.port, engine.run, engine.version, display_name(directory), arguments.listen)
    except (InUse, SqlError) as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{arguments.listen}:{arguments.port}: {error.strerror}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    stop.wait()
    endpoint.shutdown()
    endpoint.finish()
    engine.close()
    return 0


def _failed(why: str) -> int:
    sys.stderr.write(f"clickhouse: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
