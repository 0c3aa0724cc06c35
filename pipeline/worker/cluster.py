"""The brokers, as a worker asks them before it takes a partition over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.asking import TIMEOUT_S, admin_client, answer_of
from pipeline.kafka.reading import read
from pipeline.worker.edges import Keyed


class KafkaCluster:
    """``pipeline.worker.edges.Cluster`` over a librdkafka configuration."""

    def __init__(self, kafka: Mapping[str, str]) -> None:
        self._kafka = kafka

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        return describe(self._kafka, names)

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        admin = AdminClient({**self._kafka, "log_level": 2})
        place = TopicPartition(topic, partition)
        found = [
            admin.list_offsets({place: spec}, request_timeout=30)[place].result().offset
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
        ]
        return found[0], found[1]

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(topic, number): latest for number in partitions}
        answers = admin_client(self._kafka).list_offsets(asked, request_timeout=TIMEOUT_S) if asked else {}
        return {place.partition: int(answer_of(future).offset) for place, future in answers.items()}

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        if start >= end:
            return []
        quiet = {**self._kafka, "log_level": 2}
        with contextlib.closing(read(quiet, topic, start, partition=partition)) as log:
            below = itertools.takewhile(lambda record: record.offset < end, log)
            return [Keyed(one.offset, one.key, one.value) for one in itertools.islice(below, most)]
