"""Reading a topic that has lost its beginning."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.errors import Unavailable
from pipeline.kafka.reading import read
from tests.conftest import Stack
from tests.workers import until


def test_who_has_to_begin_exactly_there_begins_nowhere_else(stack: Stack, namespace: str) -> None:
    config, topic = {"bootstrap.servers": stack.kafka}, f"{namespace}.some"
    client, producer = AdminClient(config), Producer(config)
    client.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    until(lambda: topic in client.list_topics(timeout=10).topics, "the topic is there")
    for _ in range(5):
        producer.produce(topic, b"x", partition=0)
    assert producer.flush(30) == 0
    for future in client.delete_records([TopicPartition(topic, 0, 3)]).values():
        future.result(30)

    def offsets(start: int, *, exactly: bool) -> list[int]:
        return [record.offset for record in read(config, topic, start, exactly=exactly)]

    assert offsets(1, exactly=False) == [3, 4]
    assert offsets(3, exactly=True) == [3, 4]
    assert offsets(5, exactly=True) == []
    with pytest.raises(Unavailable):
        offsets(1, exactly=True)
