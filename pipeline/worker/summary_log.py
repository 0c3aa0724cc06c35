"""Of each shard, the record that was appended last must be the newest: that is the one which compaction keeps.

A worker that has lost its partition and does not know it yet (frozen, or cut off) may append an old shard behind the
newer one of its successor. Whoever reads both takes the newer. But once the log is compacted there is only the old one.

So a partition's owner counts what it appends. When the log is longer than that, somebody else has appended too: what
came since is read to its end, and of every shard whose last record is older than the store's, the store's is appended
once more. What the store has dropped, because no rule can reach it any more, is compared with the log itself.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from pipeline.codec.digests import version_of
from pipeline.codec.records import Codec
from pipeline.codec.shard_columns import PackedShard, decode_shards
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics
from pipeline.worker import layout
from pipeline.worker.edges import Cluster, Keyed
from pipeline.worker.partition import Partition, Seen
from pipeline.worker.publishing import shards_of

log = logging.getLogger("meterline.worker")

RECORDS_AT_ONCE = 20_000
"""Read while no flush can begin."""
KEYS_MAX = 500_000
"""That one look holds: of tallies that the log knows as older than the store does, and of those that the store has
dropped. Of more dropped ones, which a worker without a store may find, none is compared: they are all that ever was.
"""
_DELETED = -1
"""In place of a version."""


class SummaryLogs:
    """The summary topic's partitions, as the worker that owns them looks at them."""

    def __init__(self, cluster: Cluster, codec: Codec, topics: Topics) -> None:
        self._cluster = cluster
        self._codec = codec
        self._topic = topics.summaries

    def unseen(self, partitions: Collection[Partition]) -> list[Partition]:
        """Those with records that this worker has not appended. Between flushes. Raises Unavailable."""
        whole = {one.journal.partition: one for one in partitions if one.is_caught_up}
        found = []
        for number, end in self._cluster.ends(self._topic, list(whole)).items():
            at = whole[number].summaries
            if at.appended is not None and at.upto + at.appended == end:
                whole[number].summaries = Seen(end, 0)
            else:
                found.append(whole[number])
        return found

    def look(self, partition: Partition) -> Look:
        """From where its log is known to its end."""
        return Look(self._cluster, self._codec, self._topic, partition)


