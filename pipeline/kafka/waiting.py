"""How long the oldest record has been waiting that a consumer group has not done yet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.errors import Unavailable
from pipeline.kafka.asking import admin_client
from pipeline.kafka.bounds import LATEST, offsets
from pipeline.kafka.offsets import committed

TIMEOUT_S = 5.0


def oldest_waiting_ms(config: Mapping[str, Any], group: str, topics: Iterable[str]) -> int | None:
    """When the oldest record that the group has not committed was appended; None when nothing waits.

    Unix milliseconds of the broker's clock. Reads one record of each partition that is behind. Raises Unavailable
    when Kafka does not answer.
    """
    try:
        behind = _first_waiting(config, group, list(topics))
        return min(_appended_at_ms(config, behind), default=None) if behind else None
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from error


def _first_waiting(config: Mapping[str, Any], group: str, topics: list[str]) -> list[TopicPartition]:
    known = admin_client(config).list_topics(timeout=TIMEOUT_S).topics
    every = [(topic, number) for topic in topics if topic in known for number in known[topic].partitions]
    if not every:
        return []
    ends = offsets(config, every, LATEST, within_s=TIMEOUT_S)
    stands = committed(config, group, every)
    come = {place: max(0, stands.get(place, 0)) for place in every}
    return [TopicPartition(*place, come[place]) for place, end in ends.items() if come[place] < end]


def _appended_at_ms(config: Mapping[str, Any], places: list[TopicPartition]) -> Iterable[int]:
    """Of the first record at or after each place. A place behind which only transaction marks are left gives none."""
    consumer = Consumer(
        {
            **config,
            "group.id": "meterline-reading",  # the client asks for one; nothing is ever committed to it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    left = {(place.topic, place.partition) for place in places}
    found = []
    deadline = time.monotonic() + TIMEOUT_S
    try:
        consumer.assign(places)
        while left and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None:
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            if message.error() is None and place in left:
                found.append(int(message.timestamp()[1]))
            left.discard(place)
            # Only its first record is wanted; without this, the rest of the partition would come along.
            consumer.pause([TopicPartition(*place)])
    finally:
        consumer.close()
    return found
