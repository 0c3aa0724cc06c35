"""The worker's process: ``core.WorkerCore`` on Faust, with Kafka, RocksDB and files behind it.

Faust gives it batches, a place in the consumer group and a clock for its tasks. Whatever the core raises ends the
process at once: Faust would otherwise commit past the record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faust.types import TP

from pipeline.codec.columns import decode_events
from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.kafka.asking import insistently
from pipeline.kafka.producer import Publisher
from pipeline.kafka.progress import own_client_id
from pipeline.kafka.reach import check_reach
from pipeline.kafka.topics import DEAD_LETTER_BYTES_MAX, Topics
from pipeline.stream.app import BatchApp, Fate, journal_topic, run_app, stream_app
from pipeline.stream.ending import agent_of, or_end_process, task_of
from pipeline.stream.insisting import when_answered
from pipeline.worker.acts import Acts
from pipeline.worker.cluster import KafkaCluster
from pipeline.worker.core import CoreLimits, WorkerCore
from pipeline.worker.opening import Opening
from pipeline.worker.snapshots import Snapshots
from pipeline.worker.stores import LocalStores

BATCH_RECORDS = 25_000
GARBAGE_EVERY = 500_000
"""Objects made between two looks of Python's cycle collector."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker needs to know."""

    kafka: Mapping[str, str]
    topics: Topics
    """Of the generation that it folds."""
    acting: bool
    """Whether that generation is live: adjustments, strays and dead letters are its worker's business."""
    before: tuple[str, ...]
    """Groups of the workers that may have acted before it."""
    alone: bool
    """Whether there has never been another generation."""
    rules: FoldRules
    state: Path
    snapshots: str
    """The snapshot store of this generation; empty for none."""
    snapshot_every_ms: int
    flush_every_ms: int
    flush_records: int
    session_timeout_ms: int
    instance: str = ""


class Worker:
    """One process's part of the journal. ``run`` does not return before a signal stops it."""

    def __init__(self, settings: WorkerSettings, codec: Codec, fate: Callable[[], Fate]) -> None:
        self.settings = settings
        self.topics = settings.topics
        snapshots = Snapshots(settings.snapshots) if settings.snapshots else None
        stores = LocalStores(settings.state, snapshots)
        cluster = KafkaCluster(settings.kafka)
        self.opening = Opening(cluster, stores, self.topics, settings.rules, codec, stamped=settings.acting)
        outlet = Publisher({**settings.kafka, "message.max.bytes": DEAD_LETTER_BYTES_MAX})
        self.acts = Acts(
            settings.kafka,
            self.topics,
            codec,
            outlet,
            acting=settings.acting,
            before=settings.before,
            alone=settings.alone,
        )
        self.core = WorkerCore(
            CoreLimits(settings.flush_every_ms, settings.flush_records, settings.snapshot_every_ms),
            codec,
            self.topics,
            outlet,
            self.opening,
            stores,
            self.acts.take_over,
        )
        self.app = self._faust_app(fate)
        decode_events([b""])  # what it imports on first use would hold up the first batch

    def run(self) -> None:
        # The fold makes hundreds of thousands of objects a second and no cycles; looking for some among all that a
        # worker remembers would take half of its time.
        gc.freeze()
        gc.set_threshold(GARBAGE_EVERY, 20, 100)
        run_app(self.app, lambda: insistently(self.opening.topic))

    def _faust_app(self, fate: Callable[[], Fate]) -> BatchApp:
        app = stream_app(
            self.topics.worker_group,
            self.settings.kafka,
            client_id=own_client_id(),
            session_timeout_ms=self.settings.session_timeout_ms,
            instance=self.settings.instance,
            batch_records=BATCH_RECORDS,
            work_dir=self.settings.state / "faust",
        )
        app.agent(journal_topic(app, self.topics.journal), name="journal")(agent_of(self.core.fold_all))
        if self.settings.acting:
            app.agent(journal_topic(app, self.topics.adjustments), name="adjustments")(agent_of(self.core.route_all))
            app.offset_note = self.settings.rules.version
        app.task(task_of(self.core.flush_forever))
        app.task(task_of(self.core.watch_journal))
        app.task(task_of(self.core.watch_summaries))
        if self.core.stores.snapshots_kept:
            app.task(task_of(self.core.snapshot_forever))
            if not self.settings.acting:  # whoever switches over wants it; SIGUSR1 and 2 are Faust's
                asyncio.get_event_loop().add_signal_handler(signal.SIGHUP, self.core.snapshot_due.set)
        app.on_rebalance_complete.connect(self._take_over, weak=False)
        app.on_before_shutdown.connect(self._flush_last, weak=False)
        app.check_reach = self._check_reach
        app.start_offsets = self._start_offsets
        app.fate = fate
        return app

    async def _flush_last(self, *_: Any, **__: Any) -> None:
        await self.core.flush_last()

    async def _take_over(self, *_: Any, **__: Any) -> None:
        await or_end_process(lambda: self.core.take_over(_FaustGroup(self.app.consumer, self.topics.journal)))

    def _check_reach(self, topic: str, partition: int, offset: int) -> None:
        if topic == self.topics.journal:
            self.opening.check_place(partition, offset)
        else:
            check_reach(self.settings.kafka, self.topics.worker_group, (topic, partition), offset)

    async def _start_offsets(self, assigned: set[TP]) -> dict[TP, int]:
        adjustments = [(tp.topic, tp.partition) for tp in assigned if tp.topic == self.topics.adjustments]
        acted = await when_answered(lambda: self.acts.below(adjustments))
        consumer: Any = self.app.consumer
        for place, offset in acted.items():  # what another generation's worker routed is no lag of ours
            consumer.note_done(TP(*place), offset)
        # Only now: while Kafka was asked, a partition may have left and come back from an earlier place.
        offsets = {tp: self.core.start_offset(tp.partition) for tp in assigned if tp.topic == self.topics.journal}
        starts = {tp: offset for tp, offset in offsets.items() if offset is not None}
        return starts | {TP(*place): offset for place, offset in acted.items()}


class _FaustGroup:
    """``pipeline.worker.edges.Group``: our consumer's part of the journal."""

    def __init__(self, consumer: Any, journal: str) -> None:
        self._consumer = consumer
        self._journal = journal

    def assigned(self) -> set[int]:
        return {tp.partition for tp in self._consumer.assignment() if tp.topic == self._journal}

    async def committed(self, partitions: set[int]) -> dict[int, int]:
        offsets = await self._consumer._thread.committed({TP(self._journal, number) for number in partitions})
        return {tp.partition: offset for tp, offset in offsets.items()}

    def note_done(self, partition: int, next_offset: int) -> None:
        self._consumer.note_done(TP(self._journal, partition), next_offset)
