"""The worker without Faust: what it does with a batch, at a flush, at a rebalance, and in which order.

The journal agent folds batches in memory. A flush takes what changed in all partitions, publishes it, waits for the
brokers, writes one batch per store with its cursor, and only then acknowledges the batches (invariant 5). Folding goes
on while a flush waits. The adjustment agent routes cancellations into the journal.

Whatever raises here has to end the process: what a flush published in part, recovery settles. Every ``await`` is a
place where the process may die, be frozen, or lose its partitions; the simulator (tests/simulation) tries them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from pipeline.codec.records import Codec
from pipeline.errors import Unavailable
from pipeline.kafka.outlet import Outlet
from pipeline.kafka.topics import Topics
from pipeline.stream.batch import RecordBatch
from pipeline.stream.insisting import when_answered
from pipeline.stream.received import Received, Stream
from pipeline.worker.edges import Group, Stores
from pipeline.worker.opening import Opening
from pipeline.worker.partition import Partition, PartitionCut
from pipeline.worker.publishing import PUBLISH_TIMEOUT_S, publish
from pipeline.worker.router import route
from pipeline.worker.summary_log import Look, SummaryLogs

log = logging.getLogger("meterline.worker")

JOURNAL_LOOK_EVERY_S = 5.0
SUMMARIES_LOOK_EVERY_S = 5.0
AHEAD_MAX = 64
"""Batches in a row that may begin ahead of a fold: far more than can wait for the agent at a rebalance."""


@dataclasses.dataclass(frozen=True, slots=True)
class CoreLimits:
    """When a worker flushes, and when it copies its state away."""

    flush_every_ms: int
    flush_records: int
    """Records in memory that make a flush due at once; at twice as many, folding waits for it."""
    snapshot_every_ms: int


class WorkerCore:
    """One worker's part of the journal."""

    def __init__(
        self,
        limits: CoreLimits,
        codec: Codec,
        topics: Topics,
        outlet: Outlet,
        opening: Opening,
        stores: Stores,
        on_open: Callable[[Partition, int], None] = lambda partition, committed: None,
    ) -> None:
        """``on_open`` is told of every partition that was opened, with the group's offset. What it publishes then is
        with the brokers before the partition goes on.
        """
        self.limits = limits
        self.codec = codec
        self.topics = topics
        self.outlet = outlet
        self.opening = opening
        self.stores = stores
        self.on_open = on_open
        self.partitions: dict[int, Partition] = {}
        self.held: list[Received] = []
        """Batches folded and not yet acknowledged."""
        self._ahead: Counter[int] = Counter()
        """By partition, batches since the last one that did not begin ahead of its fold."""
        self.changed = asyncio.Event()
        self.full = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.flushing = asyncio.Lock()
        self.snapshot_due = asyncio.Event()
        """Somebody wants snapshots now."""

    # Agents.

    async def fold_all(self, stream: Stream) -> None:
        """The journal agent."""
        async for received in stream:
            await self.room.wait()
            await self._check_place(received.value)
            self._fold(received)
            await asyncio.sleep(0)

    async def _check_place(self, batch: RecordBatch) -> None:
        """A batch that does not begin where the fold stands is of before a rebalance, or of another journal."""
        partition = self.partitions.get(batch.partition)
        if partition is not None and batch.start != partition.next_offset:
            place = batch.partition, partition.next_offset
            await when_answered(partial(self.opening.check_place, *place))

    def _fold(self, received: Received) -> None:
        batch = received.value
        partition = self.partitions.get(batch.partition)
        if partition is None:
            return  # revoked while the batch waited; the next owner reads it again
        if batch.start > partition.next_offset:
            self._pass_over(batch, partition.next_offset)
            return
        self._ahead.pop(batch.partition, None)
        batch = batch.since(partition.next_offset)
        if batch.start == partition.next_offset and batch.next_offset > batch.start:
            partition.fold(batch)
        self.held.append(received)
        self.changed.set()
        records_held = sum(one.records_held for one in self.partitions.values())
        if records_held >= self.limits.flush_records:
            self.full.set()
        if records_held >= 2 * self.limits.flush_records:
            self.room.clear()

    def _pass_over(self, batch: RecordBatch, next_offset: int) -> None:
        """It was revoked, and is back again from an earlier place, from which it is read again: soon."""
        self._ahead[batch.partition] += 1
        assert self._ahead[batch.partition] < AHEAD_MAX, (
            f"partition {batch.partition} is read at offset {batch.start}, but the fold stands at {next_offset}, and"
            f" {AHEAD_MAX} batches have not changed that: nothing of it would be counted"
        )

    async def route_all(self, stream: Stream) -> None:
        """The adjustment agent."""
        async for received in stream:
            await asyncio.to_thread(self._route, received.value)
            await asyncio.to_thread(self.outlet.flush, PUBLISH_TIMEOUT_S)
            received.ack()

    def _route(self, batch: RecordBatch) -> None:
        route(batch, self.codec, self.outlet, self.topics, self.opening.journal_partitions())

    # The flush.

    async def flush_forever(self) -> None:
        while True:
            await self.changed.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.flush_every_ms / 1000):
                    await self.full.wait()
            async with self.flushing:
                await self._flush()

    async def _flush(self) -> None:
        self.changed.clear()
        self.full.clear()
        held, self.held = self.held, []
        cuts = [(partition, partition.cut()) for partition in self.partitions.values()]
        self.room.set()
        await asyncio.to_thread(self._publish, [cut for _, cut in cuts])
        await asyncio.to_thread(self.outlet.flush, PUBLISH_TIMEOUT_S)
        await asyncio.to_thread(_write, cuts)
        for partition, _ in cuts:
            partition.wrote()
        for received in held:
            received.ack()

    def _publish(self, cuts: list[PartitionCut]) -> None:
        for cut in cuts:
            publish(self.outlet, self.codec, self.topics, cut)

    async def flush_last(self) -> None:
        """Before a stop: what was folded need not be folded again."""
        async with self.flushing:
            if self.changed.is_set():
                await self._flush()
            for partition in self.partitions.values():
                await asyncio.to_thread(partition.store.flush)

    # Snapshots.

    async def snapshot_forever(self) -> None:
        taken: dict[int, int] = {}
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.snapshot_every_ms / 1000):
                    await self.snapshot_due.wait()
            self.snapshot_due.clear()
            for number in sorted(self.partitions):
                async with self.flushing:  # between two writes the store stands at its cursor
                    partition = self.partitions.get(number)
                    if partition is None or partition.cursor == taken.get(number):
                        continue
                    cursor, origin = partition.cursor, partition.origin
                    checkpoint = await asyncio.to_thread(self.stores.checkpoint, partition.store)
                if await asyncio.to_thread(self.stores.keep, origin, cursor, checkpoint):
                    taken[number] = cursor

    # The journal must stay what it is (invariant 8).

    async def watch_journal(self) -> None:
        """Raise when the journal was made anew, got more partitions, or lost records that are unread or its newest;
        Kafka's clients would go on with any of these, or wait for ever.
        """
        cut_off: dict[int, int] = {}
        while True:
            await asyncio.sleep(JOURNAL_LOOK_EVERY_S)
            with contextlib.suppress(Unavailable):  # whoever needs the broker now, waits for it
                await asyncio.to_thread(self.opening.topic)
                stands = {number: partition.next_offset for number, partition in self.partitions.items()}
                before, cut_off = cut_off, await asyncio.to_thread(self.opening.cut_off, stands)
                # Once is what a leader says, too, that has just thawed; and a fold that goes on lacks nothing.
                for number, next_offset in sorted(before.items() & cut_off.items()):
                    await asyncio.to_thread(self.opening.check_place, number, next_offset)

    async def watch_summaries(self) -> None:
        """Keep the newest shard behind all others (summary_log.py)."""
        logs = SummaryLogs(self.opening.cluster, self.codec, self.topics)
        while True:
            await asyncio.sleep(SUMMARIES_LOOK_EVERY_S)
            with contextlib.suppress(Unavailable):
                async with self.flushing:
                    unseen = await asyncio.to_thread(logs.unseen, list(self.partitions.values()))
                for partition in unseen:
                    with contextlib.suppress(Unavailable):  # of one; others may be had
                        await self._look_through(logs.look(partition))

    async def _look_through(self, look: Look) -> None:
        while not look.is_over:
            async with self.flushing:
                if self.partitions.get(look.number) is not look.partition:
                    return
                await self._append(look.number, await asyncio.to_thread(look.read_on))
                if look.seen is not None:
                    look.partition.summaries = look.seen
            await asyncio.to_thread(look.compare_dropped)

    async def _append(self, number: int, records: list[tuple[bytes, bytes]]) -> None:
        """Put these shards behind all others in their log."""
        if records:
            await asyncio.to_thread(self.outlet.publish_batch, self.topics.summaries, number, records)
            await asyncio.to_thread(self.outlet.flush, PUBLISH_TIMEOUT_S)

    # Rebalances.

    async def take_over(self, group: Group) -> None:
        """Bring every partition that is ours now to where it can go on; let go of the others."""
        async with self.flushing:
            mine = group.assigned()
            self._ahead.clear()
            for number in sorted(set(self.partitions) - mine):
                self.partitions.pop(number).close()
            # What was folded of the others is lost, so it must not be acknowledged, should they come back.
            self.held = [received for received in self.held if received.value.partition in mine]
            await when_answered(self.opening.topic)
            committed = await group.committed(mine)
            started = time.monotonic()
            for number in sorted(mine):
                await self._open(number, committed.get(number, 0))
            for number, partition in self.partitions.items():
                # A worker that was killed had no time to, and a lag would stay that is none. But a store that is older
                # than the group's offset says nothing new, and no commit may go back.
                if partition.cursor >= committed.get(number, 0):
                    group.note_done(number, partition.cursor)
            log.info("took over partitions %s in %.1f s", sorted(mine), time.monotonic() - started)

    async def _open(self, number: int, committed: int) -> None:
        partition = self.partitions.get(number)
        if partition is None:
            opened = await when_answered(partial(self.opening.open, number, committed))
            await when_answered(partial(self.on_open, opened, committed))  # said again, it does no harm
            await asyncio.to_thread(self.outlet.flush, PUBLISH_TIMEOUT_S)
            self.partitions[number] = opened
        else:
            partition.taken_over_again(committed)

    def start_offset(self, number: int) -> int | None:
        """Where to read a partition on from; None when it is not open here."""
        partition = self.partitions.get(number)
        return None if partition is None else partition.next_offset


def _write(cuts: list[tuple[Partition, PartitionCut]]) -> None:
    for partition, cut in cuts:
        partition.store.write(*cut.writes)
