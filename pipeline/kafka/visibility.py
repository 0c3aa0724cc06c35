"""How far the journal can be seen in ClickHouse: three numbers per partition, read in an order that makes them true.

First how far the worker has folded (its committed offset: everything below it was published), then how long the topic
of summaries is. What stood below that end when it was read says everything that was folded; so when the sink has copied
so far, later, all of it can be seen. Connections are kept: a look costs a few requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline.errors import Unavailable
from pipeline.kafka.bounds import LATEST, newest_ms, offsets
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


class VisibilityReader:
    """Looks at one generation again and again, from one thread. Raises Unavailable."""

    def __init__(self, config: Mapping[str, Any], topics: Topics, partitions: int) -> None:
        self.topics = topics
        self._config = config
        self._partitions = range(partitions)
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
        folded = self._committed(self._worker, self.topics.journal)
        summaries_end = self._ends(self.topics.summaries)
        copied = self._committed(self._sink, self.topics.summaries)
        ends = self._ends(self.topics.journal)
        times = newest_ms(self._config, self._places(self.topics.journal), within_s=TIMEOUT_S)
        newest = {number: at_ms for (_, number), at_ms in times.items() if at_ms >= 0}
        return Look(folded, summaries_end, copied, ends, newest)

    def _committed(self, consumer: Consumer, topic: str) -> Offsets:
        places = consumer.committed([TopicPartition(topic, number) for number in self._partitions], timeout=TIMEOUT_S)
        return {place.partition: max(0, place.offset) for place in places}

    def _ends(self, topic: str) -> Offsets:
        found = offsets(self._config, self._places(topic), LATEST, within_s=TIMEOUT_S)
        return {number: end for (_, number), end in found.items()}

    def _places(self, topic: str) -> list[tuple[str, int]]:
        return [(topic, number) for number in self._partitions]


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
