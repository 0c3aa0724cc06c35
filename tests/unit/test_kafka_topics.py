"""The topics' names and configuration are state: changing one loses what stands under the old one."""

from __future__ import annotations

import pytest

from pipeline.kafka import topics
from pipeline.kafka.topics import GROUPS, TABLE, Topics, min_insync_replicas, topic_config

DAY_MS = 86_400_000


def test_names_are_frozen():
    names = Topics("acme")
    assert [names.name(topic) for topic in TABLE] == [
        "acme.meter-events",
        "acme.meter-event-adjustments",
        "acme.meter-event-summaries",
        "acme.meter-event-dispositions",
        "acme.billing-catalog",
        "acme.core-events",
        "acme.dead-letters",
        "acme.generations",
    ]
    assert [
        names.journal,
        names.adjustments,
        names.summaries,
        names.dispositions,
        names.catalog,
        names.core_events,
        names.dead_letters,
        names.generations,
    ] == [names.name(topic) for topic in TABLE]
    assert [names.group(role) for role in GROUPS] == ["acme-worker", "acme-sink"]
    assert (names.worker_group, names.sink_group) == ("acme-worker", "acme-sink")


def test_names_of_later_generations_are_frozen():
    names = Topics("acme", generation=2, journal_generation=3)
    assert [names.name(topic) for topic in TABLE] == [
        "acme.meter-events-j3",
        "acme.meter-event-adjustments",
        "acme.meter-event-summaries-g2",
        "acme.meter-event-dispositions-g2",
        "acme.billing-catalog",
        "acme.core-events",
        "acme.dead-letters",
        "acme.generations",
    ]
    assert (names.worker_group, names.sink_group) == ("acme-worker-g2", "acme-sink-g2")


@pytest.mark.parametrize(
    ("topic", "partitions", "cleanup", "retention_ms"),
    [
        (topics.JOURNAL, 24, "delete", "-1"),
        (topics.ADJUSTMENTS, 4, "delete", "-1"),
        (topics.SUMMARIES, 24, "compact", None),
        (topics.DISPOSITIONS, 24, "delete", str(90 * DAY_MS)),
        (topics.CATALOG, 1, "delete", "-1"),
        (topics.CORE_EVENTS, 1, "delete", str(30 * DAY_MS)),
        (topics.DEAD_LETTERS, 1, "delete", "-1"),
        (topics.GENERATIONS, 1, "delete", "-1"),
    ],
    ids=lambda part: getattr(part, "suffix", None),
)
def test_each_topic_is_configured_as_designed(topic, partitions, cleanup, retention_ms):
    config = topic_config(topic, 3)
    assert topic.partition_count(24) == partitions
    assert config["cleanup.policy"] == cleanup
    assert config.get("retention.ms") == retention_ms
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config["unclean.leader.election.enable"] == "false"
    assert config["min.insync.replicas"] == "2"


def test_a_newer_shard_is_there_for_an_hour_after_an_older_one_was_put_behind_it():
    lags = {topic.suffix: topic.config.get("min.compaction.lag.ms") for topic in TABLE}
    assert {suffix: lag for suffix, lag in lags.items() if lag} == {topics.SUMMARIES.suffix: "3600000"}


def test_what_must_never_be_deleted_is_bounded_by_neither_time_nor_size():
    for topic in (topics.JOURNAL, topics.ADJUSTMENTS, topics.CATALOG, topics.DEAD_LETTERS, topics.GENERATIONS):
        assert topic.config["retention.bytes"] == topic.config["retention.ms"] == "-1"


def test_no_topic_has_more_partitions_than_the_journal():
    assert [topic.partition_count(1) for topic in TABLE] == [1] * len(TABLE)


@pytest.mark.parametrize(("replication", "insync"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_one_broker_may_be_away_without_stopping_writes(replication, insync):
    assert min_insync_replicas(replication) == insync


def test_every_topic_says_who_writes_and_reads_it():
    for topic in TABLE:
        assert topic.key
        assert topic.written_by
        assert topic.read_by
