"""One customer's month by hour among many shards, by ``meterline query``'s way and by the public view."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from clickhouse_connect.driver.client import Client

from benchmarks.figures import COUNT, MILLISECONDS, Figure, Outcome, agreed, at_most
from benchmarks.measuring import Moment, percentile
from benchmarks.stage import PARTITIONS, Deployment, Stage, until
from benchmarks.workload import CENT, EVENT_NAME, MINUTE_MS
from pipeline.clickhouse.connection import connect
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import summaries
from pipeline.clickhouse.tables import derived
from pipeline.clickhouse.windows import Unit

_QUERIES, _QUERIES_MIN = 200, 20
"""At full size; and of a try at a small one."""
_FULL_SIZE = 10_000_000
_TARGET = at_most(50.0)
START_MS, _END_MS = 1_772_323_200_000, 1_775_001_600_000
"""March 2026, UTC."""
_MONTH_MINUTES = (_END_MS - START_MS) // MINUTE_MS
_DAY_MINUTES = 24 * 60
_DAYS = _MONTH_MINUTES // _DAY_MINUTES
_CUSTOMERS_MAX = 1_250
_INSERT_ROWS = 500_000
_UNTIMED = 5
"""The first few queries open connections and files."""

Ask = Callable[[Client, str], tuple[int, int]]
"""The total of a customer's month: events, and their sum in units of 10^-12."""


