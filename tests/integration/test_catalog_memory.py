"""The catalog in memory on real Kafka: what it does when the log is cut, missing or out of reach."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.codec.records import Codec
from pipeline.domain.catalog import Product
from pipeline.errors import Unavailable
from pipeline.gateway.catalog import CatalogMemory, Conflict
from pipeline.kafka import admin
from pipeline.kafka.acknowledged import Acknowledged
from pipeline.kafka.following import Follower
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.workers import until

CODEC = Codec()


def product(number: int, version: int = 1) -> Product:
    return Product(id=f"p{number}", livemode=True, created_ms=1, updated_ms=1, version=version, name=f"v{version}")


@pytest.fixture
def config(stack: Stack) -> dict[str, str]:
    return {"bootstrap.servers": stack.kafka}


@pytest.fixture
def topics(config: dict[str, str], namespace: str) -> Topics:
    admin.create(config, namespace, 1, 1)
    return Topics(namespace)


def publish(config: dict[str, str], topic: str, *values: bytes) -> None:
    publisher = Publisher(config)
    for value in values:
        publisher.publish(topic, b"k", value)
    publisher.flush(30)


def cut(config: dict[str, str], topic: str, below: int) -> None:
    client = AdminClient(config)
    for future in client.delete_records([TopicPartition(topic, 0, below)]).values():
        future.result()


def test_writes_stand_or_conflict_and_are_seen_at_once(config, topics):
    async def run() -> None:
        journal = Acknowledged(config)
        catalog = CatalogMemory(config, topics, CODEC, journal)
        await catalog.start()
        await catalog.ready(30)
        await catalog.write(product(1), product(2))
        assert catalog.product(True, "p1") == product(1)
        assert catalog.product(False, "p1") is None
        with pytest.raises(Conflict) as refused:
            await catalog.write(product(3), product(1), product(4))
        assert (refused.value.reason, refused.value.present) == ("version", product(1))
        assert [one.id for one in catalog.all(Product, True)] == ["p4", "p3", "p2", "p1"]
        await asyncio.gather(*(catalog.write(product(number)) for number in range(10, 210)))
        assert len(catalog.all(Product, True)) == 204
        assert not catalog._waiting
        await catalog.stop()
        await journal.close()

    asyncio.run(run())


def test_a_write_that_kafka_does_not_acknowledge_is_of_unknown_outcome(config, topics):
    async def run() -> None:
        nowhere = Acknowledged({"bootstrap.servers": "127.0.0.1:9", "message.timeout.ms": 500})
        catalog = CatalogMemory(config, topics, CODEC, nowhere)
        with pytest.raises(Unavailable):
            await catalog.write(product(1))
        assert not catalog._waiting
        await nowhere.close()

    asyncio.run(run())


def test_a_log_whose_beginning_was_deleted_is_refused(config, topics):
    """Invariant 8: who was first can no longer be known."""
    publish(config, topics.catalog, *(CODEC.encode_catalog(product(1, version)) for version in (1, 2, 3)))
    cut(config, topics.catalog, 2)

    async def run() -> None:
        catalog = CatalogMemory(config, topics, CODEC, Acknowledged(config))
        await catalog.start()
        await asyncio.to_thread(until, lambda: "were deleted" in (catalog.not_ready() or ""), "it is refused")
        with pytest.raises(Unavailable, match="restore the topic"):
            await catalog.ready(1)
        assert catalog.product(True, "p1") is None
        await catalog.stop()

    asyncio.run(run())


def test_a_follower_of_the_newest_goes_on_where_they_begin(config, topics):
    publish(config, topics.core_events, *(str(number).encode() for number in range(10)))
    found: list[Record] = []
    follower = Follower(config, topics.core_events, found.append, newest=3)
    follower.start()
    follower.await_end(30)
    assert [record.value for record in found] == [b"7", b"8", b"9"]
    cut(config, topics.core_events, 10)
    publish(config, topics.core_events, b"10")
    until(lambda: len(found) == 4, "it goes on")
    follower.stop()
    late: list[Record] = []
    again = Follower(config, topics.core_events, late.append, newest=3)
    again.start()
    again.await_end(30)
    again.stop()
    assert [record.value for record in late] == [b"10"]


def test_a_topic_that_is_not_there_yet_is_awaited(config, namespace):
    found: list[Record] = []
    follower = Follower(config, Topics(namespace).catalog, found.append)
    follower.start()
    with pytest.raises(Unavailable, match="reading"):
        follower.await_end(0.5)
    admin.create(config, namespace, 1, 1)
    follower.await_end(30)
    assert follower.not_ready() is None
    follower.stop()


def test_what_take_raises_ends_the_following_for_good(config, topics):
    publish(config, topics.catalog, b"x")

    def take(record: Record) -> None:
        raise ValueError("on purpose")

    follower = Follower(config, topics.catalog, take)
    follower.start()
    until(lambda: "not followed any more: on purpose" in (follower.not_ready() or ""), "it has ended")
    follower.stop()
