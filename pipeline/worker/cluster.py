"""The brokers, as a worker asks them before it takes a partition over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.asking import ATTEMPT_S, TIMEOUT_S, admin_client, known_offset, of_leaders, translated
from pipeline.kafka.reading import read
from pipeline.worker.edges import Keyed

DESCRIBED_WITHIN_S = 5.0
"""A worker asks again, and another broker: the first may be frozen, and partitions wait meanwhile."""


class KafkaCluster:
    """``pipeline.worker.edges.Cluster`` over a librdkafka configuration."""

    def __init__(self, kafka: Mapping[str, str]) -> None:
        self._kafka = kafka

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        return describe(self._kafka, names, DESCRIBED_WITHIN_S)

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        place = TopicPartition(topic, partition)
        first, end = (
            self._offsets(topic, {place: spec})[partition]
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
        )
        return first, end

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return self._offsets(topic, {TopicPartition(topic, number): latest for number in partitions})

    def _offsets(self, topic: str, asked: dict[TopicPartition, OffsetSpec]) -> dict[int, int]:
        client = admin_client(self._kafka)

        def ask(within_s: float) -> dict[int, int]:
            answers = client.list_offsets(asked, request_timeout=within_s) if asked else {}
            return {place.partition: known_offset(future.result()) for place, future in answers.items()}

        try:
            return of_leaders(ask, lambda: client.list_topics(topic, timeout=ATTEMPT_S), TIMEOUT_S)
        except KafkaException as error:
            raise translated(error) from error

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        if start >= end:
            return []
        quiet = {**self._kafka, "log_level": 2}
        with contextlib.closing(read(quiet, topic, start, partition=partition)) as log:
            below = itertools.takewhile(lambda record: record.offset < end, log)
            return [Keyed(one.offset, one.key, one.value) for one in itertools.islice(below, most)]
