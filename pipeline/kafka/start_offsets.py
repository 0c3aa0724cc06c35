"""Where a consumer group begins: every partition it reads has a committed offset from the day it is provisioned."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from pipeline.errors import Refusal
from pipeline.kafka.asking import TIMEOUT_S, admin_client, answer_of, patiently, topics_of, translated
from pipeline.kafka.bounds import EARLIEST, offsets
from pipeline.kafka.offsets import BEGINS, Noted, committed, with_note
from pipeline.kafka.topics import GROUPS, TABLE, Topics

_T = TypeVar("_T")


def missing_start_offsets(config: Mapping[str, Any], topics: Topics) -> dict[str, list[tuple[str, int]]]:
    """By consumer group of a generation, the (topic, partition) pairs it reads and has no committed offset for.

    Faust leaves a partition without a committed offset where the consumer happens to stand when it rewinds.
    """
    client = admin_client(config)
    known = topics_of(client)
    wanting: dict[str, list[tuple[str, int]]] = {}
    for role in GROUPS:
        names = [topics.name(topic) for topic in TABLE if role in topic.read_by]
        pairs = [(name, number) for name in names if name in known for number in sorted(known[name].partitions)]
        have = committed(config, topics.group(role), pairs)
        lacking = [pair for pair in pairs if pair not in have]
        if lacking:
            wanting[topics.group(role)] = lacking
    return wanting


def _only(futures: dict[Any, Future[_T]]) -> _T:
    (future,) = futures.values()
    return answer_of(future)


def commit_start_offsets(config: Mapping[str, Any], group: str, wanting: list[tuple[str, int]]) -> None:
    """Commit the first offset that still exists of each partition: 0, unless records were deleted; a note says that."""
    client = admin_client(config)
    first = patiently(lambda: offsets(config, wanting, EARLIEST))
    starts = [
        with_note(place, Noted(offset, BEGINS)) if offset else TopicPartition(*place, offset)
        for place, offset in first.items()
    ]
    request = ConsumerGroupTopicPartitions(group, starts)

    def alter() -> None:
        answer = _only(client.alter_consumer_group_offsets([request], request_timeout=TIMEOUT_S))
        for partition in answer.topic_partitions or ():
            if partition.error is not None:  # the call as a whole succeeds all the same
                raise translated(KafkaException(partition.error))

    try:
        patiently(alter)
    except Refusal as error:
        raise Refusal(
            f"group {group} has no start offset on {len(starts)} partitions and cannot be given one while its "
            f"processes run; stop them, then run: meterline topics create ({error})"
        ) from error
