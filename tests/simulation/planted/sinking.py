"""The sink."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pyarrow as pa

from pipeline.errors import MeterlineError
from pipeline.sink.feed import Feed
from pipeline.sink.tabulation import Tabulator
from tests.simulation.planted.registry import planted


@planted
def sink_without_version(patch: Any) -> None:
    original = Tabulator.summaries

    def summaries(self: Tabulator, batch: Any) -> Any:
        done = original(self, batch)
        for name, parts in done.tables.items():
            done.tables[name] = [
                part.set_column(
                    part.schema.get_field_index("version"),
                    part.schema.field("version"),
                    pa.array([0] * len(part), part.schema.field("version").type),
                )
                for part in parts
            ]
        return done

    patch.setattr(Tabulator, "summaries", summaries)


@planted
def sink_acknowledges_first(patch: Any) -> None:
    async def flush_forever(self: Feed) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self.limits.every_ms / 1000)
            held, self._held, self._records = self._held, [], 0
            self._some.clear()
            self._full.clear()
            self._room.set()
            for received in held:
                received.ack()
            await self._write([received.value for received in held])

    patch.setattr(Feed, "flush_forever", flush_forever)


@planted
def sink_gives_up_a_row(patch: Any) -> None:
    """An insert that failed once is taken for done."""

    async def insert(self: Feed, table: str, rows: Any) -> None:
        with contextlib.suppress(MeterlineError):
            await asyncio.to_thread(self._inserter.insert, table, rows)

    patch.setattr(Feed, "_insert", insert)
