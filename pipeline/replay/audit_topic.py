"""What the summary topic holds: of each key the newest version, and what makes no sense in it."""

from __future__ import annotations

from typing import Any

from pipeline.codec import digests
from pipeline.codec.records import Codec
from pipeline.codec.shard_columns import PackedShard, decode_shards
from pipeline.errors import UndecodableRecord
from pipeline.replay.audit_findings import DIFFERENCES_TOLD_MAX, Difference, differing, shown_key
from pipeline.replay.audit_reading import Client, PartitionReader
from pipeline.replay.audit_shards import kept_shards


class StandingShards:
    """The shards of one partition as a reader of the topic has them: of one key the highest version.

    A record without a value deletes: compaction forgets what stood there, so a later reader would never see it.
    """

    def __init__(self, where: str, partition: int, codec: Codec) -> None:
        self.where = where
        self.strange: list[Difference] = []
        """What no reader can make sense of, or two readers could read differently."""
        self.kept = kept_shards(partition)
        self.overtaken: set[bytes] = set()
        """Keys whose newest version is not their last record: compaction would keep an older one."""
        self._fresh: dict[bytes, bytes] = {}
        self._position = 0
        self._partition = partition
        self._codec = codec

    def read(self, client: Client, topic: str, end: int) -> None:
        """Take in the records of the topic up to ``end`` that have not been read yet."""
        if end <= self._position:
            return
        reader = PartitionReader(client, topic, self._partition, self._position)
        for messages in reader.pieces(end):
            self.take(messages)
        self._position = end

    def take(self, messages: list[Any]) -> None:
        """Some more records, in their order."""
        values = [message.value() for message in messages]
        number = self._partition.to_bytes(2, "big")
        for message, shard in zip(messages, decode_shards(self._codec, values), strict=True):
            if isinstance(shard, UndecodableRecord):
                self._settle()
                self._strange(message, shard)
            elif shard.shard != self._partition or message.key() != shard.key + number:
                self._broken(message.offset(), f"{shown_key(shard.key)}: its key or its shard number is another's")
            else:
                self._keep(message.offset(), shard)
        self._settle()

    def _settle(self) -> None:
        self.kept.put(self._fresh)
        self._fresh = {}

    def _keep(self, offset: int, shard: PackedShard) -> None:
        before = self._fresh.get(shard.key) or self.kept.things.get(shard.key)
        if before is not None and before != shard.row:
            version, standing = digests.version_of(shard.row), digests.version_of(before)
            if version < standing:
                self.overtaken.add(shard.key)
                return
            if version == standing:
                what = f"{shown_key(shard.key)}: a second record of version {version} at offset {offset}"
                self._tell(Difference(self.where, self._partition, "differs", what, differing(before, shard.row)))
        self._fresh[shard.key] = shard.row
        self.overtaken.discard(shard.key)

    def _strange(self, message: Any, error: UndecodableRecord) -> None:
        key = message.key() or b""
        if message.value() is None and self.kept.drop(key[:-2]):
            self.overtaken.discard(key[:-2])
            return  # what is gone will be missed
        self._broken(message.offset(), f"the record of key {key!r} cannot be read: {error}")

    def _broken(self, offset: int, what: str) -> None:
        self._tell(Difference(self.where, self._partition, "broken", f"offset {offset}: {what}"))

    def _tell(self, difference: Difference) -> None:
        if len(self.strange) < DIFFERENCES_TOLD_MAX:
            self.strange.append(difference)
