"""What a flush sends to Kafka, before anything is written: shards, dispositions, dead letters and strays."""

from __future__ import annotations

from pipeline.codec.records import Codec
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import Topics
from pipeline.worker import layout
from pipeline.worker.partition import PartitionCut
from pipeline.worker.state import ChangedTally, domain_key

PUBLISH_TIMEOUT_S = 120.0


def publish(publisher: Publisher, codec: Codec, topics: Topics, cut: PartitionCut) -> None:
    """Hand all of a cut's outputs to the publisher; its flush says when the brokers have them."""
    partition = cut.partition
    if cut.tallies:
        publisher.publish_batch(topics.summaries, partition, _shards(codec, cut.tallies, partition))
    if cut.dispositions:
        publisher.publish_batch(
            topics.dispositions,
            partition,
            [(f"{one.partition}:{one.offset}".encode(), codec.encode_disposition(one)) for one in cut.dispositions],
        )
    for letter in cut.dead_letters:
        publisher.publish(
            topics.dead_letters,
            letter.key,
            letter.value,
            headers=[
                ("topic", topics.journal.encode()),
                ("partition", str(partition).encode()),
                ("offset", str(letter.offset).encode()),
                ("reason", letter.reason.encode()),
            ],
        )
    for key, value in cut.reroutes:
        publisher.publish(topics.journal, key, value)


def _shards(codec: Codec, tallies: list[ChangedTally], partition: int) -> list[tuple[bytes, bytes]]:
    number = partition.to_bytes(2, "big")
    return [
        (
            changed.key[1:] + number,
            codec.encode_shard(layout.unpack_tally(changed.packed).shard(domain_key(changed.key), partition)),
        )
        for changed in tallies
    ]
