"""Asking ClickHouse from the gateway: a few threads, each with a connection of its own, and a bounded queue.

ClickHouse's client blocks, so questions run on threads; more of them would only wait inside ClickHouse. Whoever asks
while the queue is full is turned away at once instead of being kept waiting for an answer that comes too late.

A change of generations is written down first, and shown by the views when the new tables say all that the former ones
can say (replay/rebuild.py). So a table is read past its view only while the view is known to show it.
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
from pipeline.clickhouse.generations import shown
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
LOOK_EVERY_S: Final = 1.0

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
        self._shown: set[int | None] = set()
        """The generations that the views showed at the last look; none when that failed."""
        self._task: asyncio.Task[None] | None = None

    @property
    def topics(self) -> Topics | None:
        """The names of the generation that is live and shown; None during a switch, and while that is not known."""
        live = self._live()
        return live if live is not None and self._shown == {live.generation} else None

    async def start(self) -> None:
        """Waits for nothing: threads connect when they are first asked, so a gateway starts without ClickHouse."""
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="looks what the views show")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
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

    async def _follow(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        """On one of the threads too; it is never turned away."""
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, self._run, shown)
        except Exception:
            found = {}  # whoever asks now is told what is the matter
        self._shown = set(found.values())

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
        """Where shards are read: the table itself, which costs less than the view that shows it."""
        now = self.topics
        return "summary_shards" if now is None else f"{derived('summary_shards', now.generation)} FINAL"


def _away() -> Problem:
    return unavailable(RETRY_AFTER_S, AWAY)
