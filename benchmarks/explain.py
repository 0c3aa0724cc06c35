"""Why is it counted, why is this sum what it is: one event and one customer's month among many events."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from clickhouse_connect.driver.client import Client

from benchmarks.figures import MILLISECONDS, Figure, Outcome, agreed, at_most
from benchmarks.measuring import percentile
from benchmarks.stage import PARTITIONS, Deployment, Stage
from benchmarks.workload import CENT, EVENT_NAME, MINUTE_MS
from pipeline.clickhouse.connection import connect
from pipeline.clickhouse.explanation import explain
from pipeline.clickhouse.explanation_number import explain_number, number_query
from pipeline.clickhouse.tables import derived, table_of

_START_MS, _END_MS = 1_772_323_200_000, 1_775_001_600_000
"""March 2026, UTC."""
_CUSTOMERS_MAX = 1_250
_INSERT_ROWS = 500_000
_EVENTS, _NUMBERS = 40, 20
_UNTIMED = 2
_ONE_EVENT, _ONE_NUMBER = at_most(1_000.0), at_most(5_000.0)

_LOG = f"""
INSERT INTO {table_of("meter_events")}
SELECT
    number % {PARTITIONS}, intDiv(number, {PARTITIONS}), moment, concat('e-', toString(number)), '{EVENT_NAME}',
    concat('cus_', toString(number % {{customers:UInt32}})),
    reinterpret(toInt128((1 + number * 7919 % 100000) * {CENT}), 'Decimal(38, 12)'), moment, map('model', 'large'), true
FROM
(
    SELECT number, fromUnixTimestamp64Milli(
        {_START_MS} + toInt64(number * 2654435761 % {_END_MS - _START_MS}), 'UTC') AS moment
    FROM numbers({{first:UInt64}}, {{rows:UInt64}})
)
"""

_SHARDS = f"""
INSERT INTO {derived("summary_shards")}
SELECT livemode, event_name, customer, fromUnixTimestamp64Milli(minute_ms, 'UTC'), dimensions, partition, max(offset),
    count(), sum(toDecimal256(assumeNotNull(value), 12)), min(assumeNotNull(value)), max(assumeNotNull(value)),
    argMax(assumeNotNull(value), (timestamp, offset)), max(timestamp), max(appended_at), max(offset),
    argMax(assumeNotNull(value), offset), max(appended_at), max(offset)
FROM
(
    SELECT *, intDiv(toUnixTimestamp64Milli(timestamp), {MINUTE_MS}) * {MINUTE_MS} AS minute_ms
    FROM meter_events
    WHERE timestamp >= fromUnixTimestamp64Milli({{start_ms:Int64}}, 'UTC')
        AND timestamp < fromUnixTimestamp64Milli({{end_ms:Int64}}, 'UTC')
)
GROUP BY livemode, event_name, customer, minute_ms, dimensions, partition
"""


def measure(stage: Stage, records: int) -> Outcome:
    customers = min(_CUSTOMERS_MAX, max(1, records // 100))
    with stage.deployment("explain") as deployment:
        deployment.say(f"explain: {records:,} events of {customers:,} customers")
        _fill(deployment, records, customers)
        deployment.say("explain: asking")
        rng = random.Random(1)
        with connect(deployment.server) as client:
            events = _ask_often(_EVENTS, lambda: _one_event(client, rng.randrange(records)))
            numbers = _ask_often(_NUMBERS, lambda: _one_number(client, rng.randrange(customers), customers, records))
            found = client.query("SELECT count() FROM meter_events").first_row[0]
    figures = [
        Figure("explain", "one event, p50", percentile(events, 0.5), MILLISECONDS),
        Figure("explain", "one event, p99", percentile(events, 0.99), MILLISECONDS, _ONE_EVENT),
        Figure("explain", "a customer's month, p50", percentile(numbers, 0.5), MILLISECONDS),
        Figure("explain", "a customer's month, p99", percentile(numbers, 0.99), MILLISECONDS, _ONE_NUMBER),
    ]
    return Outcome(figures, agreed("events", found, records))


def _fill(deployment: Deployment, records: int, customers: int) -> None:
    with connect(deployment.server) as client:
        for first in range(0, records, _INSERT_ROWS):
            rows = min(_INSERT_ROWS, records - first)
            client.command(_LOG, parameters={"customers": customers, "first": first, "rows": rows})
        day_ms = (_END_MS - _START_MS) // 31
        for start_ms in range(_START_MS, _END_MS, day_ms):
            client.command(_SHARDS, parameters={"start_ms": start_ms, "end_ms": start_ms + day_ms})


def _ask_often(times: int, ask: Callable[[], None]) -> list[float]:
    """The times of many questions, in milliseconds. The first few open connections and files."""
    taken: list[float] = []
    for number in range(-_UNTIMED, times):
        started = time.monotonic()
        ask()
        if number >= 0:
            taken.append((time.monotonic() - started) * 1000)
    return taken


def _one_event(client: Client, number: int) -> None:
    (one,) = explain(client, f"e-{number}", livemode=True).decisions
    assert (one.place, one.disposition) == (f"{number % PARTITIONS}:{number // PARTITIONS}", "counted"), one


def _one_number(client: Client, customer: int, customers: int, records: int) -> None:
    found = explain_number(client, number_query(EVENT_NAME, f"cus_{customer}", _START_MS, _END_MS))
    mine = range(customer, records, customers)
    assert (found.count, found.sum) == (len(mine), sum((1 + n * 7919 % 100_000) * CENT for n in mine)), customer
    assert found.is_equal, customer
