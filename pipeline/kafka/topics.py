"""The topics: one table, from which they are created, checked and described.

Topic and group names are state: renaming one loses what stands under the old name. tests/unit/test_kafka_topics.py
holds them to what they are.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

DEAD_LETTER_BYTES_MAX = 2 * 2**20
"""Twice what the other topics take by Kafka's default, so that each of their records fits, with its headers."""

_LEDGER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_90_DAYS_MS = 90 * 24 * 3_600_000

_EVERYWHERE = {
    # The broker's clock, so that no producer's can decide about acceptance, retention or order.
    "message.timestamp.type": "LogAppendTime",
    # What was acknowledged stays acknowledged, even if that means to wait for a broker.
    "unclean.leader.election.enable": "false",
    # As it was sent, so that the broker never compresses again.
    "compression.type": "producer",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table."""

    suffix: str
    """The name without its namespace."""
    partitions: Literal["journal"] | int
    """'journal': as many as the journal; a number: that many, or as many as the journal has if it has fewer."""
    config: dict[str, str]
    """Beside ``min.insync.replicas``, which follows from the replication."""
    records: tuple[str, ...]
    """The Avro records that are allowed as values; none: any bytes."""
    key: str
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    """``worker`` and ``sink`` stand for the consumer groups, which get a start offset on every partition."""

    def partition_count(self, journal_partitions: int) -> int:
        return journal_partitions if self.partitions == "journal" else min(self.partitions, journal_partitions)


JOURNAL = Topic(
    "meter-events",
    "journal",
    _EVERYWHERE | _LEDGER,
    ("MeterEvent", "Cancellation"),
    "the identifier, UTF-8; murmur2 finds its partition. A range cancellation: the adjustment id, in every partition",
    ("any service", "gateway", "worker"),
    ("worker", "sink"),
)
ADJUSTMENTS = Topic(
    "meter-event-adjustments",
    4,
    _EVERYWHERE | _LEDGER,
    ("MeterEventAdjustment",),
    "the adjustment id, UTF-8",
    ("any service", "gateway"),
    ("worker", "sink"),
)
SUMMARIES = Topic(
    "meter-event-summaries",
    "journal",
    _EVERYWHERE | {"cleanup.policy": "compact"},
    ("SummaryShard",),
    "livemode, event_name, customer, window_start, dimensions and shard, as bytes",
    ("worker",),
    ("sink",),
)
DISPOSITIONS = Topic(
    "meter-event-dispositions",
    "journal",
    _EVERYWHERE | {"cleanup.policy": "delete", "retention.ms": str(_90_DAYS_MS), "retention.bytes": "-1"},
    ("Disposition",),
    "partition:offset of the journal record, ASCII",
    ("worker",),
    ("sink",),
)
CATALOG = Topic(
    "billing-catalog",
    1,
    _EVERYWHERE | {"cleanup.policy": "compact"},
    ("Meter", "Product", "Plan"),
    "the object id, UTF-8; a null value deletes",
    ("gateway", "command line"),
    ("gateway", "sink"),
)
DEAD_LETTERS = Topic(
    "dead-letters",
    1,
    _EVERYWHERE | _LEDGER | {"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)},
    (),
    "as it came",
    ("worker", "sink"),
    ("people",),
)

TABLE: tuple[Topic, ...] = (JOURNAL, ADJUSTMENTS, SUMMARIES, DISPOSITIONS, CATALOG, DEAD_LETTERS)

GROUPS: tuple[str, ...] = ("worker", "sink")
"""Roles of the processes that consume; their consumer groups are ``{namespace}-{role}``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Topics:
    """The names of one namespace's topics and consumer groups."""

    namespace: str

    def name(self, topic: Topic) -> str:
        return f"{self.namespace}.{topic.suffix}"

    @property
    def journal(self) -> str:
        return self.name(JOURNAL)

    @property
    def adjustments(self) -> str:
        return self.name(ADJUSTMENTS)

    @property
    def summaries(self) -> str:
        return self.name(SUMMARIES)

    @property
    def dispositions(self) -> str:
        return self.name(DISPOSITIONS)

    @property
    def catalog(self) -> str:
        return self.name(CATALOG)

    @property
    def dead_letters(self) -> str:
        return self.name(DEAD_LETTERS)

    def group(self, role: str) -> str:
        """The consumer group of a role in GROUPS."""
        assert role in GROUPS, role
        return f"{self.namespace}-{role}"

    @property
    def worker_group(self) -> str:
        return self.group("worker")

    @property
    def sink_group(self) -> str:
        return self.group("sink")


def min_insync_replicas(replication: int) -> int:
    """How many replicas must have a record before it is acknowledged: one broker may be away, no two copies lost."""
    return max(1, replication - 1)


def topic_config(topic: Topic, replication: int) -> dict[str, str]:
    """Every configuration entry that is set on a topic, and that ``topics check`` compares."""
    return {**topic.config, "min.insync.replicas": str(min_insync_replicas(replication))}
