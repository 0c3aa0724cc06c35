"""What a flush sends to Kafka, before anything is written: shards, dispositions, dead letters and strays."""

from __future__ import annotations

import numpy as np

from pipeline.codec.dimensions import long_bytes
from pipeline.codec.records import Codec
from pipeline.codec.shards import encode_shards
from pipeline.kafka.outlet import Outlet
from pipeline.kafka.topics import Topics
from pipeline.worker import layout
from pipeline.worker.cell import ChangedTally
from pipeline.worker.dead_letters import bury
from pipeline.worker.partition import PartitionCut

PUBLISH_TIMEOUT_S = 120.0


def publish(outlet: Outlet, codec: Codec, topics: Topics, cut: PartitionCut) -> None:
    """Hand all of a cut's outputs to the outlet; its flush says when the brokers have them."""
    partition = cut.partition
    if cut.tallies:
        outlet.publish_batch(topics.summaries, partition, shards_of(codec, cut.tallies, partition))
    if cut.dispositions:
        outlet.publish_batch(
            topics.dispositions,
            partition,
            [(f"{one.partition}:{one.offset}".encode(), codec.encode_disposition(one)) for one in cut.dispositions],
        )
    for letter in cut.dead_letters:
        place = topics.journal, partition, letter.offset
        bury(outlet, topics, place, letter.key, letter.value, letter.reason)
    for key, value in cut.reroutes:
        outlet.publish(topics.journal, key, value)


def shards_of(codec: Codec, tallies: list[ChangedTally], partition: int) -> list[tuple[bytes, bytes]]:
    """(key, value) of each shard. The key is the tally's, and its partition."""
    number = partition.to_bytes(2, "big")
    heads = shard_heads(codec.frame_of("SummaryShard"), [key for key, _ in tallies], partition)
    numbers = np.frombuffer(b"".join([packed for _, packed in tallies]), layout.TALLY_ROW)
    values = encode_shards(heads, numbers)
    return [(key[1:] + number, value) for (key, _), value in zip(tallies, values, strict=True)]


def shard_heads(frame: bytes, keys: list[bytes], partition: int) -> list[bytes]:
    """What stands in front of each shard's numbers. Made of pieces that many tallies share. This is the hot loop."""
    shard = long_bytes(partition)
    whose: dict[bytes, bytes] = {}
    minutes: dict[bytes, bytes] = {}
    heads = []
    for key in keys:
        names_end = key.index(0, key.index(0, 2) + 1) + 1
        names, minute = key[:names_end], key[names_end : names_end + 8]
        head = whose.get(names)
        if head is None:
            event_name, customer, _ = names[2:].split(b"\0")
            mode = b"\x01" if names[1:2] == b"1" else b"\x00"
            sized = (long_bytes(len(event_name)), event_name, long_bytes(len(customer)), customer)
            head = whose[names] = b"".join((frame, mode, *sized))
        start = minutes.get(minute)
        if start is None:
            start = minutes[minute] = long_bytes(int.from_bytes(minute, "big", signed=True))
        heads.append(head + start + key[names_end + 8 :] + shard)
    return heads
