"""The brokers, as a worker asks them before it takes a partition over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping

from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.bounds import EARLIEST, LATEST, Place, offsets
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
        return self.firsts(topic, [partition])[partition], self.ends(topic, [partition])[partition]

    def firsts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return _by_number(offsets(self._kafka, [(topic, number) for number in partitions], EARLIEST))

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return _by_number(offsets(self._kafka, [(topic, number) for number in partitions], LATEST))

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        if start >= end:
            return []
        quiet = {**self._kafka, "log_level": 2}
        with contextlib.closing(read(quiet, topic, start, partition=partition)) as log:
            below = itertools.takewhile(lambda record: record.offset < end, log)
            return [Keyed(one.offset, one.key, one.value) for one in itertools.islice(below, most)]


def _by_number(found: Mapping[Place, int]) -> dict[int, int]:
    """Of one topic."""
    return {number: offset for (_, number), offset in found.items()}
