"""What was fetched and thrown away during a rebalance is read again, also where nothing was ever done."""

from __future__ import annotations

import asyncio

import aiokafka
import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from pipeline.kafka import admin
from pipeline.kafka.topics import Topics
from pipeline.stream.positions import seek_to_committed
from tests.conftest import Stack

RECORDS = 4


@pytest.mark.parametrize("committed", [None, 0, 3])
def test_partitions_are_read_on_from_where_the_group_stands(
    stack: Stack, namespace: str, committed: int | None
) -> None:
    config = {"bootstrap.servers": stack.kafka}
    admin.create(config, namespace, 1, 1)
    place = TopicPartition(Topics(namespace).adjustments, 0)
    producer = Producer(config)
    for number in range(RECORDS):
        producer.produce(place.topic, b"%d" % number, partition=0)
    assert producer.flush(30) == 0
    assert asyncio.run(_read_again(stack.kafka, place, committed)) == list(range(committed or 0, RECORDS))


async def _read_again(kafka: str, place: TopicPartition, committed: int | None) -> list[int]:
    """The offsets that come after the seek, when all have come before."""
    group = f"{place.topic}-readers"
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = aiokafka.AIOKafkaConsumer(place.topic, bootstrap_servers=kafka, group_id=group, **settings)
    await consumer.start()
    try:
        assert [(await consumer.getone()).offset for _ in range(RECORDS)] == list(range(RECORDS))
        if committed is not None:
            await consumer.commit({place: committed})
        assert await seek_to_committed(consumer) == {place: committed}
        return [(await consumer.getone()).offset for _ in range(RECORDS - await consumer.position(place))]
    finally:
        await consumer.stop()
