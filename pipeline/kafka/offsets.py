"""What a consumer group has committed.

Asked through a consumer that never joins: while a group's coordinator loads, confluent-kafka 2.16.1's admin client
sometimes dies of the answer, with a segmentation fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline.errors import Refusal
from pipeline.kafka.asking import patiently, translated

TIMEOUT_S = 20.0

BEGINS = "begins"
"""The note beside an offset at which nobody has stopped: a group was given it because its log begins there."""


class Noted(NamedTuple):
    """A committed offset, and what its committer wrote beside it."""

    offset: int
    note: str


def committed(config: Mapping[str, Any], group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The committed offset of each (topic, partition) that has one. Raises Unavailable."""
    return {place: noted.offset for place, noted in committed_with_notes(config, group, places).items()}


def committed_with_notes(
    config: Mapping[str, Any], group: str, places: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], Noted]:
    """As ``committed``, with the notes."""
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
    return {
        (place.topic, place.partition): Noted(place.offset, place.metadata or "")
        for place in answer
        if place.offset >= 0
    }


def put_back(config: Mapping[str, Any], group: str, places: Mapping[tuple[str, int], Noted]) -> None:
    """Set a group's offsets. Raises Refusal while it has members."""
    if not places:
        return
    consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
    offsets = [with_note(place, one) for place, one in places.items()]
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID:
            raise Refusal(f"workers still run in group {group}: stop them first") from error
        raise translated(error) from error
    finally:
        consumer.close()


def with_note(place: tuple[str, int], noted: Noted) -> TopicPartition:
    """A (topic, partition) and what is to be committed there.

    Notes get a blank behind them: confluent-kafka 2.16.1 reads what it has written itself beyond its end.
    """
    return TopicPartition(*place, noted.offset, metadata=f"{noted.note} ")
