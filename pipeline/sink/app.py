"""The sink: topics into the tables of ClickHouse, at least once, in order.

Each topic has a feed: its agent gathers batches, its flush makes rows of them, inserts and only then acknowledges.
Rows are absolute and carry versions, so an insert that is repeated, split or raced by another sink does no harm, and
nothing has to be remembered between inserts. While ClickHouse is away the feeds are full: agents wait, Faust's
buffers fill, partitions are paused, and the process stays in its group.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from faust.types import TP

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.inserting import Inserter
from pipeline.codec.records import Codec
from pipeline.kafka.asking import insistently
from pipeline.kafka.offsets import committed
from pipeline.kafka.producer import Publisher
from pipeline.kafka.progress import own_client_id
from pipeline.kafka.reach import check_reach
from pipeline.kafka.reading import partitions_of
from pipeline.kafka.topics import Topics
from pipeline.sink.catalog import CatalogTabulator
from pipeline.sink.feed import Feed, FeedLimits
from pipeline.sink.tabulation import Tabulate, Tabulator
from pipeline.stream.app import BatchApp, Fate, journal_topic, run_app, stream_app
from pipeline.stream.ending import agent_of, task_of
from pipeline.stream.insisting import when_answered

BATCH_RECORDS = 25_000


@dataclasses.dataclass(frozen=True, slots=True)
class SinkSettings:
    """What a sink needs to know."""

    kafka: Mapping[str, str]
    topics: Topics
    """Of the generation that it copies."""
    group: str
    shared: bool
    """Whether it copies what belongs to no generation, too: adjustments and the catalog."""
    before: tuple[str, ...]
    """Groups of the sinks that may have copied those before it."""
    clickhouse: Server
    work_dir: Path
    every_ms: int
    """Longest time that rows are gathered before an insert."""
    rows: int
    """Most rows in one insert."""
    event_log: bool
    """Whether the journal is copied into meter_events. Switched on later, it goes on where it was switched off."""
    session_timeout_ms: int
    instance: str = ""


class Sink:
    """One process's part of the topics. ``run`` does not return before a signal stops it."""

    def __init__(self, settings: SinkSettings, codec: Codec, fate: Callable[[], Fate]) -> None:
        self.settings = settings
        topics = settings.topics
        tabulator = Tabulator(codec)
        limits = FeedLimits(settings.every_ms, settings.rows)
        publisher = Publisher(settings.kafka)
        sources: list[tuple[str, Tabulate, bool]] = [
            (topics.summaries, tabulator.summaries, True),
            (topics.dispositions, tabulator.dispositions, True),
        ]
        if settings.shared:
            sources.append((topics.adjustments, tabulator.adjustments, False))
            sources.append((topics.catalog, CatalogTabulator(codec), False))
        if settings.event_log:
            sources.append((topics.journal, tabulator.journal, False))
        self.feeds = [
            # Of the journal and the adjustments the worker keeps the dead letters; of the catalog the log keeps all.
            Feed(
                topic,
                tabulate,
                limits,
                Inserter(settings.clickhouse),
                publisher,
                topics.dead_letters if buries else None,
                topics.generation,
                topics.journal_generation,
            )
            for topic, tabulate, buries in sources
        ]
        self.app = self._faust_app(fate)

    def run(self) -> None:
        pa.set_memory_pool(pa.system_memory_pool())  # stream/memory.py gives back what malloc keeps
        run_app(self.app, lambda: insistently(self._check_topics))

    def _check_topics(self) -> None:
        """Raises Unavailable when Kafka does not answer, Refusal when a topic is missing: Faust would wait for ever."""
        quiet = {**self.settings.kafka, "log_level": 0}
        for feed in self.feeds:
            partitions_of(quiet, feed.topic)

    def _faust_app(self, fate: Callable[[], Fate]) -> BatchApp:
        app = stream_app(
            self.settings.group,
            self.settings.kafka,
            client_id=own_client_id(),
            session_timeout_ms=self.settings.session_timeout_ms,
            instance=self.settings.instance,
            batch_records=BATCH_RECORDS,
            work_dir=self.settings.work_dir,
        )
        for feed in self.feeds:
            app.agent(journal_topic(app, feed.topic), name=feed.topic)(agent_of(feed.gather))
            app.task(task_of(feed.flush_forever))
        app.check_reach = self._check_reach
        app.start_offsets = self._start_offsets
        app.fate = fate
        return app

    def _check_reach(self, topic: str, partition: int, offset: int) -> None:
        check_reach(self.settings.kafka, self.settings.group, (topic, partition), offset)

    async def _start_offsets(self, assigned: set[TP]) -> dict[TP, int]:
        """What belongs to no generation goes on where the farthest sink of any generation stopped. The catalog begins
        at its first record: what stands depends on all before it.
        """
        shared = (self.settings.topics.adjustments, self.settings.topics.journal)
        places = [(tp.topic, tp.partition) for tp in assigned if tp.topic in shared]
        found: dict[TP, int] = {tp: 0 for tp in assigned if tp.topic == self.settings.topics.catalog}
        for group in (self.settings.group, *self.settings.before) if self.settings.before else ():
            come = await when_answered(functools.partial(committed, self.settings.kafka, group, places))
            found |= {TP(*place): max(offset, found.get(TP(*place), 0)) for place, offset in come.items()}
        consumer: Any = self.app.consumer
        for tp, offset in found.items():
            if tp.topic in shared:  # what another one copied is no lag of ours
                consumer.note_done(tp, offset)
        return found
