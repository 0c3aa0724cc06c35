"""How far a group has come, as real brokers tell it."""

from __future__ import annotations

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.kafka.lag import Lag, LagReader
from pipeline.kafka.offsets import Noted, put_back
from tests.conftest import Stack
from tests.workers import until


def test_what_is_behind_and_what_is_left_of_before(stack: Stack, namespace: str) -> None:
    config = {"bootstrap.servers": stack.kafka}
    topic, group = f"{namespace}.some", f"{namespace}-reader"
    client, producer, reader = AdminClient(config), Producer(config), LagReader(config)

    def send(partition: int, count: int) -> None:
        for _ in range(count):
            producer.produce(topic, b"x", partition=partition)
        assert producer.flush(30) == 0

    def come(partition: int, offset: int) -> None:
        put_back(config, group, {(topic, partition): Noted(offset, "")})

    client.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)
    until(lambda: topic in client.list_topics(timeout=10).topics, "the topic is there")
    send(0, 5)
    send(1, 3)
    ends = reader.ends([topic, f"{namespace}.none"])
    assert ends == {(topic, 0): 5, (topic, 1): 3}
    assert reader.left(group, ends) == 8
    come(0, 2)
    send(1, 10)
    come(0, 5)
    assert reader.left(group, ends) == 3
    assert reader.lag(group, [topic, f"{namespace}.none"]) == {topic: Lag(18, 13)}
    come(1, 2)
    assert reader.left(group, ends) == 1, "what came later is none of it"
    for future in client.delete_records([TopicPartition(topic, 1, 4)]).values():
        future.result(30)
    assert reader.left(group, ends) == 0, "nobody waits for what is gone"
    assert reader.lag(group, [topic]) == {topic: Lag(14, 9)}
