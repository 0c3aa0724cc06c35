"""A connection to ClickHouse over HTTP, and its errors in our words."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from urllib.parse import urlsplit

import clickhouse_connect
import urllib3
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, Error
from urllib3.exceptions import HTTPError

from pipeline.errors import MeterlineError, Refusal, Unavailable

CONNECT_TIMEOUT_S = 5
ANSWER_TIMEOUT_S = 60
PING_TIMEOUT_S = 2.0

PINNED_SETTINGS = {
    "async_insert": 0,  # an insert is acknowledged when its rows are in the table, not when they are in a buffer
    "max_partitions_per_insert_block": 0,  # a batch may hold usage of any number of months
}
"""Sent with every insert, because a server's own defaults may differ."""

_MISSING_CODES = frozenset({60, 81})
"""UNKNOWN_TABLE, UNKNOWN_DATABASE."""
_OVERLOAD_CODES = frozenset({159, 202, 209, 210, 241, 242, 252, 319, 425, 439})
"""Timeouts, too many queries or parts, memory, read-only replicas, broken connections between servers."""


logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # what fails is raised, and said once


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """Where ClickHouse is and who we are there."""

    url: str
    """http://host:port or https://host:port, with a path behind a proxy."""
    database: str
    """The namespace."""
    user: str = "default"
    password: str = dataclasses.field(default="", repr=False)


class ClickHouseRefused(MeterlineError):
    """ClickHouse understood us and said no."""


def connect(server: Server, *, database: str | None = None, answer_timeout_s: int = ANSWER_TIMEOUT_S) -> Client:
    """A client for one thread at a time, in the namespace's database or another. Raises Unavailable."""
    parts = urlsplit(server.url)
    with translated(server):
        return clickhouse_connect.get_client(
            interface=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 8123),
            proxy_path=parts.path,
            username=server.user,
            password=server.password,
            database=database or server.database,
            connect_timeout=CONNECT_TIMEOUT_S,
            send_receive_timeout=answer_timeout_s,
            autogenerate_session_id=False,
        )


def ping(server: Server) -> None:
    """Raises Unavailable when nothing answers there; asks for nothing, so it needs no password and no table."""
    with translated(server):
        answer = urllib3.request("GET", f"{server.url}/ping", timeout=PING_TIMEOUT_S, retries=False)
        if answer.status != 200:
            raise Unavailable(f"ClickHouse at {server.url} answers with {answer.status}")


@contextlib.contextmanager
def translated(server: Server) -> Iterator[None]:
    """ClickHouse's errors as ours: Unavailable (try again), Refusal (migrate first) or ClickHouseRefused."""
    try:
        yield
    except Error as error:
        if error.code in _MISSING_CODES:
            raise Refusal(
                f"ClickHouse at {server.url} has no tables for namespace {server.database} yet: "
                f"run `meterline clickhouse migrate` ({_said(error)})"
            ) from error
        if error.code is None or error.code in _OVERLOAD_CODES:
            raise Unavailable(f"ClickHouse at {server.url} does not answer: {_said(error)}") from error
        raise ClickHouseRefused(f"ClickHouse: {_said(error)}") from error
    except (ClickHouseError, HTTPError, OSError) as error:
        raise Unavailable(f"ClickHouse at {server.url} does not answer: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """What ClickHouse or the network said, in a line."""
    while not getattr(error, "code", None) and (cause := error.__cause__ or getattr(error, "reason", None)):
        error = cause
    text = getattr(error, "strerror", None) or str(error)
    return (text.splitlines() or [type(error).__name__])[0][:400]
