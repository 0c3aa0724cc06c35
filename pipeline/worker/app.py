"""The worker: two Faust agents and a flush.

The journal agent folds batches in memory. A flush takes what changed in all partitions, publishes it, waits for the
brokers, writes one batch per store with its cursor, and only then acknowledges the records to Faust (invariant 5).
Folding goes on while a flush waits. The adjustment agent routes cancellations into the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faust.types import TP

from pipeline.codec.columns import decode_events
from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import DEAD_LETTER_BYTES_MAX, Topics
from pipeline.stream.app import BatchApp, end_process, journal_topic, run_app, stream_app
from pipeline.stream.batch import RecordBatch
from pipeline.worker.opening import Opening
from pipeline.worker.partition import Origin, Partition
from pipeline.worker.publishing import PUBLISH_TIMEOUT_S, publish
from pipeline.worker.router import route
from pipeline.worker.snapshots import Snapshots, checkpoint_of

log = logging.getLogger("meterline.worker")

BATCH_RECORDS = 25_000
JOURNAL_LOOK_EVERY_S = 5.0
GARBAGE_EVERY = 500_000
"""Objects made between two looks of Python's cycle collector."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know."""

    kafka: Mapping[str, str]
    namespace: str
    rules: FoldRules
    state: Path
    snapshots: str
    snapshot_every_ms: int
    flush_every_ms: int
    flush_records: int
    session_timeout_ms: int


