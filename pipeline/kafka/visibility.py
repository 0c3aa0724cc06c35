"""How far the journal can be seen in ClickHouse: three numbers per partition, read in an order that makes them true.

First how far the worker has folded (its committed offset: everything below it was published), then how long the topic
of summaries is. What stood below that end when it was read says everything that was folded; so when the sink has copied
so far, later, all of it can be seen. Connections are kept: a look costs a few requests.

An explanation is made of more than summaries, and the sink copies each topic by itself; so a look counts as well what
is on its way to ClickHouse by the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.errors import Unavailable
from pipeline.kafka.bounds import LATEST, Place, newest_ms, offsets
from pipeline.kafka.topics import Topics

TIMEOUT_S = 5.0

Offsets = dict[int, int]
"""By journal partition."""


class Look(NamedTuple):
    """One look. All offsets are those of the next record."""

    folded: Offsets
    summaries_end: Offsets
    """Read after ``folded``."""
    copied: Offsets
    """How far the sink has come with the summaries; read after ``summaries_end``."""
    journal_end: Offsets
    newest_ms: Offsets
    """When the newest record was appended; absent where there is none."""
    beside: int = 0
    """Records beside the summaries that are on their way: adjustments that the worker has not taken, and dispositions,
    adjustments and, for the event log, journal records that the sink has not copied. Read in the same order.
    """


class VisibilityReader:
    """Looks at one generation again and again, from one thread. Raises Unavailable."""

    def __init__(
        self, config: Mapping[str, Any], topics: Topics, partitions: int, adjustments: int, *, event_log: bool
    ) -> None:
        """``partitions``: of the journal; ``adjustments``: of that topic. ``event_log``: whether the sink copies it."""
        self.topics = topics
        self._config = config
        self._journal = _places(topics.journal, partitions)
        self._summaries = _places(topics.summaries, partitions)
        self._dispositions = _places(topics.dispositions, partitions)
        self._adjustments = _places(topics.adjustments, adjustments)
        self._event_log = self._journal if event_log else []
        self._worker = _asking(config, topics.worker_group)
        self._sink = _asking(config, topics.sink_group)

    def look(self) -> Look:
        try:
            return self._look()
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error.args[0].str()}") from error

    def appended_at_ms(self, partition: int, offset: int) -> int | None:
        """When the first record at or behind an offset was appended; None when it cannot be read in time."""
        self._worker.assign([TopicPartition(self.topics.journal, partition, offset)])
        try:
            message = self._worker.poll(TIMEOUT_S)
            return None if message is None or message.error() is not None else int(message.timestamp()[1])
        finally:
            self._worker.unassign()

    def close(self) -> None:
        self._worker.close()
        self._sink.close()

    def _look(self) -> Look:
        others = self._dispositions + self._adjustments
        folded = _committed(self._worker, self._journal + self._adjustments)
        ends = self._ends(self._summaries + others)
        copied = _committed(self._sink, self._summaries + others + self._event_log)
        ends |= self._ends(self._journal)
        times = newest_ms(self._config, self._journal, within_s=TIMEOUT_S)
        return Look(
            _of(folded, self._journal),
            _of(ends, self._summaries),
            _of(copied, self._summaries),
            _of(ends, self._journal),
            {number: at_ms for (_, number), at_ms in times.items() if at_ms >= 0},
            _left(ends, folded, self._adjustments) + _left(ends, copied, others + self._event_log),
        )

    def _ends(self, places: list[Place]) -> dict[Place, int]:
        return offsets(self._config, places, LATEST, within_s=TIMEOUT_S)


def _places(topic: str, partitions: int) -> list[Place]:
    return [(topic, number) for number in range(partitions)]


def _committed(consumer: Consumer, places: list[Place]) -> dict[Place, int]:
    found = consumer.committed([TopicPartition(*place) for place in places], timeout=TIMEOUT_S)
    return {(one.topic, one.partition): max(0, one.offset) for one in found}


def _of(found: Mapping[Place, int], places: list[Place]) -> Offsets:
    return {place[1]: found[place] for place in places}


def _left(ends: Mapping[Place, int], come: Mapping[Place, int], places: list[Place]) -> int:
    return sum(max(0, ends[place] - come[place]) for place in places)


def _asking(config: Mapping[str, Any], group: str) -> Consumer:
    """A consumer that never joins its group: it is for asking alone."""
    return Consumer(
        {
            **config,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "fetch.message.max.bytes": 64 * 1024,
            "queued.max.messages.kbytes": 1_024,
            "log_level": 0,
        }
    )