class Look:
    """One look at a partition's summary log, in pieces. What it finds out is in memory alone, and nothing is noted
    before its end: whoever breaks it off begins again.
    """

    def __init__(self, cluster: Cluster, codec: Codec, topic: str, partition: Partition) -> None:
        self.partition = partition
        self.number = partition.journal.partition
        self.is_over = False
        """It came to its end, or has to begin again."""
        self.seen: Seen | None = None
        """At its end: what holds when all that it returned is acknowledged."""
        self._silent_below = partition.silent_below
        self._cluster = cluster
        self._codec = codec
        self._topic = topic
        self._upto = partition.summaries.upto
        self._at_end = False
        self._overtaken: set[bytes] = set()
        """Keys of the store's tallies of which the last record so far is an older shard, or deletes it."""
        self._dropped: set[bytes] = set()
        """Keys of shards in the log that are not in the store, and not compared yet."""
        self._too_many_dropped = False
        self._newest: dict[bytes, tuple[bytes, bytes]] = {}
        """Records of dropped shards that are not last in the log."""

    def read_on(self) -> list[tuple[bytes, bytes]]:
        """Read one more piece; returns the (key, value) of shards that are to be appended now.

        Between flushes: then the store has what its partition has published, and nothing is on its way. Raises
        Unavailable.
        """
        end = self._end()
        if end < self._upto:
            log.warning("%s-%d has lost records: `meterline audit` tells which", self._topic, self.number)
            self._upto = end
        records, upto = self._piece(self._upto, end)
        shards = decode_shards(self._codec, [record.value for record in records])
        if self._is_in_vain(shards):
            self.is_over = True
            return []
        self._compare(records, shards)
        self._upto, self._at_end = upto, upto == end
        if self._dropped if self._at_end else len(self._overtaken) <= KEYS_MAX:
            return []
        again = self._again()
        if self._at_end and not self._dropped:
            again += self._newest.values()
            self.is_over, self.seen = True, Seen(end, len(again))
        if again:
            log.warning("%s-%d: %d shards were behind older ones, appended again", self._topic, self.number, len(again))
        return again

    def _is_in_vain(self, shards: list[PackedShard | UndecodableRecord]) -> bool:
        """A store that was taken over, also meanwhile, may be as old as the log's last records, which a late writer has
        put there and compaction has left. And what somebody has said who is ahead of us is known when we are there.
        """
        partition = self.partition
        return (
            not partition.is_caught_up
            or partition.silent_below != self._silent_below
            or any(not isinstance(one, UndecodableRecord) and version_of(one.row) >= partition.cursor for one in shards)
        )

    def _compare(self, records: list[Keyed], shards: list[PackedShard | UndecodableRecord]) -> None:
        """With the store. What a later piece brings up to date is overtaken no more."""
        last: dict[bytes, int] = {}
        for record, shard in zip(records, shards, strict=True):
            if not isinstance(shard, UndecodableRecord):
                last[layout.TALLY + shard.key] = version_of(shard.row)
            elif record.value is None and record.key is not None:
                last[layout.TALLY + record.key[:-2]] = _DELETED
        keys = list(last)
        for key, packed in zip(keys, self.partition.store.get_many(keys) if keys else [], strict=True):
            self._overtaken.discard(key)
            if packed is None:
                self._drop([key])
            elif version_of(packed) > last[key]:
                self._overtaken.add(key)

    def _drop(self, keys: Iterable[bytes]) -> None:
        if not self._too_many_dropped:
            self._dropped.update(key[1:] for key in keys)
        if len(self._dropped) > KEYS_MAX:
            self._too_many_dropped = True
            self._dropped.clear()

    def _again(self) -> list[tuple[bytes, bytes]]:
        """The store's shards of what is overtaken."""
        keys, self._overtaken = sorted(self._overtaken), set()
        pairs = list(zip(keys, self.partition.store.get_many(keys) if keys else [], strict=True))
        self._drop(key for key, packed in pairs if packed is None)
        kept = [(key, packed[: layout.TALLY_BYTES]) for key, packed in pairs if packed is not None]
        return shards_of(self._codec, kept, self.number)

    def compare_dropped(self) -> None:
        """At the end of the log: find the newest record of each shard that is in no store, and not last in the log.

        Flushes may go on meanwhile. Raises Unavailable.
        """
        if not self._at_end or not self._dropped:
            return
        keys, self._dropped = self._dropped, set()
        newest: dict[bytes, tuple[int, Keyed]] = {}
        last: dict[bytes, int] = {}
        at, end = 0, self._end()
        while at < end:
            records, at = self._piece(at, end)
            for record, shard in zip(records, decode_shards(self._codec, [one.value for one in records]), strict=True):
                if not isinstance(shard, UndecodableRecord) and shard.key in keys:
                    last[shard.key] = version_of(shard.row)
                    if shard.key not in newest or newest[shard.key][0] < last[shard.key]:
                        newest[shard.key] = last[shard.key], record
        for key, (version, record) in newest.items():
            self._newest.pop(key, None)
            if version > last[key] and record.key is not None and record.value is not None:
                self._newest[key] = record.key, record.value

    def _end(self) -> int:
        return self._cluster.ends(self._topic, [self.number])[self.number]

    def _piece(self, start: int, end: int) -> tuple[list[Keyed], int]:
        """The next records, and up to where they reach."""
        records = self._cluster.records(self._topic, self.number, start, end, RECORDS_AT_ONCE)
        return records, records[-1].offset + 1 if len(records) == RECORDS_AT_ONCE else end
