"""The brokers, as a worker asks them before it takes a partition over."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping

from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.bounds import EARLIEST, LATEST, OffsetSpec, offsets
from pipeline.kafka.reading import read
from pipeline.worker.edges import Keyed

ANSWERED_WITHIN_S = 5.0
"""A worker asks again, and another broker: the first may be frozen, and partitions wait meanwhile."""


class KafkaCluster:
    """``pipeline.worker.edges.Cluster`` over a librdkafka configuration."""

    def __init__(self, kafka: Mapping[str, str]) -> None:
        self._kafka = kafka

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        return describe(self._kafka, names, ANSWERED_WITHIN_S)

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        return self.firsts(topic, [partition])[partition], self.ends(topic, [partition])[partition]

    def firsts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return self._bounds(topic, partitions, EARLIEST)

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return self._bounds(topic, partitions, LATEST)

    def _bounds(self, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        places = [(topic, number) for number in partitions]
        found = offsets(self._kafka, places, spec, within_s=ANSWERED_WITHIN_S)
        return {number: offset for (_, number), offset in found.items()}

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        if start >= end:
            return []
        quiet = {**self._kafka, "log_level": 2}
        start = max(start, self.firsts(topic, [partition])[partition])
        with contextlib.closing(read(quiet, topic, start, partition=partition, exactly=True, upto=end)) as log:
            below = itertools.takewhile(lambda record: record.offset < end, log)
            return [Keyed(one.offset, one.key, one.value) for one in itertools.islice(below, most)]
