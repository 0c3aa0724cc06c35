"""One topic on its way into ClickHouse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from typing import Any

import pyarrow as pa

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.inserting import Inserter
from pipeline.errors import MeterlineError
from pipeline.kafka.producer import Publisher
from pipeline.sink.tabulation import Tabulate, Tabulated
from pipeline.stream.app import end_process
from pipeline.stream.batch import RecordBatch, joined

log = logging.getLogger("meterline.sink")

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0
SAY_AGAIN_S = 60.0
PUBLISH_TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class FeedLimits:
    """When a feed inserts."""

    every_ms: int
    rows: int


class Feed:
    """Gathers batches of a topic, inserts their rows, and acknowledges them, in this order, for ever.

    Holds at most twice ``limits.rows`` records and one batch; beyond that the agent waits.
    """

    def __init__(
        self,
        topic: str,
        tabulate: Tabulate,
        limits: FeedLimits,
        server: Server,
        publisher: Publisher,
        dead_letters: str | None,
    ) -> None:
        """``dead_letters``: the topic for records that nobody can read; None when another process keeps them."""
        self.topic = topic
        self.limits = limits
        self._tabulate = tabulate
        self._inserter = Inserter(server)
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._held: list[Any] = []
        self._records = 0
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def gather(self, stream: Any) -> None:
        """The agent."""
        try:
            async for event in stream.noack().events():
                await self._room.wait()
                self._held.append(event)
                self._records += len(event.value)
                self._some.set()
                if self._records >= self.limits.rows:
                    self._full.set()
                if self._records >= 2 * self.limits.rows:
                    self._room.clear()
        except Exception as error:  # nothing an agent raises may be swallowed: Faust would commit past the record
            end_process(error)

    async def flush_forever(self) -> None:
        """The task beside the agent."""
        try:
            while True:
                await self._some.wait()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self.limits.every_ms / 1000)
                held, self._held, self._records = self._held, [], 0
                self._some.clear()
                self._full.clear()
                self._room.set()
                await self._write([event.value for event in held])
                for event in held:
                    event.ack()
        except Exception as error:  # as above
            end_process(error)

    async def _write(self, batches: list[RecordBatch]) -> None:
        """Return when everything in these batches is where it belongs, however long that takes."""
        for name, rows in (await asyncio.to_thread(self._read, batches)).items():
            table = tables.derived(name) if name in tables.DERIVED else name
            for start in range(0, len(rows), self.limits.rows):
                await self._insert(table, rows.slice(start, self.limits.rows))

    def _read(self, batches: list[RecordBatch]) -> dict[str, pa.Table]:
        found: dict[str, list[pa.Table]] = {}
        for batch in joined(batches, self.limits.rows):
            done = self._tabulate(batch)
            self._bury(batch, done)
            for name, parts in done.tables.items():
                found.setdefault(name, []).extend(parts)
        if self._dead_letters is not None:
            self._publisher.flush(PUBLISH_TIMEOUT_S)
        return {name: pa.concat_tables(parts) for name, parts in found.items()}

    def _bury(self, batch: RecordBatch, done: Tabulated) -> None:
        if self._dead_letters is None:
            return
        for letter in done.letters:
            self._publisher.publish(
                self._dead_letters,
                batch.keys[letter.row],
                batch.values[letter.row],
                headers=[
                    ("topic", batch.topic.encode()),
                    ("partition", str(batch.partition).encode()),
                    ("offset", str(int(batch.offsets[letter.row])).encode()),
                    ("reason", letter.reason.encode()),
                ],
            )

    async def _insert(self, table: str, rows: pa.Table) -> None:
        """Try until ClickHouse has them. Which error it was makes no difference: to go on without would lose rows."""
        started, said_at, wait_s = time.monotonic(), 0.0, FIRST_WAIT_S
        while True:
            try:
                await asyncio.to_thread(self._inserter.insert, table, rows)
                break
            except MeterlineError as error:
                now = time.monotonic()
                if now - said_at >= SAY_AGAIN_S:
                    log.warning("%s is not taken for %.0f s now, trying on: %s", table, now - started, error)
                    said_at = now
            await asyncio.sleep(random.uniform(wait_s / 2, wait_s))
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        if said_at:
            log.warning("%s is taken again after %.0f s", table, time.monotonic() - started)
