"""The brokers, as a worker asks them before it takes a partition over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.kafka.admin import TopicState, describe


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
