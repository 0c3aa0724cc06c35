"""Gathers what is there: the topics, by the published schemas alone, and what a reader of the tables sees."""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import fastavro
from clickhouse_connect.driver.client import Client

from pipeline.kafka.topics import Topics
from tests.chaos.checker import Appended, Evidence, Sum, Window
from tests.chaos.ledger import Book, Identity, One, Range, Target, Usage
from tests.oracle import read_topic
from tests.sinks import _units

SCHEMAS = Path(__file__).parents[2] / "schemas"
PREFIX_BYTES = 10
"""Of Avro's single-object encoding."""

SUMMARIES_SQL = """
SELECT livemode, event_name, customer, toUnixTimestamp64Milli(window_start), sum(count) AS events, sum(sum) AS total
FROM summary_shards GROUP BY livemode, event_name, customer, window_start HAVING events != 0 OR total != 0
"""
DECIDED_SQL = "SELECT partition, offset, disposition FROM dispositions WHERE record = 'event'"
LOGGED_SQL = "SELECT partition, offset FROM meter_events"
FINGERPRINT_SQL = """
SELECT count(), groupBitXor(sipHash64(livemode, event_name, customer, window_start, dimensions, shard, version, count,
    sum, min, max, last_value, last_timestamp, last_appended_at, last_offset,
    latest_value, latest_appended_at, latest_offset))
FROM summary_shards WHERE count > 0
"""


@functools.cache
def schema(name: str) -> Any:
    """A published schema whose numbers stay what they are on the wire."""

    def plain(part: Any) -> Any:
        if isinstance(part, list):
            return [plain(one) for one in part]
        if isinstance(part, dict):
            return {key: plain(one) for key, one in part.items() if key not in ("logicalType", "precision", "scale")}
        return part

    return fastavro.parse_schema(plain(json.loads((SCHEMAS / name / "v1.avsc").read_text())))


def decoded(name: str, value: bytes) -> dict[str, Any] | None:
    """The fields of a record of this schema; None for another record."""
    if value[:PREFIX_BYTES] != prefix(name):
        return None
    found = fastavro.schemaless_reader(io.BytesIO(value[PREFIX_BYTES:]), schema(name), None)
    assert isinstance(found, dict)
    return found


@functools.cache
def prefix(name: str) -> bytes:
    form = fastavro.schema.to_parsing_canonical_form(json.loads((SCHEMAS / name / "v1.avsc").read_text()))
    return b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(form, "CRC-64-AVRO"))


def journal(kafka: str, topics: Topics) -> list[Appended]:
    found = []
    for read in read_topic(kafka, topics.journal):
        event = decoded("meter-event", read.value or b"")
        if event is not None:
            identity = Identity(event["livemode"], event["event_name"], event["identifier"])
            units = int.from_bytes(event["value"], "big", signed=True)
            usage = Usage(identity, event["customer"], units, event["timestamp"])
            found.append(Appended(read.partition, read.offset, read.appended_at_ms, usage))
    return found


def requests(kafka: str, topics: Topics) -> list[tuple[Target, int]]:
    """In the order of the topic; of several copies the first one says when it was asked for."""
    found: dict[Target, int] = {}
    for read in read_topic(kafka, topics.adjustments):
        asked = decoded("meter-event-adjustment", read.value or b"")
        assert asked is not None, "nobody sends anything else"
        mode, name, span = asked["livemode"], asked["event_name"], asked["cancel_range"]
        target: Target = (
            One(Identity(mode, name, asked["cancel"]["identifier"]))
            if span is None
            else Range(mode, name, span["customer"], span["start"], span["end"])
        )
        found[target] = min(read.appended_at_ms, found.get(target, read.appended_at_ms))
    return list(found.items())


def summaries(client: Client) -> dict[Window, Sum]:
    rows = client.query(SUMMARIES_SQL).result_rows
    return {Window(*row[:4]): Sum(int(row[4]), _units(row[5])) for row in rows}


def fingerprint(client: Client) -> tuple[int, int]:
    """Of everything that counts: how many shards, and a digest of all their fields."""
    ((shards, digest),) = client.query(FINGERPRINT_SQL).result_rows
    return int(shards), int(digest)


def gathered(book: Book, kafka: str, topics: Topics, client: Client) -> Evidence:
    return Evidence(
        book,
        journal(kafka, topics),
        requests(kafka, topics),
        {(partition, offset): word for partition, offset, word in client.query(DECIDED_SQL).result_rows},
        {(partition, offset) for partition, offset in client.query(LOGGED_SQL).result_rows},
        summaries(client),
    )
