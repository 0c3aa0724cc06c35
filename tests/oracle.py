"""What must be true of a namespace's topics, computed a second time and by the plain fold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition, SummaryShard, TallyKey
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import FoldRules
from pipeline.domain.state import PlainState
from pipeline.errors import UndecodableRecord
from pipeline.kafka.reading import record_of
from pipeline.kafka.topics import Topics

ShardKey = tuple[TallyKey, int]
DispositionKey = tuple[int, int]


@dataclasses.dataclass(slots=True)
class World:
    """Summaries and dispositions as a reader of the topics sees them: the highest version of each key.

    Of one version there may be many copies, but no two that differ (invariant 1).
    """

    shards: dict[ShardKey, SummaryShard] = dataclasses.field(default_factory=dict)
    dispositions: dict[DispositionKey, Disposition] = dataclasses.field(default_factory=dict)
    _shard_versions: dict[tuple[ShardKey, int], SummaryShard] = dataclasses.field(default_factory=dict)
    _decisions: dict[tuple[DispositionKey, int], Disposition] = dataclasses.field(default_factory=dict)

    def keep_shard(self, shard: SummaryShard) -> None:
        key = (shard.key, shard.shard)
        twin = self._shard_versions.setdefault((key, shard.version), shard)
        assert twin == shard, f"two shards of one version differ: {twin} and {shard}"
        if key not in self.shards or self.shards[key].version < shard.version:
            self.shards[key] = shard

    def keep_disposition(self, one: Disposition) -> None:
        key = (one.partition, one.offset)
        twin = self._decisions.setdefault((key, one.decided_offset), one)
        assert twin == one, f"two decisions of one record about another differ: {twin} and {one}"
        if key not in self.dispositions or self.dispositions[key].decided_offset < one.decided_offset:
            self.dispositions[key] = one

    def totals(self) -> Counter[tuple[str, str]]:
        """Sum by (event_name, customer), in units of 10^-12."""
        totals: Counter[tuple[str, str]] = Counter()
        for shard in self.shards.values():
            totals[shard.key.event_name, shard.key.customer] += shard.sum
        return totals


class Read(NamedTuple):
    """A record as it stands in a topic."""

    partition: int
    offset: int
    appended_at_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def read_topic(kafka: str, topic: str) -> Iterator[Read]:
    """All committed records up to the end as it is now, each partition in its order."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        open_ends = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in sorted(open_ends)])
        while open_ends:
            for message in consumer.consume(2_000, timeout=0.1):
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    open_ends.discard(message.partition())
                else:
                    yield Read(
                        message.partition(),
                        message.offset(),
                        message.timestamp()[1],
                        message.key(),
                        message.value(),
                        dict(record_of(message).headers),
                    )
    finally:
        consumer.close()


def expected(kafka: str, namespace: str, rules: FoldRules, partitions: int) -> tuple[World, dict[int, PlainState]]:
    """Fold the whole journal by the specification."""
    return specified(read_topic(kafka, Topics(namespace).journal), rules, partitions)


def specified(journal: Iterable[Read], rules: FoldRules, partitions: int) -> tuple[World, dict[int, PlainState]]:
    """Fold these records of a journal by the specification."""
    codec, world = Codec(), World()
    states = {number: PlainState() for number in range(partitions)}
    for read in journal:
        try:
            content = codec.decode_journal(read.value)
        except UndecodableRecord as error:
            content = Undecodable(error.reason)
        record = Record(read.offset, read.appended_at_ms, content)
        for one in step(states[read.partition], Journal(read.partition, partitions, rules), record):
            world.keep_disposition(one)
    for number, state in states.items():
        for shard in state.take_shards(number):
            world.keep_shard(shard)
    return world, states


def published(kafka: str, namespace: str, topics: Topics | None = None) -> World:
    """What the worker published so far; ``topics``: that of another generation than the first."""
    codec, topics, world = Codec(), topics or Topics(namespace), World()
    for read in read_topic(kafka, topics.summaries):
        world.keep_shard(codec.decode_shard(read.value))
    for read in read_topic(kafka, topics.dispositions):
        world.keep_disposition(codec.decode_disposition(read.value))
    return world
