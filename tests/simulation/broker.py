"""A model of the brokers: partitions, LogAppendTime with clocks that jump, leaders that change, records that expire.

``SimOutlet`` is one process's idempotent producer: order per partition is kept and a retry makes no second copy, but a
request that was on the wire is applied even when its sender has died, and an acknowledgement may be long in coming.
"""

from __future__ import annotations

import asyncio
import bisect
import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pipeline.domain.partitioning import partition_of
from pipeline.errors import PublishFailed
from pipeline.kafka.admin import TopicState
from pipeline.worker.edges import Keyed
from tests.simulation.chance import Chance, Trace
from tests.simulation.loop import HOST, Host, SimLoop

T0_MS = 1_700_000_000_000
LEAP_MS = 30_000
"""Between two records, more than passes in a world."""

Place = tuple[str, int]


class Stored(NamedTuple):
    """A record as it stands in a log."""

    offset: int
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_offset_of = operator.attrgetter("offset")


class Log:
    """One partition."""

    def __init__(self) -> None:
        self.records: list[Stored] = []
        self.first = 0
        self.end = 0
        self.skew_ms = 0
        self.away_until = 0.0
        """Until when it has no leader."""

    def since(self, offset: int, count: int) -> list[Stored]:
        start = bisect.bisect_left(self.records, offset, key=_offset_of)
        return self.records[start : start + count]


class Broker:
    """All topics, and the clock that stamps records."""

    def __init__(self, loop: SimLoop, chance: Chance, trace: Trace, partitions: dict[str, int]) -> None:
        self.loop = loop
        self.chance = chance
        self.trace = trace
        self.partitions: dict[str, int] = {}
        self.logs: dict[Place, Log] = {}
        self.deleted: set[str] = set()
        for topic, count in partitions.items():
            self.create(topic, count)
        self.holes = 0.0
        self.on_append: list[Callable[[str, int, Stored], None]] = []
        self.leap_ms = 0
        self.tick_ms = 1

    def clock_ms(self, skew_ms: int = 0) -> int:
        return T0_MS + (int(self.loop.now * 1000) + self.leap_ms + skew_ms) // self.tick_ms * self.tick_ms

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic, where there is none."""
        if topic not in self.partitions:
            self.partitions[topic] = partitions
            self.logs |= {(topic, number): Log() for number in range(partitions)}

    def compact(self, place: Place, below: int) -> None:
        """Of the records below an offset, keep the last one of each key."""
        log = self.logs[place]
        last = {one.key: one.offset for one in log.records if one.offset < below}
        kept = [one for one in log.records if one.offset >= below or last[one.key] == one.offset]
        if len(kept) < len(log.records):
            self.trace.reach("a log was compacted")
        log.records = kept

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> Stored:
        """Stamp a record and put it at the end."""
        log = self.logs[topic, partition]
        stored = Stored(log.end, self.clock_ms(log.skew_ms), key, value, tuple(headers))
        if log.records and abs(apart_ms := stored.appended_at_ms - log.records[-1].appended_at_ms) > LEAP_MS:
            self.trace.reach("a clock leapt ahead" if apart_ms > 0 else "a clock stepped back")
        log.records.append(stored)
        log.end += 1
        if self.holes and self.chance.of("holes").random() < self.holes:
            log.end += 1  # a transaction marker, which is nobody's record
        for told in self.on_append:
            told(topic, partition, stored)
        return stored

    def home(self, topic: str, key: bytes) -> int:
        return partition_of(key.decode(), self.partitions[topic])

    def end(self, topic: str) -> dict[int, int]:
        return {number: self.logs[topic, number].end for number in range(self.partitions[topic])}

    # pipeline.worker.edges.Cluster

    def describe(self, names: Iterable[str]) -> dict[str, TopicState]:
        config = {"message.timestamp.type": "LogAppendTime"}
        return {
            name: TopicState(name, "first", self.partitions[name], 3, config)
            for name in names
            if name in self.partitions and name not in self.deleted
        }

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        log = self.logs[topic, partition]
        return log.first, log.end

    def firsts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return {number: self.logs[topic, number].first for number in partitions}

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return {number: self.logs[topic, number].end for number in partitions}

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        found = [one for one in self.logs[topic, partition].records if start <= one.offset < end]
        return [Keyed(one.offset, one.key, one.value) for one in found[:most]]


class SimOutlet:
    """``pipeline.kafka.outlet.Outlet`` of one host."""

    def __init__(self, broker: Broker, host: Host) -> None:
        self._broker = broker
        self._host = host
        self._random = broker.chance.of(f"outlet {host.name}")
        self._queues: defaultdict[Place, deque[tuple[Any, ...]]] = defaultdict(deque)
        self._under_way = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._error: Exception | None = None
        self.gives_up = False

    def publish(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        if partition < 0:
            partition = self._broker.home(topic, key) if key and topic.endswith("meter-events") else 0
        self._hand_over((topic, partition), [(key, value, tuple(headers or ()))])

    def publish_batch(self, topic: str, partition: int, messages: Sequence[tuple[bytes, bytes]]) -> None:
        self._hand_over((topic, partition), [(key, value, ()) for key, value in messages])

    def _hand_over(self, place: Place, records: list[tuple[Any, ...]]) -> None:
        self._broker.loop.effect("hand over", "before")
        queue = self._queues[place]
        if not queue:
            self._send_later(place)
        queue.extend(records)
        self._under_way += len(records)
        self._broker.loop.effect("hand over", "after")

    def _send_later(self, place: Place) -> None:
        # Not in the host's context: a request on the wire arrives whatever becomes of its sender.
        self._broker.loop.call_on(None, self._latency(), self._send, place)

    def _latency(self) -> float:
        return self._random.choice((0.001, 0.003, 0.010, 0.040))

    def _send(self, place: Place) -> None:
        queue, broker = self._queues[place], self._broker
        log = broker.logs[place]
        if place[0] in broker.deleted:
            return
        if log.away_until > broker.loop.now:
            broker.trace.reach("publish waited for a leader")
            broker.loop.call_on(None, log.away_until - broker.loop.now + 0.001, self._send, place)
            return
        if self.gives_up and not self._host.dead:
            self._fail()
            return
        if self._host.dead and self._random.random() < 0.5:
            return
        taken = [queue.popleft() for _ in range(min(len(queue), self._random.choice((1, 3, 1000))))]
        if self._host.dead:
            broker.trace.reach("appended after its sender's death")
        for key, value, headers in taken:
            broker.append(*place, key, value, headers)
        if self._host.dead:
            return
        if queue:
            self._send_later(place)
        lost = self._random.random() < 0.05
        if lost:
            broker.trace.reach("acknowledgement lost after the append")
        broker.loop.call_on(self._host, self._latency() + (0.2 if lost else 0.0), self._acknowledged, len(taken))

    def _acknowledged(self, count: int) -> None:
        self._under_way -= count
        if not self._under_way:
            for waiter in self._waiters:
                waiter.set_result(None)
            self._waiters.clear()

    def _fail(self) -> None:
        self._broker.trace.reach("a publisher gave up")
        self._error = PublishFailed("Kafka did not take a record")
        for waiter in self._waiters:
            waiter.set_exception(self._error)
            waiter.exception()  # seen: who waits may be dead
        self._waiters.clear()

    def flush(self, timeout_s: float) -> Any:
        assert HOST.get() is self._host
        if self._error is not None:
            raise self._error
        if not self._under_way:
            return None
        waiter = self._broker.loop.create_future()
        self._waiters.append(waiter)
        return self._broker.loop.waiting(waiter)
