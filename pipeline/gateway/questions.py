"""Asking ClickHouse from the gateway: a few threads, each with a connection of its own, and a bounded queue.

ClickHouse's client blocks, so questions run on threads; more of them would only wait inside ClickHouse. Whoever asks
while the queue is full is turned away at once instead of being kept waiting for an answer that comes too late.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import Summary, few_summaries
from pipeline.clickhouse.tables import derived
from pipeline.errors import Refusal, Unavailable
from pipeline.gateway.problems import Problem, too_many, unavailable

if TYPE_CHECKING:
    from pipeline.kafka.topics import Topics

THREADS: Final = 8
WAITING_MAX: Final = 128
ANSWER_TIMEOUT_S: Final = 15
RETRY_AFTER_S: Final = 2

AWAY: Final = "Usage cannot be read just now. Nothing is lost: ask again after the pause that Retry-After says."

T = TypeVar("T")


class Questions:
    """A Service (parts.py). ``live``: the names of the generation that is live, or None while that is not known."""

    name = "questions"

    def __init__(self, server: Server, live: Callable[[], Topics | None]) -> None:
        self._server = server
        self._live = live
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="asks ClickHouse")
        self._own = threading.local()
        self._clients: list[Client] = []
        self._under_way = 0

    async def start(self) -> None:
        """Nothing to do: threads connect when they are first asked, so a gateway starts without ClickHouse."""

    async def stop(self) -> None:
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.close()

    def not_ready(self) -> str | None:
        """Always ready: events are taken without ClickHouse, and questions say themselves that it is away."""
        return None

    async def summaries(self, query: SummaryQuery) -> Sequence[Summary]:
        """The answer to a question that has a bounded number of rows. Raises as ``ask`` does."""
        source = self._source()
        return await self.ask(lambda client: few_summaries(client, query, source))

    async def ask(self, question: Callable[[Client], T]) -> T:
        """Run a question on one of the threads. Raises Problem: 429 when too many wait, 503 when ClickHouse is away."""
        if self._under_way >= THREADS + WAITING_MAX:
            raise too_many("resource-specific", RETRY_AFTER_S)
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, question)
        except (Unavailable, Refusal) as error:
            raise _away() from error
        finally:
            self._under_way -= 1

    def _run(self, question: Callable[[Client], T]) -> T:
        with translated(self._server):
            return question(self._client())

    def _client(self) -> Client:
        client: Client | None = getattr(self._own, "client", None)
        if client is None:
            client = connect(self._server, answer_timeout_s=ANSWER_TIMEOUT_S)
            self._own.client = client
            self._clients.append(client)
        return client

    def _source(self) -> str:
        """Where shards are read: the live generation's table itself, which costs less than the view that shows it."""
        live = self._live()
        return "summary_shards" if live is None else f"{derived('summary_shards', live.generation)} FINAL"


def _away() -> Problem:
    return unavailable(RETRY_AFTER_S, AWAY)
