"""What a consumer group has committed.

Asked through a consumer that never joins: while a group's coordinator loads, confluent-kafka 2.16.1's admin client
sometimes dies of the answer, with a segmentation fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.kafka.asking import patiently, translated

TIMEOUT_S = 20.0


def committed(config: Mapping[str, Any], group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The committed offset of each (topic, partition) that has one. Raises Unavailable."""
    asked = [TopicPartition(topic, partition) for topic, partition in places]
    if not asked:
        return {}
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})

    def ask() -> list[TopicPartition]:
        try:
            return consumer.committed(asked, timeout=TIMEOUT_S)
        except KafkaException as error:
            raise translated(error) from error

    try:
        answer = patiently(ask)
    finally:
        consumer.close()
    return {(place.topic, place.partition): place.offset for place in answer if place.offset >= 0}
