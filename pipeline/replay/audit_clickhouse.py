"""What ClickHouse holds, as an audit asks for it: digests by partition and day, and only where they differ the rows.

A shard's row is *early* when its version is below its partition's cursor: the audit knows what it must be. Later rows
were published while the audit ran; they come one by one, with their hash. Each answer is one query over one day's
parts, so that no row is seen both ways or neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.decision_digests import DECISION_HASH
from pipeline.clickhouse.digests import HASH
from pipeline.clickhouse.tables import derived
from pipeline.codec.decision_digests import BUCKET_OFFSETS
from pipeline.codec.digests import WORDS, Digest
from pipeline.domain.events import Disposition
from pipeline.domain.limits import DAY_MS
from pipeline.replay.audit_kept import Late, Part

ANSWER_TIMEOUT_S = 3_600
"""A digest reads the whole table."""

_DAY = f"toInt64(floor(toUnixTimestamp64Milli(window_start) / {DAY_MS}))"
_EARLY = "version < {cursors:Array(UInt64)}[shard + 1]"

_MOMENTS = ("last_timestamp", "last_appended_at", "latest_appended_at")
_WIDE = {2: "Int128", 4: "Int256"}


Days = dict[tuple[int, int], Part[bytes]]
"""By (shard, day); a day is a number of days since 1970, by ``window_start``."""


Buckets = dict[tuple[int, int], Part[int]]
"""By (partition, bucket of offsets)."""


class Tabled(NamedTuple):
    """What the tables hold when an audit begins."""

    days: Days
    buckets: Buckets

    def of(self, partition: int) -> Tabled:
        """Of one partition."""
        days = {place: one for place, one in self.days.items() if place[0] == partition}
        return Tabled(days, {place: one for place, one in self.buckets.items() if place[0] == partition})


class AuditedTables:
    """The tables of one generation, over one connection."""

    def __init__(self, client: Client, generation: int) -> None:
        self._client = client
        self.shards = derived("summary_shards", generation)
        self.dispositions = derived("dispositions", generation)

    def days(self, cursors: Sequence[int]) -> Days:
        """The digests of everything there is."""
        months = self._rows(f"SELECT DISTINCT toYYYYMM(window_start) FROM {self.shards}")
        found: Days = {}
        for (month,) in months:
            found |= self._days_of(month, list(cursors))
        return found

    def _days_of(self, month: int, cursors: list[int]) -> Days:
        sql = f"""
            WITH {HASH}
            SELECT shard, {_DAY} AS day, sumIf(lane_0, {_EARLY}), sumIf(lane_1, {_EARLY}), countIf({_EARLY}),
                groupArrayIf((hex(key), version, lane_0, lane_1), NOT {_EARLY})
            FROM {self.shards} FINAL
            WHERE toYYYYMM(window_start) = {{month:UInt32}}
            GROUP BY shard, day
        """
        return {
            (shard, day): Part(
                Digest(low, high),
                count,
                tuple(Late(bytes.fromhex(key), version, (one, two)) for key, version, one, two in map(tuple, late)),
            )
            for shard, day, low, high, count, late in self._rows(sql, month=month, cursors=cursors)
        }

    def rows(self, shard: int, day: int) -> dict[bytes, bytes]:
        """All rows of a partition's day: key to packed row."""
        sql = f"""
            WITH {HASH}
            SELECT hex(key), {", ".join(_column(name, words) for name, words in WORDS)}
            FROM {self.shards} FINAL
            WHERE shard = {{shard:UInt32}} AND window_start >= fromUnixTimestamp64Milli({{start_ms:Int64}}, 'UTC')
                AND window_start < fromUnixTimestamp64Milli({{end_ms:Int64}}, 'UTC')
        """
        answer = self._rows(sql, shard=shard, start_ms=day * DAY_MS, end_ms=(day + 1) * DAY_MS)
        return {bytes.fromhex(key): _packed(numbers) for key, *numbers in answer}

    def buckets(self, cursors: Sequence[int]) -> Buckets:
        """The digests of all dispositions."""
        early = "decided_offset < {cursors:Array(UInt64)}[partition + 1]"
        sql = f"""
            WITH {DECISION_HASH}
            SELECT partition, intDiv(offset, {BUCKET_OFFSETS}) AS bucket, sumIf(lane_0, {early}),
                sumIf(lane_1, {early}), countIf({early}),
                groupArrayIf((offset, decided_offset, lane_0, lane_1), NOT {early})
            FROM {self.dispositions} FINAL
            GROUP BY partition, bucket
        """
        return {
            (partition, bucket): Part(
                Digest(low, high),
                size,
                tuple(Late(offset, version, (one, two)) for offset, version, one, two in map(tuple, late)),
            )
            for partition, bucket, low, high, size, late in self._rows(sql, cursors=list(cursors))
        }

    def decisions(self, partition: int, bucket: int) -> dict[int, Disposition]:
        """Dispositions by the offset of their record."""
        sql = f"""
            SELECT isNull(value), reinterpret(assumeNotNull(value), 'Int128'), partition, offset, decided_offset,
                record, disposition, reason, livemode, event_name, identifier, customer,
                toUnixTimestamp64Milli(timestamp), toUnixTimestamp64Milli(appended_at),
                adjustment_id, first_offset, events_cancelled
            FROM {self.dispositions} FINAL
            WHERE partition = {{partition:UInt32}} AND offset >= {{first:UInt64}} AND offset < {{end:UInt64}}
        """
        span = {"first": bucket * BUCKET_OFFSETS, "end": (bucket + 1) * BUCKET_OFFSETS}
        found = {}
        for absent, value, *fields in self._rows(sql, partition=partition, **span):
            fields.insert(Disposition._fields.index("value"), None if absent else int(value))
            one = Disposition(*fields)
            found[one.offset] = one
        return found

    def _rows(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        return self._client.query(sql, parameters=parameters).result_rows


def _column(name: str, words: int) -> str:
    if name in _MOMENTS:
        return f"toUnixTimestamp64Milli({name})"
    return name if words == 1 else f"reinterpret({name}, '{_WIDE[words]}')"


def _packed(numbers: Sequence[int]) -> bytes:
    return b"".join(
        int(number).to_bytes(8 * words, "big", signed=True) for number, (_, words) in zip(numbers, WORDS, strict=True)
    )
