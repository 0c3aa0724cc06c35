"""What the worker has published, read back: no figure counts before its digits are right."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition

from benchmarks.stage import PARTITIONS
from pipeline.codec.columns import decode_table
from pipeline.domain.limits import VALUE_UNIT

_CHUNK = 100_000


def usage_published(kafka: dict[str, Any], summaries_topic: str) -> dict[str, tuple[int, int]]:
    """By customer (events, sum in units of 10^-12), from the last shard of each key; customers with events only."""
    newest = list(_newest_values(kafka, summaries_topic).values())
    tables = []
    for start in range(0, len(newest), _CHUNK):
        columns = decode_table("SummaryShard", newest[start : start + _CHUNK])
        assert not len(columns.rest), "every shard that the worker writes is read by columns"
        tables.append(columns.table.select(["customer", "count", "sum"]))
    if not tables:
        return {}
    totals = pa.concat_tables(tables).group_by("customer").aggregate([("count", "sum"), ("sum", "sum")])
    return {
        row["customer"]: (row["count_sum"], int(row["sum_sum"] * VALUE_UNIT))
        for row in totals.to_pylist()
        if row["count_sum"]
    }


def _newest_values(kafka: dict[str, Any], topic: str) -> dict[bytes, bytes]:
    """A key stays in its partition, and later is newer there."""
    consumer = Consumer({**kafka, "group.id": "benchmark-check", "enable.auto.commit": False})
    places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)
    consumer.assign(places)
    newest: dict[bytes, bytes] = {}
    while left:
        for message in consumer.consume(5_000, 1.0):
            assert message.error() is None, message.error()
            newest[message.key()] = message.value()
            left -= 1
    consumer.close()
    return newest
