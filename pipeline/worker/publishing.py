"""What a flush sends to Kafka, before anything is written: shards, dispositions, dead letters and strays."""

from __future__ import annotations

import numpy as np

from pipeline.codec.records import Codec
from pipeline.codec.shards import encode_shards, shard_head
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import Topics
from pipeline.worker import layout
from pipeline.worker.partition import PartitionCut
from pipeline.worker.state import ChangedTally

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
    """(key, value) of each shard; its head is encoded once in the life of a tally in memory."""
    frame, number = codec.frame_of("SummaryShard"), partition.to_bytes(2, "big")
    heads = []
    for changed in tallies:
        head = changed.cell.shard_head
        if not head:
            livemode, event_name, customer, window_start_ms, dimensions = layout.tally_key_parts(changed.key)
            head = shard_head(frame, livemode, event_name, customer, window_start_ms, dimensions, partition)
            changed.cell.shard_head = head
        heads.append(head)
    numbers = np.frombuffer(b"".join(changed.packed for changed in tallies), layout.TALLY_ROW)
    return [
        (changed.key[1:] + number, value) for changed, value in zip(tallies, encode_shards(heads, numbers), strict=True)
    ]
