"""Engine connections that have answered a read and stand ready for the same statement.

What such a connection went through (the examination of the statement, its database, its settings, read-only for ever)
takes as long as the answer to a small question. It serves nothing but that very statement, with other parameters: so
nothing is left behind for a request that is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.local.clickhouse_http import Request

_IDLE_MAX = 32
_LONGEST = 16 << 10
"""Bytes of SQL: longer ones are made by programs, and seldom come again."""


class Statement(NamedTuple):
    """What a connection was made ready for."""

    sql: str
    database: str
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, request: Request) -> Statement:
        return cls(request.sql, request.database, tuple(sorted(request.settings.items())))


class Session:
    """One engine connection. ``ready``: it can execute its statement at once."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.ready = False

    def until_taken(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The chunks of a read; when all have been taken, the connection is ready for the next."""
        yield from chunks
        self.ready = True


class Sessions:
    """Those that are ready and idle, by statement. May be called from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._idle: list[tuple[Statement, Session]] = []
        """The one used last is last."""

    def take(self, statement: Statement) -> Session | None:
        """One that is ready for the statement; it is the caller's from now on."""
        with self._guard:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] == statement:
                    return self._idle.pop(place)[1]
        return None

    def give_back(self, statement: Statement, session: Session) -> None:
        """Keep it if it is ready, close it if not; and the oldest one when there are too many."""
        surplus = [session]
        if session.ready and len(statement.sql) <= _LONGEST:
            with self._guard:
                self._idle.append((statement, session))
                surplus = [self._idle.pop(0)[1]] if len(self._idle) > _IDLE_MAX else []
        for one in surplus:
            one.connection.close()

    def close(self) -> None:
        with self._guard:
            idle, self._idle = self._idle, []
        for _, session in idle:
            session.connection.close()
