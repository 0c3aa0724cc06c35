"""Copying a journal into another one with other partitions, each record once, so that the fold answers the same.

What an answer depends on is kept:

    identity    all records of an identity are in one partition, before and after, and keep their order
    the clock   the fold's clock at a record is the running maximum of its partition's append times. A copy is stamped
                with that clock, and copies are written in its order over all partitions; so the clock at the copy is
                what it was at the original
    ranges      a range cancellation stands in every partition, before and after

Strays that the live worker has sent to their partition are left out: their copy is there. Records that nobody can read
come along, and stay what they are; so does what is rejected, in whichever partition it stands. See placing.py.

Copies and the offsets of what was copied are one Kafka transaction, so a copier that is killed goes on with nothing
lost and nothing twice. The offsets' notes hold the clocks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from pipeline.codec.records import Codec
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.asking import patiently
from pipeline.kafka.fence import LARGEST_BYTES
from pipeline.kafka.offsets import committed_with_notes
from pipeline.replay.placing import EVERYWHERE, Copy, Journal, Placing

Cursors = dict[int, int]
"""By partition, an offset: everything below it."""

ROUND_RECORDS: Final = 20_000
"""Records of one transaction, about."""
AHEAD_RECORDS: Final = 40_000
"""Records of one partition that wait for the others to come as far."""
TIMEOUT_S: Final = 60.0
_NOTE_END: Final = ";"
"""confluent-kafka reads an offset's note beyond its end."""
NEVER_MS: Final = 2**62


class _Waiting:
    """Records of one partition that were read and not copied yet, in their order."""

    def __init__(self, position: int, clock_ms: int) -> None:
        self.position = position
        """Below it everything is copied, or needs no copy."""
        self.clock_ms = clock_ms
        self.read_to = position
        self.end_seen = 0
        """Where the log ended when it was last seen to."""
        self.messages: list[Message] = []
        self.clocks: list[int] = []
        self._newest_ms = clock_ms

    def take(self, message: Message) -> None:
        self._newest_ms = max(self._newest_ms, message.timestamp()[1])
        self.messages.append(message)
        self.clocks.append(self._newest_ms)
        self.read_to = _offset(message) + 1

    def reached(self, offset: int) -> bool:
        """Whether everything below the offset was read."""
        return max(self.read_to, self.end_seen) >= offset

    def passed(self, offset: int, end: int) -> bool:
        """Whether it is known, too, what comes next in a log that ended there: a record, or nothing."""
        return self.read_to > offset or max(offset, self.end_seen) >= end

    def clock_at(self, offset: int) -> int:
        """The clock of the first record that waits at or above the offset; NEVER_MS without one."""
        place = bisect.bisect_left(self.messages, offset, key=_offset)
        return self.clocks[place] if place < len(self.messages) else NEVER_MS

    def up_to(self, clock_ms: int, limit: int) -> int:
        """How many of them are below the offset and not after the clock."""
        below = bisect.bisect_left(self.messages, limit, key=_offset)
        return min(below, bisect.bisect_right(self.clocks, clock_ms))

    def drop(self, count: int, position: int) -> None:
        if count:
            self.clock_ms = self.clocks[count - 1]
        self.position = position
        del self.messages[:count], self.clocks[:count]


