"""What the worker should have published, computed apart from it: the journal folded again by the plain fold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from confluent_kafka import Consumer, TopicPartition

from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition, SummaryShard, TallyKey
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import FoldRules
from pipeline.domain.state import PlainState
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics

ShardKey = tuple[TallyKey, int]
DispositionKey = tuple[int, int]


@dataclasses.dataclass(slots=True)
class World:
    """Summaries and dispositions as a reader of the topics sees them: the highest version of each key."""

    shards: dict[ShardKey, SummaryShard] = dataclasses.field(default_factory=dict)
    dispositions: dict[DispositionKey, Disposition] = dataclasses.field(default_factory=dict)

    def keep_shard(self, shard: SummaryShard) -> None:
        before = self.shards.get((shard.key, shard.shard))
        if before is None or before.version <= shard.version:
            assert before is None or before.version < shard.version or before == shard, (
                "two shards of one version differ"
            )
            self.shards[shard.key, shard.shard] = shard

    def keep_disposition(self, one: Disposition) -> None:
        before = self.dispositions.get((one.partition, one.offset))
        if before is None or before.decided_offset <= one.decided_offset:
            self.dispositions[one.partition, one.offset] = one

    def totals(self) -> Counter[tuple[str, str]]:
        """Sum by (event_name, customer), in units of 10^-12."""
        totals: Counter[tuple[str, str]] = Counter()
        for shard in self.shards.values():
            totals[shard.key.event_name, shard.key.customer] += shard.sum
        return totals


def read_topic(kafka: str, topic: str) -> Iterator[tuple[int, int, int, bytes | None]]:
    """(partition, offset, LogAppendTime or CreateTime, value) of all records up to the end as it is now."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        for number in sorted(partitions):
            place = TopicPartition(topic, number, 0)
            first, end = consumer.get_watermark_offsets(place, timeout=30)
            if end <= first:
                continue
            consumer.assign([place])
            while consumer.position([place])[0].offset < end:
                for message in consumer.consume(2_000, timeout=0.1):
                    assert message.error() is None, message.error()
                    yield number, message.offset(), message.timestamp()[1], message.value()
    finally:
        consumer.close()


def expected(kafka: str, namespace: str, rules: FoldRules, partitions: int) -> tuple[World, dict[int, PlainState]]:
    """Fold the whole journal by the specification."""
    codec, world = Codec(), World()
    states = {number: PlainState() for number in range(partitions)}
    for number, offset, appended_at_ms, value in read_topic(kafka, Topics(namespace).journal):
        try:
            content = codec.decode_journal(value)
        except UndecodableRecord as error:
            content = Undecodable(error.reason)
        record = Record(offset, appended_at_ms, content)
        for one in step(states[number], Journal(number, partitions, rules), record):
            world.keep_disposition(one)
    for number, state in states.items():
        for shard in state.take_shards(number):
            world.keep_shard(shard)
    return world, states


def published(kafka: str, namespace: str) -> World:
    """What the worker published so far."""
    codec, topics, world = Codec(), Topics(namespace), World()
    for _, _, _, value in read_topic(kafka, topics.summaries):
        world.keep_shard(codec.decode_shard(value))
    for _, _, _, value in read_topic(kafka, topics.dispositions):
        world.keep_disposition(codec.decode_disposition(value))
    return world