class Worker:
    """One process's part of the journal. ``run`` does not return before a signal stops it."""

    def __init__(self, settings: WorkerSettings, codec: Codec) -> None:
        self.settings = settings
        self.codec = codec
        self.topics = Topics(settings.namespace)
        self.publisher = Publisher({**settings.kafka, "message.max.bytes": DEAD_LETTER_BYTES_MAX})
        self.snapshots = Snapshots(f"{settings.snapshots}/{settings.namespace}") if settings.snapshots else None
        self.opening = Opening(settings.kafka, self.topics, settings.rules, settings.state, self.snapshots, codec)
        self.partitions: dict[int, Partition] = {}
        self.held: list[Any] = []
        """Events folded and not yet acknowledged to Faust."""
        self.changed = asyncio.Event()
        self.full = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self.flushing = asyncio.Lock()
        self.app = self._faust_app()
        decode_events([b""])  # what it imports on first use would hold up the first batch

    def run(self) -> None:
        # The fold makes hundreds of thousands of objects a second and no cycles; looking for some among all that a
        # worker remembers would take half of its time.
        gc.freeze()
        gc.set_threshold(GARBAGE_EVERY, 20, 100)
        run_app(self.app, self.opening.topic)

    def _faust_app(self) -> BatchApp:
        app = stream_app(
            self.topics.worker_group,
            self.settings.kafka,
            session_timeout_ms=self.settings.session_timeout_ms,
            batch_records=BATCH_RECORDS,
            work_dir=self.settings.state / "faust",
        )
        app.agent(journal_topic(app, self.topics.journal), name="journal")(self._fold_events)
        app.agent(journal_topic(app, self.topics.adjustments), name="adjustments")(self._route_adjustments)
        app.task(self._flush_forever)
        app.task(self._watch_journal)
        if self.snapshots is not None:
            app.task(self._snapshot_forever)
        app.on_rebalance_complete.connect(self._take_over, weak=False)
        app.on_before_shutdown.connect(self._flush_last, weak=False)
        app.start_offsets = self._start_offsets
        return app

    # Agents.

    async def _fold_events(self, stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                await self.room.wait()
                await self._check_place(event.value)
                self._fold(event)
                await asyncio.sleep(0)
        except Exception as error:  # nothing an agent raises may be swallowed: Faust would commit past the record
            end_process(error)

    async def _check_place(self, batch: RecordBatch) -> None:
        """A batch that does not begin where the fold stands is read again after a rebalance, or of another journal."""
        partition = self.partitions.get(batch.partition)
        if partition is not None and batch.start != partition.next_offset:
            await asyncio.to_thread(self.opening.topic)

    def _fold(self, event: Any) -> None:
        batch: RecordBatch = event.value
        partition = self.partitions.get(batch.partition)
        if partition is None:
            return  # revoked while the batch waited; the next owner reads it again
        if batch.start > partition.next_offset:
            raise Refusal(
                f"journal partition {batch.partition} went on at offset {batch.start}, but the fold stands at"
                f" {partition.next_offset}: records were deleted in between. See `meterline topics check`"
            )
        batch = batch.since(partition.next_offset)
        if batch.start == partition.next_offset and batch.next_offset > batch.start:
            partition.fold(batch)
        self.held.append(event)
        self.changed.set()
        records_held = sum(one.records_held for one in self.partitions.values())
        if records_held >= self.settings.flush_records:
            self.full.set()
        if records_held >= 2 * self.settings.flush_records:
            self.room.clear()

    async def _route_adjustments(self, stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                await asyncio.to_thread(self._route, event.value)
                event.ack()
        except Exception as error:  # as above
            end_process(error)

    def _route(self, batch: RecordBatch) -> None:
        route(batch, self.codec, self.publisher, self.topics, self.opening.journal_partitions())
        self.publisher.flush(PUBLISH_TIMEOUT_S)

    # The flush.

    async def _flush_forever(self) -> None:
        try:
            while True:
                await self.changed.wait()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.full.wait(), self.settings.flush_every_ms / 1000)
                async with self.flushing:
                    await self._flush()
        except Exception as error:  # a flush that failed may have published a part: recovery settles it
            end_process(error)

    async def _flush(self) -> None:
        self.changed.clear()
        self.full.clear()
        held, self.held = self.held, []
        partitions = list(self.partitions.values())
        cuts = [(partition, partition.cut()) for partition in partitions]
        self.room.set()
        await asyncio.to_thread(self._publish_and_write, cuts)
        for partition, _ in cuts:
            partition.wrote()
        for event in held:
            event.ack()

    async def _flush_last(self, *_: Any, **__: Any) -> None:
        """Before a stop: what was folded need not be folded again."""
        async with self.flushing:
            if self.changed.is_set():
                await self._flush()
            for partition in self.partitions.values():
                await asyncio.to_thread(partition.store.flush)

    def _publish_and_write(self, cuts: list[Any]) -> None:
        for _, cut in cuts:
            publish(self.publisher, self.codec, self.topics, cut)
        self.publisher.flush(PUBLISH_TIMEOUT_S)
        for partition, cut in cuts:
            partition.store.write(*cut.writes)

    # Snapshots.

    async def _snapshot_forever(self) -> None:
        assert self.snapshots is not None
        taken: dict[int, int] = {}
        try:
            while True:
                await asyncio.sleep(self.settings.snapshot_every_ms / 1000)
                for number in sorted(self.partitions):
                    async with self.flushing:  # between two writes the store stands at its cursor
                        partition = self.partitions.get(number)
                        if partition is None or partition.cursor == taken.get(number):
                            continue
                        cursor, origin = partition.cursor, partition.origin
                        path = await asyncio.to_thread(checkpoint_of, partition.store, self.settings.state)
                    await asyncio.to_thread(self._copy, origin, cursor, path)
                    taken[number] = cursor
        except Exception as error:  # a bug, not an outage: those are waited out below
            end_process(error)

    def _copy(self, origin: Origin, cursor: int, path: Path) -> None:
        assert self.snapshots is not None
        try:
            self.snapshots.take(origin, cursor, path)
        except OSError as error:  # the next one may succeed; until then a recovery folds a little more
            log.warning("partition %d: no snapshot at offset %d: %s", origin.partition, cursor, error)
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)

    # The journal must stay what it is (invariant 8).

    async def _watch_journal(self) -> None:
        """Stop when the journal was made anew or got more partitions; Kafka's clients would go on with either."""
        try:
            while True:
                await asyncio.sleep(JOURNAL_LOOK_EVERY_S)
                with contextlib.suppress(Unavailable):  # whoever needs the broker now, waits for it
                    await asyncio.to_thread(self.opening.topic)
        except Exception as error:
            end_process(error)

    # Rebalances.

    async def _take_over(self, *_: Any, **__: Any) -> None:
        """Bring every partition that is ours now to where it can go on; let go of the others."""
        try:
            async with self.flushing:
                consumer: Any = self.app.consumer
                mine = {tp.partition for tp in consumer.assignment() if tp.topic == self.topics.journal}
                for number in sorted(set(self.partitions) - mine):
                    self.partitions.pop(number).close()
                # What was folded of the others is lost, so it must not be acknowledged, should they come back.
                self.held = [event for event in self.held if event.value.partition in mine]
                await asyncio.to_thread(self.opening.topic)
                committed = await consumer._thread.committed({TP(self.topics.journal, number) for number in mine})
                started = time.monotonic()
                for number in sorted(mine):
                    floor = committed.get(TP(self.topics.journal, number), 0)
                    await asyncio.to_thread(self._open, number, floor)
                for number, partition in self.partitions.items():
                    # A worker that was killed had no time to, and a lag would stay that is none.
                    consumer.note_done(TP(self.topics.journal, number), partition.cursor)
                log.info("took over partitions %s in %.1f s", sorted(mine), time.monotonic() - started)
        except Exception as error:  # without its state a partition must not be read
            end_process(error)

    def _open(self, number: int, floor: int) -> None:
        partition = self.partitions.get(number)
        if partition is None:
            self.partitions[number] = self.opening.open(number, floor)
        else:
            partition.silent_below = max(partition.silent_below, floor)

    async def _start_offsets(self, assigned: set[TP]) -> dict[TP, int]:
        return {
            tp: self.partitions[tp.partition].next_offset
            for tp in assigned
            if tp.topic == self.topics.journal and tp.partition in self.partitions
        }