class Copier:
    """Copies ``old`` into ``new``. One at a time: a second one with the same target ends the first."""

    def __init__(self, kafka: Mapping[str, Any], group: str, codec: Codec, old: Journal, new: Journal) -> None:
        """``group``: the consumer group that holds how far the copy has come."""
        self._old, self._new = old, new
        self._placing = Placing(old, new, codec)
        self._config = {**kafka, "log_level": 0}
        self._consumer = Consumer(
            {
                **self._config,
                "group.id": group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 32_768,
            }
        )
        self._producer = Producer(
            {
                **self._config,
                "transactional.id": f"{new.topic}-copying",
                "compression.type": "zstd",
                "linger.ms": 20,
                "batch.size": 900_000,
                "queue.buffering.max.messages": 500_000,
                "message.max.bytes": LARGEST_BYTES,  # whatever was taken once, packed in whichever way
            }
        )
        self._producer.init_transactions(TIMEOUT_S)  # whatever another copier had not finished is undone by this
        places = [(old.topic, number) for number in range(old.partitions)]
        noted = committed_with_notes(self._config, group, places)
        self._waiting = {number: _Waiting(0, 0) for number in range(old.partitions)}
        for (_, number), one in noted.items():
            self._waiting[number] = _Waiting(one.offset, int(one.note.partition(_NOTE_END)[0] or 0))
        self._written_ms = max(one.clock_ms for one in self._waiting.values())
        self._consumer.assign(
            [TopicPartition(old.topic, number, one.position) for number, one in self._waiting.items()]
        )
        self._paused: set[int] = set()

    @property
    def position(self) -> Cursors:
        return {number: one.position for number, one in self._waiting.items()}

    def copy_behind(self, limits: Cursors, ends: Cursors, horizon_ms: int, told: Callable[[int], None]) -> None:
        """Copy what is below ``limits`` and was appended up to the horizon, while more is appended.

        The live worker has done everything below ``limits``. ``ends``: of the log, asked for a moment ago. ``told``
        hears how many records were copied, again and again. Raises Refusal when a record is older than what was
        copied before it: brokers' clocks differ by more than the horizon allows for.
        """
        while True:
            self._read()
            ended = {number for number, one in self._waiting.items() if one.passed(limits[number], ends[number])}
            beyond = [one.clock_at(limits[number]) for number, one in self._waiting.items()]
            bound_ms = min(horizon_ms, self._safe_ms(ended), *beyond)
            counts = {number: one.up_to(bound_ms, limits[number]) for number, one in self._waiting.items()}
            if sum(counts.values()):
                self._refuse_disorder(counts)
                told(self._write(counts, self.position, limits))
            if len(ended) == len(self._waiting):
                return

    def copy_rest(self, ends: Cursors, acted: Cursors, told: Callable[[int], None], *, in_order: bool = True) -> None:
        """Copy all that is below ``ends`` and not copied yet; nothing below them is appended any more.

        ``acted``: below it, strays were sent to their partition by the live worker. Without ``in_order`` records may
        be older than what was copied before them: they are folded as if they had come later.
        """
        while True:
            self._read()
            ended = {number for number, one in self._waiting.items() if one.reached(ends[number])}
            done = len(ended) == len(self._waiting)
            bound_ms = self._safe_ms(ended)
            counts = {number: one.up_to(bound_ms, ends[number]) for number, one in self._waiting.items()}
            if sum(counts.values()) or done:
                if in_order:
                    self._refuse_disorder(counts)
                told(self._write(counts, ends if done else self.position, acted))
            if done:
                return

    def close(self) -> None:
        self._consumer.close()

    def _read(self) -> None:
        """One helping of records."""
        for message in self._consumer.consume(ROUND_RECORDS, 0.2):
            number, error = message.partition(), message.error()
            assert number is not None
            if error is None:
                self._waiting[number].take(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # librdkafka's own codes begin like this
                self._waiting[number].end_seen = _offset(message)
            elif error.fatal() or not error.retriable():
                raise Unavailable(f"Kafka: {error.str()}")
        full = {number for number, one in self._waiting.items() if len(one.messages) > AHEAD_RECORDS}
        topic = self._old.topic
        if full - self._paused:
            self._consumer.pause([TopicPartition(topic, number) for number in full - self._paused])
        if self._paused - full:
            self._consumer.resume([TopicPartition(topic, number) for number in self._paused - full])
        self._paused = full

    def _safe_ms(self, ended: Collection[int]) -> int:
        """Up to this clock no partition but those that have ended has anything that was not read."""
        open_ones = [one for number, one in self._waiting.items() if number not in ended]
        return min(((one.clocks[-1] if one.clocks else one.clock_ms) for one in open_ones), default=NEVER_MS)

    def _refuse_disorder(self, counts: Mapping[int, int]) -> None:
        oldest_ms = min(
            (self._waiting[number].clocks[0] for number, count in counts.items() if count), default=NEVER_MS
        )
        if oldest_ms < self._written_ms:
            raise Refusal(
                f"a record of {self._old.topic} is {self._written_ms - oldest_ms} ms older than what was copied before"
                " it: the brokers' clocks differ by more than the margin. Throw the copy away (`meterline generations"
                " drop`), and begin again with a larger --margin"
            )

    def _write(self, counts: Mapping[int, int], positions: Cursors, acted: Cursors) -> int:
        """One transaction: the copies in the order of the clock, and where the next ones begin, at least."""
        parts = [
            self._placing.copies(number, one.messages[:count], one.clocks[:count], acted[number])
            for number, one in self._waiting.items()
            if (count := counts[number])
        ]
        copies = [copy for part in parts for copy in part]
        order = np.lexsort((np.arange(len(copies)), np.array([copy.clock_ms for copy in copies], np.int64)))
        for number, count in counts.items():
            one = self._waiting[number]
            position = _offset(one.messages[count - 1]) + 1 if count else one.position
            one.drop(count, max(position, positions[number]))
        self._producer.begin_transaction()
        self._produce([copies[place] for place in order])
        offsets = [
            TopicPartition(self._old.topic, number, one.position, metadata=f"{one.clock_ms}{_NOTE_END}")
            for number, one in self._waiting.items()
        ]
        patiently(lambda: self._commit(offsets))
        if len(order):
            self._written_ms = max(self._written_ms, copies[order[-1]].clock_ms)
        return sum(counts.values())

    def _commit(self, offsets: list[TopicPartition]) -> None:
        self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), TIMEOUT_S)
        self._producer.commit_transaction(TIMEOUT_S)

    def _produce(self, copies: list[Copy]) -> None:
        """In this order, into each partition."""
        topic, produce, everywhere = self._new.topic, self._producer.produce, range(self._new.partitions)
        for count, copy in enumerate(copies):
            homes = everywhere if copy.partition == EVERYWHERE else (copy.partition,)
            for home in homes:
                produce(topic, copy.value, copy.key, home, timestamp=copy.clock_ms)
            if count % 1_000 == 0:
                self._producer.poll(0)
        self._producer.flush(TIMEOUT_S)


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset
