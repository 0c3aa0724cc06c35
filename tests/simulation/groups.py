"""A model of consumer groups, and of Faust on the batch transport as one member of one.

The coordinator knows generations: whoever is silent for too long is expelled, and what it commits afterwards is
refused. A member may not know that for a while, and goes on; that is a zombie. The member keeps Faust's order: flow
stops, queues are cleared, ``take_over`` runs, positions are sought, flow resumes; a batch that an agent has in its
hands by then stays there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from pipeline.errors import Refusal
from pipeline.stream.batch import RecordBatch
from tests.simulation.broker import Broker, Place
from tests.simulation.loop import Host

SESSION_S = 3.0
COMMIT_EVERY_S = 0.5


class Coordinator:
    """One consumer group."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.broker = broker
        self.committed: defaultdict[Place, int] = defaultdict(int)
        self.noted: set[Place] = set()
        """Places whose offset was committed with a note, by a worker that acts (pipeline/worker/acts.py)."""
        self.generation = 0
        self.members: list[Member] = []
        self.on_commit: list[Callable[[Place, int, bool], None]] = []
        self.commits_lost = 0.0
        self._random = broker.chance.of(f"group {name}")

    def join(self, member: Member) -> None:
        self.members.append(member)
        self.rebalance("join")

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.rebalance("leave")

    def silent(self, member: Member) -> None:
        """Nothing was heard of a member since SESSION_S."""
        host = member.host
        if member in self.members and (host.dead or host.frozen_until > self.broker.loop.now):
            self.members.remove(member)
            if not host.dead:
                self.broker.trace.reach("expelled a zombie")
                self.broker.loop.call_on(host, self._random.random(), member.notice)
            self.rebalance("session timeout")

    def rebalance(self, why: str) -> None:
        self.generation += 1
        self.broker.trace.say(self.broker.loop.now, self.name, "rebalance", why, self.generation)
        self.broker.trace.reach(f"rebalance of several: {why}" if len(self.members) > 1 else f"rebalance: {why}")
        order = list(self.members)
        self._random.shuffle(order)
        shares: dict[int, set[Place]] = {id(member): set() for member in order}
        turn = itertools.count()
        for topic in dict.fromkeys(topic for member in self.members for topic in member.topics):
            readers = [member for member in order if topic in member.topics]
            for number in range(self.broker.partitions[topic]):
                shares[id(readers[next(turn) % len(readers)])].add((topic, number))
        for member in order:
            delay = self._random.choice((0.001, 0.01, 0.1, 0.4))
            self.broker.loop.call_on(member.host, delay, member.assign, self.generation, shares[id(member)])

    def commit(self, member: Member, generation: int, offsets: dict[Place, int]) -> bool:
        """Whether they stand now."""
        if member not in self.members or generation != self.generation:
            self.broker.trace.reach("commit refused: another generation")
            return False
        if self._random.random() < self.commits_lost:
            self.broker.trace.reach("commit lost")
            return False
        for place, offset in offsets.items():
            for told in self.on_commit:
                told(place, offset, member.acting)
            self.committed[place] = offset
            (self.noted.add if member.acting else self.noted.discard)(place)
        if self._random.random() < self.commits_lost:
            self.broker.trace.reach("commit's answer lost")
            return False
        return True


class Batch:
    """``pipeline.stream.received.Received``"""

    def __init__(self, member: Member, value: RecordBatch) -> None:
        self.value = value
        self.generation = member.generation
        self._member = member
        self._acked = False

    def ack(self) -> None:
        if not self._acked:
            self._acked = True
            self._member.acked.setdefault((self.value.topic, self.value.partition), []).append(
                self.value.next_offset - 1
            )


class Member:
    """One process's consumer: what our steps see of Faust. Also ``pipeline.worker.edges.Group``."""

    def __init__(
        self,
        host: Host,
        coordinator: Coordinator,
        topics: list[str],
        batch_records: int,
        acting: bool = False,
    ) -> None:
        """``acting``: whether it commits with the note of a worker that acts."""
        self.topics = topics
        self.acting = acting
        self.take_over: Callable[[], Awaitable[None]] | None = None
        self.start_offsets: Callable[[set[Place]], dict[Place, int]] = lambda assigned: {}
        """Where to read on from, if not where the group stands. Called in a thread."""
        self.host = host
        self.coordinator = coordinator
        self.broker = coordinator.broker
        self.generation = -1
        self.assignment: set[Place] = set()
        self.acked: dict[Place, list[int]] = {}
        self.known_committed: dict[Place, int] = {}
        self._batch_records = batch_records
        self._random = self.broker.chance.of(f"member {host.name}")
        self._positions: dict[Place, int] = {}
        self._group_stood_at: dict[Place, int] = {}
        self._committing = asyncio.Lock()
        self._flow = False
        self._queues: dict[str, deque[Batch]] = {topic: deque() for topic in topics}
        self._some: dict[str, asyncio.Event] = {topic: asyncio.Event() for topic in self._queues}
        self._reassigned = asyncio.Event()
        self._news = asyncio.Event()
        self.journal = next((topic for topic in self._queues if topic.endswith("meter-events")), "")

    # What the group tells.

    def assign(self, generation: int, places: set[Place]) -> None:
        if generation != self.coordinator.generation:
            return  # news of another generation are under way
        revoked = self.assignment
        self._flow = False
        for queue in self._queues.values():
            queue.clear()
        for place in revoked:
            self.acked.pop(place, None)
        self._group_stood_at = {}  # until the positions are sought again nothing is committed
        for place in revoked:
            self.known_committed.pop(place, None)
        self.generation, self.assignment = generation, places
        self.broker.trace.say(self.broker.loop.now, self.host.name, "assigned", generation, sorted(places))
        self._reassigned.set()

    def notice(self) -> None:
        """A heartbeat was refused: join again."""
        self.broker.trace.say(self.broker.loop.now, self.host.name, "zombie notices")
        self.coordinator.join(self)

    # pipeline.worker.edges.Group

    def assigned(self) -> set[int]:
        return {partition for topic, partition in self.assignment if topic == self.journal}

    async def committed(self, partitions: set[int]) -> dict[int, int]:
        await asyncio.sleep(0.005)
        return {number: self.coordinator.committed[self.journal, number] for number in partitions}

    def note_done(self, partition: int, next_offset: int) -> None:
        self.note_place((self.journal, partition), next_offset)

    def note_place(self, place: Place, next_offset: int) -> None:
        self.acked.setdefault(place, []).append(next_offset - 1)

    # Its tasks.

    async def rebalance_forever(self) -> None:
        while True:
            await self._reassigned.wait()
            self._reassigned.clear()
            generation = self.generation
            if self.take_over is not None:
                await self.take_over()
            if generation != self.generation:
                self.broker.trace.reach("rebalanced again during a take over")
                continue
            starts = await asyncio.to_thread(self.start_offsets, self.assignment)
            if generation != self.generation:
                continue
            for place in sorted(self.assignment):
                self._group_stood_at[place] = self.known_committed[place] = self.coordinator.committed[place]
                self._positions[place] = starts.get(place, self.coordinator.committed[place])
            self._flow = True
            self._news.set()

    async def fetch_forever(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._random.choice((0.001, 0.005, 0.02)))
            if not self._fetch():
                self._news.clear()

    def _fetch(self) -> bool:
        """Queue a batch of each partition that has news; whether there were any."""
        if not self._flow:
            return False
        found = False
        for place in sorted(self.assignment):
            topic, partition = place
            log, start = self.broker.logs[place], self._positions[place]
            if len(self._queues[topic]) >= 3:
                continue  # the agent that takes one wakes us
            if log.away_until > self.broker.loop.now:
                self.broker.loop.call_on(self.host, log.away_until - self.broker.loop.now + 0.001, self._news.set)
                continue
            if start < log.first:
                self.broker.trace.reach("fetch behind the start of the log")
                if start:
                    raise Refusal(f"{place} begins at offset {log.first}, and is to be read on at {start}")
                start = log.first  # 0 is where a log begins
            records = log.since(start, self._random.randint(1, self._batch_records))
            if not records and start >= log.end:
                continue
            whole = not records or records[-1].offset == log.records[-1].offset
            next_offset = log.end if whole else records[-1].offset + 1
            self._queues[topic].append(
                Batch(
                    self,
                    RecordBatch(
                        topic,
                        partition,
                        start,
                        next_offset,
                        np.array([one.offset for one in records], np.int64),
                        np.array([one.appended_at_ms for one in records], np.int64),
                        [one.key for one in records],
                        [one.value for one in records],
                    ),
                )
            )
            self._positions[place] = next_offset
            self._some[topic].set()
            found = True
        return found

    def wake(self, place: Place) -> None:
        """There is something new in a log."""
        if self._flow and place in self.assignment:
            self._news.set()

    async def stream(self, topic: str) -> Any:
        """What an agent iterates over."""
        queue, some = self._queues[topic], self._some[topic]
        while True:
            while not queue:
                some.clear()
                await some.wait()
            batch = queue.popleft()
            if self._flow:
                self._news.set()
            if self._flow and batch.generation == self.generation:
                yield batch

    async def commit_forever(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            if self.acked:
                await self.commit()

    async def commit(self) -> None:
        async with self._committing:
            await self._commit()

    async def _commit(self) -> None:
        """As ``pipeline.stream.transport.BatchConsumer`` and Faust below it do."""
        offsets = {}
        for place in sorted(self.assignment & self.acked.keys() & self._group_stood_at.keys()):
            offset = max(self.acked.pop(place)) + 1
            if offset >= max(self.known_committed.get(place, 0), self._group_stood_at[place]):
                offsets[place] = offset
        if not offsets:
            return
        generation = self.generation
        await asyncio.sleep(self._random.choice((0.001, 0.02, 0.3)))
        self.broker.loop.effect("commit", "before")
        if not self.coordinator.commit(self, generation, offsets):
            for place in self.assignment & offsets.keys():
                self.acked.setdefault(place, []).append(offsets[place] - 1)
        self.broker.loop.effect("commit", "after")
        self.known_committed.update(offsets)
        await asyncio.sleep(0.001)
