"""One topic on its way into ClickHouse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time

import pyarrow as pa

from pipeline.clickhouse import tables
from pipeline.errors import MeterlineError
from pipeline.kafka.outlet import Outlet
from pipeline.sink.edges import Inserter
from pipeline.sink.tabulation import Tabulate, Tabulated
from pipeline.stream.batch import RecordBatch, joined
from pipeline.stream.received import Received, Stream

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

    Whatever raises here has to end the process: nothing may be acknowledged that is not where it belongs.

    Holds at most twice ``limits.rows`` records and one batch; beyond that the agent waits.
    """

    def __init__(
        self,
        topic: str,
        tabulate: Tabulate,
        limits: FeedLimits,
        inserter: Inserter,
        outlet: Outlet,
        dead_letters: str | None,
        generation: int = tables.FIRST_GENERATION,
        journal: int = tables.FIRST_GENERATION,
    ) -> None:
        """``dead_letters``: the topic for records that nobody can read; None when another process keeps them."""
        self.topic = topic
        self.limits = limits
        self._tabulate = tabulate
        self._generation = generation
        self._journal = journal
        self._inserter = inserter
        self._outlet = outlet
        self._dead_letters = dead_letters
        self._held: list[Received] = []
        self._records = 0
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def gather(self, stream: Stream) -> None:
        """The agent."""
        async for received in stream:
            await self._room.wait()
            self._held.append(received)
            self._records += len(received.value)
            self._some.set()
            if self._records >= self.limits.rows:
                self._full.set()
            if self._records >= 2 * self.limits.rows:
                self._room.clear()

    async def flush_forever(self) -> None:
        """The task beside the agent."""
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.every_ms / 1000):
                    await self._full.wait()
            held, self._held, self._records = self._held, [], 0
            self._some.clear()
            self._full.clear()
            self._room.set()
            await self._write([received.value for received in held])
            for received in held:
                received.ack()

    async def _write(self, batches: list[RecordBatch]) -> None:
        """Return when everything in these batches is where it belongs, however long that takes."""
        rows_by_table = await asyncio.to_thread(self._read, batches)
        if self._dead_letters is not None:
            await asyncio.to_thread(self._outlet.flush, PUBLISH_TIMEOUT_S)
        for name, rows in rows_by_table.items():
            table = tables.table_of(name, self._generation, self._journal)
            for start in range(0, len(rows), self.limits.rows):
                await self._insert(table, rows.slice(start, self.limits.rows))

    def _read(self, batches: list[RecordBatch]) -> dict[str, pa.Table]:
        found: dict[str, list[pa.Table]] = {}
        for batch in joined(batches, self.limits.rows):
            done = self._tabulate(batch)
            self._bury(batch, done)
            for name, parts in done.tables.items():
                found.setdefault(name, []).extend(parts)
        return {name: pa.concat_tables(parts) for name, parts in found.items()}

    def _bury(self, batch: RecordBatch, done: Tabulated) -> None:
        if self._dead_letters is None:
            return
        for letter in done.letters:
            self._outlet.publish(
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
