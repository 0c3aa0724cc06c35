"""Reading a topic that has lost its beginning, or whose end is not known to whoever answers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.errors import Unavailable
from pipeline.kafka.reading import read
from pipeline.worker.cluster import KafkaCluster
from tests.conftest import Stack
from tests.workers import until


def topic_of(stack: Stack, namespace: str) -> tuple[str, Callable[[int], None]]:
    """A topic with one partition, and how to append some records to it."""
    config, topic = {"bootstrap.servers": stack.kafka}, f"{namespace}.some"
    client, producer = AdminClient(config), Producer(config)
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    until(lambda: topic in client.list_topics(timeout=10).topics, "the topic is there")

    def append(count: int) -> None:
        for _ in range(count):
            producer.produce(topic, b"x", partition=0)
        assert producer.flush(30) == 0

    append(5)
    return topic, append


def cut_beginning(stack: Stack, topic: str, first: int) -> None:
    client = AdminClient({"bootstrap.servers": stack.kafka})
    for future in client.delete_records([TopicPartition(topic, 0, first)]).values():
        future.result(30)


def test_who_has_to_begin_exactly_there_begins_nowhere_else(stack: Stack, namespace: str) -> None:
    topic, _ = topic_of(stack, namespace)
    cut_beginning(stack, topic, 3)

    def offsets(start: int, *, exactly: bool) -> list[int]:
        config = {"bootstrap.servers": stack.kafka}
        return [record.offset for record in read(config, topic, start, exactly=exactly)]

    assert offsets(1, exactly=False) == [3, 4]
    assert offsets(3, exactly=True) == [3, 4]
    assert offsets(5, exactly=True) == []
    with pytest.raises(Unavailable):
        offsets(1, exactly=True)


def test_an_end_below_the_known_one_is_none(stack: Stack, namespace: str) -> None:
    """A leader that has just thawed knows of fewer records than there are: here they come later."""
    topic, append = topic_of(stack, namespace)
    cluster = KafkaCluster({"bootstrap.servers": stack.kafka})

    def offsets(start: int, end: int, most: int = 100) -> list[int]:
        return [one.offset for one in cluster.records(topic, 0, start, end, most)]

    later = threading.Timer(1.5, append, [3])
    later.start()
    try:
        assert offsets(2, 8) == [2, 3, 4, 5, 6, 7]
    finally:
        later.join()
    assert (offsets(0, 5), offsets(0, 8, most=2), offsets(8, 8)) == ([0, 1, 2, 3, 4], [0, 1], [])
    with pytest.raises(Unavailable, match="goes up to offset 9"):
        offsets(2, 9)
    cut_beginning(stack, topic, 3)
    assert offsets(0, 8) == [3, 4, 5, 6, 7]
