"""One sink process, from a full topic to rows in ClickHouse and a committed offset: shards, and the event log."""

from __future__ import annotations

import random
import time

import numpy as np

from benchmarks.figures import PER_CPU_S, Figure, Outcome, Target, agreed
from benchmarks.measuring import Moment
from benchmarks.stage import PARTITIONS, Deployment, Progress, Stage
from benchmarks.workload import CENT, EVENT_NAME, HOT, MINUTE_MS, Usage, write_journal
from pipeline.clickhouse.connection import connect
from pipeline.codec.dimensions import dimensions_bytes
from pipeline.codec.records import SUM_BYTES, VALUE_BYTES, Codec
from pipeline.codec.shards import NUMBERS, encode_shards, shard_head
from pipeline.kafka.producer import Publisher

_TARGET = Target(150_000.0)
_CUSTOMERS = 1_000
_CHUNK = 20_000


def shards(stage: Stage, records: int) -> Outcome:
    """Summary shards, nothing else: the event log is off."""
    with stage.deployment("sink") as deployment:
        deployment.say(f"sink: writing {records:,} shards")
        usage = write_shards(deployment, records)
        deployment.say("sink: inserting")
        figures = _drain(deployment, "sink", deployment.topics.summaries, "shards", _TARGET, EVENT_LOG="off")
        with connect(deployment.server) as client:
            rows = client.query("SELECT count(), sum(count), reinterpret(sum(sum), 'Int256') FROM summary_shards")
        found, events, units = rows.first_row
    exact = agreed("shards", found, records) | agreed("events", events, usage.count) | agreed("sum", units, usage.units)
    return Outcome(figures, exact)


def event_log(stage: Stage, records: int) -> Outcome:
    """The journal into the event log; no worker runs, so there is no shard to insert beside it."""
    with stage.deployment("log") as deployment:
        deployment.say(f"sink-log: writing {records:,} records")
        usage = write_journal(deployment.config, deployment.topics.journal, HOT, records)
        deployment.say("sink-log: inserting")
        figures = _drain(deployment, "sink-log", deployment.topics.journal, "journal records", None, EVENT_LOG="on")
        with connect(deployment.server) as client:
            found = client.query(_LOG_TOTAL).first_row
    exact = agreed("records", found[0], records) | agreed("events", found[1], usage.count)
    return Outcome(figures, exact | agreed("sum", found[2], usage.units))


_LOG_TOTAL = """
SELECT
    (SELECT count() FROM meter_events FINAL) + (SELECT count() FROM cancellations FINAL),
    count(),
    sum(reinterpret(once, 'Int128'))
FROM
(
    SELECT any(assumeNotNull(value)) AS once
    FROM meter_events
    WHERE identifier NOT IN (SELECT assumeNotNull(identifier) FROM cancellations)
    GROUP BY identifier
)
"""


def _drain(
    deployment: Deployment, name: str, topic: str, what: str, target: Target | None, **variables: str
) -> list[Figure]:
    """Measured from the moment the sink is in its group until all is committed, which it does once a second."""
    progress = Progress(deployment, "sink", topic)
    engine = deployment.stage.clickhouse_pid
    with deployment.run("sink", **variables) as sink:
        sink.await_group()
        start, engine_start = Moment.now(sink.pid), Moment.now(engine)
        progress.await_end(sink)
        rate = start.until(Moment.now(sink.pid), progress.end())
        engine_rate = engine_start.until(Moment.now(engine), progress.end())
    progress.close()
    figures = rate.figures(name, what, target, target)
    if engine is not None:
        figures.append(Figure(name, f"{what}, CPU of ClickHouse", engine_rate.per_cpu_s, PER_CPU_S))
    return figures


def write_shards(deployment: Deployment, records: int) -> Usage:
    """Shards as a worker publishes them: minute by minute, in each a shard of every customer, in every partition."""
    publisher, rng, usage = Publisher(deployment.config), random.Random(1), Usage()
    newest_ms = int(time.time() * 1000) // MINUTE_MS * MINUTE_MS
    frame = Codec().frame_of("SummaryShard")
    dimensions = dimensions_bytes((("model", "large"),))
    written = [records * number // PARTITIONS for number in range(PARTITIONS + 1)]
    for partition in range(PARTITIONS):
        count = written[partition + 1] - written[partition]
        for start in range(0, count, _CHUNK):
            heads, cents = [], []
            for place in range(start, min(start + _CHUNK, count)):
                customer = f"cus_{place % _CUSTOMERS}"
                window_start_ms = newest_ms - (count - place) // _CUSTOMERS * MINUTE_MS
                heads.append(shard_head(frame, True, EVENT_NAME, customer, window_start_ms, dimensions, partition))
                cents.append(1 + int(rng.random() * 100_000))
                usage.add(customer, cents[-1])
            values = encode_shards(heads, _numbers(np.array(cents), start, newest_ms))
            keys = [head[len(frame) :] for head in heads]
            publisher.publish_batch(deployment.topics.summaries, partition, list(zip(keys, values, strict=True)))
    publisher.flush(120)
    return usage


def _numbers(cents: np.ndarray, first_offset: int, moment_ms: int) -> np.ndarray:
    """The numbers of shards of one event each."""
    widths = {0: "<i8", SUM_BYTES: f"V{SUM_BYTES}", VALUE_BYTES: f"V{VALUE_BYTES}"}
    numbers = np.zeros(len(cents), [(name, widths[size]) for name, size in NUMBERS])
    offsets = first_offset + np.arange(len(cents))
    for name, size in NUMBERS:
        if size:
            encoded = np.zeros((len(cents), size), np.uint8)
            encoded[:, -8:] = (cents * CENT).astype(">i8").view(np.uint8).reshape(-1, 8)
            numbers[name] = encoded.reshape(-1).view(widths[size])
        elif name == "count":
            numbers[name] = 1
        else:
            numbers[name] = offsets if name.endswith(("version", "offset")) else moment_ms
    return numbers
