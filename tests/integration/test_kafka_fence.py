"""A topic that is closed takes nothing from anybody, loses nothing, and lets transactions end."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.kafka import admin, fence
from pipeline.kafka.topics import Topics
from tests.conftest import Stack

SMALLEST = MeterEvent("i", "n", "c", 0, 0, (), True)
PARTITIONS = 4


@pytest.fixture
def journal(stack: Stack, namespace: str) -> str:
    admin.create({"bootstrap.servers": stack.kafka}, namespace, PARTITIONS, 1)
    return Topics(namespace).journal


def sent(stack: Stack, journal: str, compression: str = "none", **config: str) -> KafkaError | None:
    producer = Producer({"bootstrap.servers": stack.kafka, "compression.type": compression, "log_level": 0, **config})
    said: list[KafkaError | None] = []
    value = Codec().encode_event(SMALLEST)
    producer.produce(journal, value, b"i", on_delivery=lambda error, _: said.append(error))
    producer.flush(30)
    return said[0]


def test_the_smallest_event_is_refused_until_the_topic_is_open_again(stack: Stack, journal: str) -> None:
    config = {"bootstrap.servers": stack.kafka}
    assert sent(stack, journal) is None
    fence.close(config, journal)
    assert fence.is_closed(config, journal)
    for compression in ("none", "lz4", "zstd", "snappy", "gzip"):
        error = sent(stack, journal, compression)
        assert error is not None
        assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    fence.reopen(config, journal)
    assert not fence.is_closed(config, journal)
    error = sent(stack, journal)
    while error is not None:  # the broker hears of it a moment later
        assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        error = sent(stack, journal)
    assert len(read(stack, journal)) == 2


def test_a_transaction_that_was_open_can_end(stack: Stack, journal: str) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka, "transactional.id": journal, "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(journal, Codec().encode_event(SMALLEST), b"i")
    producer.flush(30)
    fence.close({"bootstrap.servers": stack.kafka}, journal)
    producer.commit_transaction(30)
    assert len(read(stack, journal)) == 1


def test_from_the_producers_clock_to_the_brokers(stack: Stack, journal: str) -> None:
    config = {"bootstrap.servers": stack.kafka}
    fence.stamp_by_producer(config, journal)
    producer = Producer({**config, "log_level": 0})
    value = Codec().encode_event(SMALLEST)
    while True:  # until the broker has heard of it
        producer.produce(journal, value, b"i", timestamp=1_000_000_000_000)
        producer.flush(30)
        if 1_000_000_000_000 in read(stack, journal):
            break
    fence.stamp_by_broker(config, journal)
    assert sent(stack, journal) is not None
    fence.reopen(config, journal)
    before = read(stack, journal)
    while True:
        producer.produce(journal, value, b"i", timestamp=1_000_000_000_001)
        if producer.flush(30) == 0 and len(read(stack, journal)) > len(before):
            break
    assert 1_000_000_000_001 not in read(stack, journal)


def read(stack: Stack, journal: str) -> list[int]:
    """The times of all that is in the journal."""
    consumer = Consumer(
        {
            "bootstrap.servers": stack.kafka,
            "group.id": "reading",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    from confluent_kafka import TopicPartition

    consumer.assign([TopicPartition(journal, number, 0) for number in range(PARTITIONS)])
    times, ended = [], set()
    while len(ended) < PARTITIONS:
        message = consumer.poll(10)
        assert message is not None
        if message.error() is not None:
            ended.add(message.partition())
        else:
            times.append(message.timestamp()[1])
    consumer.close()
    return times
