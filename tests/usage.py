"""Usage put into ClickHouse as the sink would have put it there: for tests of what is asked, not of how it came."""

from __future__ import annotations

import itertools

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import PINNED_SETTINGS
from pipeline.clickhouse.tables import derived
from pipeline.clickhouse.windows import moment_of
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.limits import MINUTE_MS
from pipeline.domain.values import value_of
from pipeline.sink.rows import Place, row_of, tables_of

_offsets = itertools.count()


class Usage:
    """Of one event name."""

    def __init__(self, client: Client, event_name: str, *, livemode: bool) -> None:
        self._client = client
        self._event_name = event_name
        self._livemode = livemode

    def add(
        self, customer: str, when: str, value: str, *, shard: int = 0, appended: int | None = None, **dimensions: str
    ) -> None:
        """One event. ``when``: as 2026-03-01T10:00, UTC. ``appended``: when it arrived; else when it happened.

        Events of one minute need different shards or dimensions: there is no fold here that would add them up.
        """
        ms, units, offset = moment_of(when, "UTC"), value_of(value), next(_offsets)
        appended_ms = ms if appended is None else appended
        key = TallyKey(
            self._livemode, self._event_name, customer, ms - ms % MINUTE_MS, tuple(sorted(dimensions.items()))
        )
        last, latest = Last(ms, appended_ms, offset, units), Latest(appended_ms, offset, units)
        one = SummaryShard(key, shard, offset, 1, units, units, units, last, latest)
        (table,) = tables_of([row_of(Place(0, 0, 0), one)]).values()
        self._client.insert_arrow(derived("summary_shards"), table, settings=PINNED_SETTINGS)
