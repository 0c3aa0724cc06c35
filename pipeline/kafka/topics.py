"""The topics: one table, from which they are created, checked and described.

Topic and group names are state: renaming one loses what stands under the old name. tests/unit/test_kafka_topics.py
holds them to what they are.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from pipeline.domain.generations import Generation

DEAD_LETTER_BYTES_MAX = 2 * 2**20
"""Twice what the other topics take by Kafka's default, so that each of their records fits, with its headers."""

_LEDGER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_HOUR_MS = 3_600_000
_30_DAYS_MS = 30 * 24 * _HOUR_MS
_90_DAYS_MS = 90 * 24 * _HOUR_MS

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
    """``worker`` and ``sink`` stand for the consumer groups, which get a start offset on every partition.

    ``its worker`` looks at what it has written itself.
    """
    belongs_to: Literal["deployment", "journal", "generation"] = "deployment"
    """Whose number its name has behind it, from 2 on: ``-j2`` for a journal, ``-g2`` for a derived generation."""

    def partition_count(self, journal_partitions: int) -> int:
        return journal_partitions if self.partitions == "journal" else min(self.partitions, journal_partitions)


JOURNAL = Topic(
    "meter-events",
    "journal",
    _EVERYWHERE | _LEDGER,
    ("MeterEvent", "Cancellation"),
    "the identifier, UTF-8; murmur2 finds its partition. A range cancellation: the adjustment id, in every partition",
    ("any service", "gateway", "worker"),
    # The gateway: when the oldest record was appended that answers do not know of yet.
    ("worker", "sink", "gateway"),
    "journal",
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
    # A worker that has lost its partition and does not know it may append an old shard behind a newer one. For an hour
    # both are there, so that whoever owns the partition finds that out (pipeline/worker/summary_log.py).
    _EVERYWHERE | {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_HOUR_MS)},
    ("SummaryShard",),
    "livemode, event_name, customer, window_start, dimensions and shard, as bytes",
    ("worker",),
    ("sink", "its worker"),
    "generation",
)
DISPOSITIONS = Topic(
    "meter-event-dispositions",
    "journal",
    _EVERYWHERE | {"cleanup.policy": "delete", "retention.ms": str(_90_DAYS_MS), "retention.bytes": "-1"},
    ("Disposition",),
    "partition:offset of the journal record, ASCII",
    ("worker",),
    ("sink",),
    "generation",
)
CATALOG = Topic(
    "billing-catalog",
    1,
    # Not compacted: of two records with one version the first stands, and compaction would forget which one that was.
    # Headers say who wrote it and what was read before, here and in GENERATIONS (domain/chain.py).
    _EVERYWHERE | _LEDGER,
    ("Meter", "Product", "Plan", "ApiKey"),
    "the object id, UTF-8",
    ("gateway", "command line"),
    ("gateway", "sink"),
)
CORE_EVENTS = Topic(
    "core-events",
    1,
    _EVERYWHERE | {"cleanup.policy": "delete", "retention.ms": str(_30_DAYS_MS), "retention.bytes": "-1"},
    ("CoreEvent",),
    "the event id, UTF-8",
    ("gateway",),
    ("gateway",),
)
DEAD_LETTERS = Topic(
    "dead-letters",
    1,
    _EVERYWHERE | _LEDGER | {"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)},
    (),
    "as it came",
    ("worker", "sink", "gateway"),
    ("people",),
)
GENERATIONS = Topic(
    "generations",
    1,
    _EVERYWHERE | _LEDGER,
    ("Generation",),
    "the number of the generation, ASCII",
    ("command line",),
    ("every process",),
)

TABLE: tuple[Topic, ...] = (
    JOURNAL,
    ADJUSTMENTS,
    SUMMARIES,
    DISPOSITIONS,
    CATALOG,
    CORE_EVENTS,
    DEAD_LETTERS,
    GENERATIONS,
)

GROUPS: tuple[str, ...] = ("worker", "sink")
"""Roles of the processes that consume; their consumer groups are ``{namespace}-{role}``, from generation 2 on with
``-g{generation}`` behind it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Topics:
    """The names of one namespace's topics and consumer groups, as one generation sees them."""

    namespace: str
    generation: int = 1
    journal_generation: int = 1

    def name(self, topic: Topic) -> str:
        number = {"deployment": "", "journal": self._journal_suffix, "generation": self._suffix}[topic.belongs_to]
        return f"{self.namespace}.{topic.suffix}{number}"

    @property
    def _suffix(self) -> str:
        return f"-g{self.generation}" if self.generation > 1 else ""

    @property
    def _journal_suffix(self) -> str:
        return f"-j{self.journal_generation}" if self.journal_generation > 1 else ""

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
    def core_events(self) -> str:
        return self.name(CORE_EVENTS)

    @property
    def dead_letters(self) -> str:
        return self.name(DEAD_LETTERS)

    @property
    def generations(self) -> str:
        return self.name(GENERATIONS)

    def group(self, role: str) -> str:
        """The consumer group of a role in GROUPS."""
        assert role in GROUPS, role
        return f"{self.namespace}-{role}{self._suffix}"

    @property
    def catalog_events_group(self) -> str:
        """Of the gateways: one of them makes events of the catalog's changes."""
        return f"{self.namespace}-catalog-events"

    def webhooks_group(self, endpoint: str) -> str:
        """Of the gateways: one of them sends to this endpoint. Offsets, not usage: no start offset is laid down."""
        return f"{self.namespace}-webhooks-{endpoint}"

    @property
    def worker_group(self) -> str:
        return self.group("worker")

    @property
    def sink_group(self) -> str:
        return self.group("sink")


def topics_of_generation(namespace: str, generation: Generation | None) -> Topics:
    """The names as this generation sees them; None for the first."""
    return Topics(namespace) if generation is None else Topics(namespace, generation.number, generation.journal)


def min_insync_replicas(replication: int) -> int:
    """How many replicas must have a record before it is acknowledged: one broker may be away, no two copies lost."""
    return max(1, replication - 1)


def topic_config(topic: Topic, replication: int) -> dict[str, str]:
    """Every configuration entry that is set on a topic, and that ``topics check`` compares."""
    return {**topic.config, "min.insync.replicas": str(min_insync_replicas(replication))}
