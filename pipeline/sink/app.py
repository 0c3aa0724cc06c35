"""The sink: topics into the tables of ClickHouse, at least once, in order.

Each topic has a feed: its agent gathers batches, its flush makes rows of them, inserts and only then acknowledges.
Rows are absolute and carry versions, so an insert that is repeated, split or raced by another sink does no harm, and
nothing has to be remembered between inserts. While ClickHouse is away the feeds are full: agents wait, Faust's
buffers fill, partitions are paused, and the process stays in its group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.inserting import Inserter
from pipeline.codec.records import Codec
from pipeline.kafka.producer import Publisher
from pipeline.kafka.reading import partitions_of
from pipeline.kafka.topics import Topics
from pipeline.sink.feed import Feed, FeedLimits
from pipeline.sink.tabulation import Tabulator
from pipeline.stream.app import BatchApp, journal_topic, run_app, stream_app
from pipeline.stream.ending import agent_of, task_of

BATCH_RECORDS = 25_000


@dataclasses.dataclass(frozen=True, slots=True)
class SinkSettings:
    """What a sink needs to know."""

    kafka: Mapping[str, str]
    namespace: str
    clickhouse: Server
    work_dir: Path
    every_ms: int
    """Longest time that rows are gathered before an insert."""
    rows: int
    """Most rows in one insert."""
    event_log: bool
    """Whether the journal is copied into meter_events. Switched on later, it goes on where it was switched off."""
    session_timeout_ms: int


class Sink:
    """One process's part of the topics. ``run`` does not return before a signal stops it."""

    def __init__(self, settings: SinkSettings, codec: Codec) -> None:
        self.settings = settings
        topics = Topics(settings.namespace)
        tabulator = Tabulator(codec)
        limits = FeedLimits(settings.every_ms, settings.rows)
        publisher = Publisher(settings.kafka)
        sources = [
            (topics.summaries, tabulator.summaries, True),
            (topics.dispositions, tabulator.dispositions, True),
            (topics.adjustments, tabulator.adjustments, False),
        ]
        if settings.event_log:
            sources.append((topics.journal, tabulator.journal, False))
        self.feeds = [
            # Of the journal and the adjustments the worker keeps the dead letters.
            Feed(
                topic,
                tabulate,
                limits,
                Inserter(settings.clickhouse),
                publisher,
                topics.dead_letters if buries else None,
            )
            for topic, tabulate, buries in sources
        ]
        self.app = self._faust_app(topics)

    def run(self) -> None:
        run_app(self.app, self._check_topics)

    def _check_topics(self) -> None:
        """Raises Unavailable when Kafka does not answer, Refusal when a topic is missing: Faust would wait for ever."""
        quiet = {**self.settings.kafka, "log_level": 0}
        for feed in self.feeds:
            partitions_of(quiet, feed.topic)

    def _faust_app(self, topics: Topics) -> BatchApp:
        app = stream_app(
            topics.sink_group,
            self.settings.kafka,
            session_timeout_ms=self.settings.session_timeout_ms,
            batch_records=BATCH_RECORDS,
            work_dir=self.settings.work_dir,
        )
        for feed in self.feeds:
            app.agent(journal_topic(app, feed.topic), name=feed.topic)(agent_of(feed.gather))
            app.task(task_of(feed.flush_forever))
        return app