def queries_of(records: int) -> int:
    return max(_QUERIES_MIN, _QUERIES * min(records, _FULL_SIZE) // _FULL_SIZE)


class Month(NamedTuple):
    """Shards of a month: in each of ``slots`` stretches of it, one minute of every customer, in every partition."""

    customers: int
    slots: int

    @classmethod
    def of(cls, records: int) -> Month:
        """As many shards as wanted, or a few less."""
        customers = min(_CUSTOMERS_MAX, max(1, records // (PARTITIONS * 10)))
        return cls(customers, max(1, records // (PARTITIONS * customers)))

    @property
    def shards(self) -> int:
        return self.customers * self.slots * PARTITIONS

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """By customer: events, and their sum in cents; what the SQL below makes of each shard's number."""
        number = np.arange(self.shards, dtype=np.int64)
        customer = number // PARTITIONS % self.customers
        counts, cents = 1 + number % 5, 1 + number * 7919 % 100_000
        return (
            np.bincount(customer, counts, self.customers).astype(np.int64),
            np.bincount(customer, cents, self.customers).astype(np.int64),  # exact: far below 2^53
        )

    def cents_by_day(self) -> np.ndarray:
        """[customer, day of the month]: the sum in cents."""
        number = np.arange(self.shards, dtype=np.int64)
        customer, slot = number // PARTITIONS % self.customers, number // (PARTITIONS * self.customers)
        slot_minutes = _MONTH_MINUTES // self.slots
        day = (slot * slot_minutes + customer * 7919 % slot_minutes) // _DAY_MINUTES
        cents = 1 + number * 7919 % 100_000
        flat = np.bincount(customer * _DAYS + day, cents, self.customers * _DAYS)
        return flat.astype(np.int64).reshape(self.customers, _DAYS)


# In the order in which a sink inserts: by time, so that each part of the table holds all customers.
_INSERT = f"""
INSERT INTO {derived("summary_shards")}
SELECT
    true, '{EVENT_NAME}', concat('cus_', toString(customer)), minute, map('model', 'large', 'region', region),
    shard, version, events, reinterpret(toInt256(units), 'Decimal(76, 12)'),
    value, value, value, minute, minute, version, value, minute, version
FROM
(
    SELECT
        number % {PARTITIONS} AS shard,
        intDiv(number, {PARTITIONS}) % {{customers:UInt32}} AS customer,
        intDiv(number, {PARTITIONS} * {{customers:UInt32}}) AS slot,
        intDiv({_MONTH_MINUTES}, {{slots:UInt32}}) AS slot_minutes,
        fromUnixTimestamp64Milli(
            {START_MS} + toInt64(slot * slot_minutes + customer * 7919 % slot_minutes) * {MINUTE_MS}, 'UTC') AS minute,
        ['eu', 'us', 'ap'][customer % 3 + 1] AS region,
        number AS version,
        1 + number % 5 AS events,
        (1 + number * 7919 % 100000) * {CENT} AS units,
        reinterpret(toInt128(units), 'Decimal(38, 12)') AS value
    FROM numbers({{first:UInt64}}, {{rows:UInt64}})
)
"""

_VIEW = """
SELECT window_start, window_end, sum, count
FROM meter_event_summaries(
    livemode = true, event_name = {event_name:String}, customers = {customers:Array(String)},
    start = fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), end = fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'),
    window = 'hour', zone = 'UTC', by_customer = false, group_by = [], filter = map())
"""


def measure(stage: Stage, records: int) -> Outcome:
    month, queries = Month.of(records), queries_of(records)
    with stage.deployment("query") as deployment:
        deployment.say(f"query: {month.shards:,} shards of {month.customers:,} customers")
        fill(deployment, month)
        deployment.say("query: asking")
        with connect(deployment.server) as client:
            parts = client.query(_PARTS, parameters={"table": derived("summary_shards")}).first_row[0]
            by_query = _ask_often(client, "meterline query", _ask_query, month, queries, stage.clickhouse_pid)
            by_view = _ask_often(client, "view", _ask_view, month, queries, stage.clickhouse_pid)
            found = client.query("SELECT count() FROM summary_shards").first_row[0]
    exact = agreed("shards", found, month.shards) | {"answers": 2 * queries}
    return Outcome([*by_query, *by_view, Figure("query", "parts of the table", parts, COUNT)], exact)


_PARTS = "SELECT count() FROM system.parts WHERE active AND database = currentDatabase() AND table = {table:String}"
_MERGES = "SELECT count() FROM system.merges WHERE database = currentDatabase()"


def fill(deployment: Deployment, month: Month) -> None:
    """Insert the shards and let ClickHouse finish the merges it wants to do now."""
    with connect(deployment.server) as client:
        for first in range(0, month.shards, _INSERT_ROWS):
            rows = min(_INSERT_ROWS, month.shards - first)
            parameters = {"customers": month.customers, "slots": month.slots, "first": first, "rows": rows}
            client.command(_INSERT, parameters=parameters)
        until(lambda: client.query(_MERGES).first_row[0] == 0, "no merge runs", 0.5)


def _ask_often(client: Client, name: str, ask: Ask, month: Month, queries: int, engine: int | None) -> list[Figure]:
    """The times of many queries for random customers, whose answers are compared with what was inserted.

    CPU time is the client's and (where it is our own) the engine's, per query: it tells more than the clock on a
    machine that does other things too.
    """
    rng, events, cents = random.Random(1), *month.totals()
    times_ms: list[float] = []
    for number in range(-_UNTIMED, queries):
        customer = rng.randrange(month.customers)
        if number == 0:
            before, engine_before = Moment.now(), Moment.now(engine)
        start = time.monotonic()
        answer = ask(client, f"cus_{customer}")
        if number >= 0:
            times_ms.append((time.monotonic() - start) * 1000)
        assert answer == (events[customer], int(cents[customer]) * CENT), f"cus_{customer}: {answer}"
    figures = [
        Figure("query", f"{name}, p50", percentile(times_ms, 0.5), MILLISECONDS),
        Figure("query", f"{name}, p99", percentile(times_ms, 0.99), MILLISECONDS, _TARGET),
        Figure("query", f"{name}, CPU of the client", before.until(Moment.now(), queries).cpu_ms, MILLISECONDS),
    ]
    if engine is not None:
        rate = engine_before.until(Moment.now(engine), queries)
        figures.append(Figure("query", f"{name}, CPU of ClickHouse", rate.cpu_ms, MILLISECONDS))
    return figures


def _ask_query(client: Client, customer: str) -> tuple[int, int]:
    question = SummaryQuery(EVENT_NAME, start_ms=START_MS, end_ms=_END_MS, customers=(customer,), window=Unit.HOUR)
    events = units = 0
    for summary in summaries(client, question):
        events += summary.values["count"] or 0
        units += summary.values["sum"] or 0
    return events, units


def _ask_view(client: Client, customer: str) -> tuple[int, int]:
    parameters = {"event_name": EVENT_NAME, "customers": [customer], "start_ms": START_MS, "end_ms": _END_MS}
    rows = client.query(_VIEW, parameters=parameters).result_rows
    return sum(row[3] for row in rows), sum(int(row[2].scaleb(12)) for row in rows)
