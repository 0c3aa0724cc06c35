"""FAULTS F8: headers that are huge, stand there twice, or are no text, in every topic that anybody reads."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from pipeline.domain.partitioning import partition_of
from pipeline.kafka.topics import Topics
from tests.audits import auditing
from tests.conftest import Stack


class NotText(str):
    """The name of a header whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff\xfe\x00"


HEADERS: list[tuple[str, bytes | None]] = [("trace", b"1"), ("trace", None), (NotText("?"), b""), ("", b"x" * 100_000)]


def append(kafka: str, batches: list[tuple[str, int, list[bytes]]]) -> None:
    """Batches (topic, partition, values) of records with these headers, as no library for Python writes them."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for topic, partition, values in batches:
                batch = producer.create_batch()
                batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 4_000_000)
                for value in values:
                    assert batch.append(key=None, value=value, timestamp=None, headers=HEADERS) is not None
                await (await producer.send_batch(batch, topic, partition=partition))

    asyncio.run(send())


def test_f8_headers_change_nothing(stack: Stack, namespace: str, home: Path) -> None:
    with auditing(stack, namespace, home) as audited:
        deployment, traffic = audited.deployment, audited.traffic
        topics: Topics = deployment.topics
        deployment.worker("worker")
        traffic.send(40)
        events = [traffic.event() for _ in range(12)]
        by_partition: dict[int, list[bytes]] = {}
        for event in events:
            place = partition_of(event.identifier, deployment.partitions)
            by_partition.setdefault(place, []).append(traffic.codec.encode_event(event))
        append(
            stack.kafka,
            [(topics.journal, place, [*values, b"nothing readable"]) for place, values in by_partition.items()]
            + [(topics.adjustments, 0, [b"nothing readable"])],
        )
        traffic.send(40)
        audited.settle()
        deployment.assert_as_specified()
        code, report, said = audited.audit()
        assert (code, report["equal"]) == (0, True), said
        for event in events:
            assert "counted" in audited.said("explain", event.identifier)
        followed = audited.said("tail", "journal", "--from", "beginning", "--no-follow", "--json")
        assert {event.identifier for event in events} <= set(re.findall(r'"identifier": *"([^"]*)"', followed))
