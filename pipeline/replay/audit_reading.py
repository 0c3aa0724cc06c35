"""Reading partitions for an audit: in order, up to an offset, and no further."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.asking import patiently
from pipeline.kafka.bounds import EARLIEST, LATEST, offsets

CHUNK_RECORDS = 5_000
POLL_S = 0.05
PATIENCE_S = 60.0
TIMEOUT_S = 20.0


class Bounds(NamedTuple):
    """The offsets that a partition has: [first, end)."""

    first: int
    end: int


def bounds_of(config: Mapping[str, Any], topic: str, partitions: int) -> list[Bounds]:
    """By partition. Raises Unavailable."""
    places = [(topic, number) for number in range(partitions)]
    first = patiently(lambda: offsets(config, places, EARLIEST))
    end = patiently(lambda: offsets(config, places, LATEST))
    return [Bounds(first[place], end[place]) for place in places]


class Client:
    """A connection on which partitions are read one after the other. Belongs to no consumer group."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._reads: tuple[str, int] | None = None
        self._consumer = Consumer(
            {
                **config,
                "group.id": "meterline-audit",  # the client asks for one; nothing is ever committed to it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",  # a gap at the beginning is an error, never skipped
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": 65_536,
            }
        )

    def messages(self, topic: str, partition: int, start: int) -> list[Any]:
        """Some messages: the next ones, or from ``start`` on when another partition was read last."""
        if self._reads != (topic, partition):
            self._consumer.assign([TopicPartition(topic, partition, start)])
            self._reads = topic, partition
        return self._consumer.consume(CHUNK_RECORDS, POLL_S)

    def rest(self) -> None:
        """Fetch nothing until somebody reads again."""
        self._consumer.unassign()
        self._reads = None

    def close(self) -> None:
        self._consumer.close()


class PartitionReader:
    """The committed records of one partition from ``start`` on, read in steps."""

    def __init__(self, client: Client, topic: str, partition: int, start: int = 0) -> None:
        self._topic, self._partition = topic, partition
        self.place = f"{topic}-{partition}"
        self.position = start
        """Every record below was handed out, or is nobody's: a transaction marker, an aborted record."""
        self._waiting: list[Any] = []
        self._reached = start
        self._client = client

    def pieces(self, end: int) -> Iterator[list[Any]]:
        """The messages below ``end`` that have not been handed out yet, some at a time; returns when all of them were.

        Raises Refusal when the log does not go on where it should, Unavailable when no broker answers or an open
        transaction hides what lies in front of ``end``.
        """
        deadline = time.monotonic() + PATIENCE_S
        while self.position < end:
            if self._waiting:
                whole = self._waiting[-1].offset() < end
                place = len(self._waiting) if whole else bisect_left(self._waiting, end, key=lambda one: one.offset())
                piece, self._waiting = self._waiting[:place], self._waiting[place:]
                self.position = piece[-1].offset() + 1 if whole else end
                if piece:
                    yield piece
                continue
            if self._reached >= end:
                self.position = max(self.position, end)
                return
            if self._fetch():
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise Unavailable(
                    f"{self.place}: nothing could be read behind offset {self._reached} for {PATIENCE_S:.0f} s; a"
                    " broker is away, or a producer's transaction is still open"
                )

    def _fetch(self) -> bool:
        """Whether something came."""
        came = False
        for message in self._client.messages(self._topic, self._partition, self._reached):
            error = message.error()
            if error is None:
                self._waiting.append(message)
                self._reached = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's own codes begin like this
                self._reached = max(self._reached, message.offset() or 0)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
                raise Refusal(
                    f"{self.place} cannot be read at offset {self._reached}: records were deleted from it while they"
                    " were read"
                )
            elif error.code() > 0 and not error.retriable():
                raise Unavailable(f"Kafka: {error.str()}")
            came |= error is None
        return came
