"""Of each shard, the record that was appended last must be the newest: that is the one which compaction keeps.

A worker that has lost its partition and does not know it yet (frozen, or cut off) may append an old shard behind the
newer one of its successor. Whoever reads both takes the newer. But once the log is compacted there is only the old one.

So a partition's owner counts what it appends. When the log is longer than that, somebody else has appended too: what
came since is read, and of every shard whose last record is older than the store's, the store's is appended once more.
What the store has dropped, because no rule can reach it any more, is compared with the log itself.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

from pipeline.codec.digests import version_of
from pipeline.codec.records import Codec
from pipeline.codec.shard_columns import PackedShard, decode_shards
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics
from pipeline.worker import layout
from pipeline.worker.cell import ChangedTally
from pipeline.worker.edges import Cluster, Keyed
from pipeline.worker.partition import Partition, Seen
from pipeline.worker.publishing import shards_of

log = logging.getLogger("meterline.worker")

RECORDS_AT_ONCE = 20_000
"""Read while no flush can begin."""
DROPPED_MAX = 200_000
"""Keys of one partition that are compared with the log; of more a worker that begins without a store would have to hold
all that there ever was."""
_DELETED = -1
"""In place of a version."""


class Look(NamedTuple):
    """What came of a look at a partition's summary log."""

    behind: list[tuple[bytes, bytes]]
    """(key, value) of shards that are to be appended once more."""
    seen: Seen
    """What holds when they are acknowledged."""
    more: bool
    """Whether some of the log was left for another look."""


class SummaryLogs:
    """The summary topic's partitions, as the worker that owns them looks at them.

    To be asked between flushes: then a store has what its partition has published, and nothing is on its way.
    """

    def __init__(self, cluster: Cluster, codec: Codec, topics: Topics) -> None:
        self._cluster = cluster
        self._codec = codec
        self._topic = topics.summaries
        self._dropped: dict[int, set[bytes]] = {}
        """By partition, keys that were seen in the log and are not in the store."""

    def unseen(self, partitions: Collection[Partition]) -> list[int]:
        """Those with records that this worker has not appended. Raises Unavailable."""
        whole = {one.journal.partition: one for one in partitions if one.is_caught_up}
        ends = self._cluster.ends(self._topic, list(whole))
        for number, end in ends.items():
            at = whole[number].summaries = whole[number].summaries.begun_again()
            if at.appended is not None and at.upto + at.appended == end:
                whole[number].summaries = Seen(end, 0)
        return [number for number, end in ends.items() if whole[number].summaries != Seen(end, 0)]

    def look(self, partition: Partition) -> Look:
        """Look through some of what was not seen yet. Raises Unavailable.

        A partition that was taken over meanwhile is looked at when it has caught up: until then its store may be as old
        as the log's last records, which a late writer has put there and compaction has left.
        """
        if not partition.is_caught_up:
            return Look([], partition.summaries, more=False)
        number, at = partition.journal.partition, partition.summaries.upto
        since = at if partition.summaries.since is None else partition.summaries.since
        end = self._cluster.ends(self._topic, [number])[number]
        if end < at:
            log.warning("%s-%d has lost records: `meterline audit` tells which", self._topic, number)
            at = end
        records = self._cluster.records(self._topic, number, at, end, RECORDS_AT_ONCE)
        upto = records[-1].offset + 1 if len(records) == RECORDS_AT_ONCE else end
        shards = decode_shards(self._codec, [record.value for record in records])
        if any(not isinstance(one, UndecodableRecord) and version_of(one.row) >= partition.cursor for one in shards):
            # Somebody is ahead of us: what he has said is known when we are there.
            return Look([], Seen(at, None, since), more=False)
        again = self._overtaken(partition, records, shards)
        if again:
            log.warning("%s-%d: %d shards were behind older ones, appended again", self._topic, number, len(again))
        seen = Seen(upto, len(again) if upto == end else None, since)
        return Look(shards_of(self._codec, again, number), seen, more=upto < end)

    def _overtaken(
        self, partition: Partition, records: list[Keyed], shards: list[PackedShard | UndecodableRecord]
    ) -> list[ChangedTally]:
        """The store's tallies of which the last of these records is an older shard, or deletes it."""
        last: dict[bytes, int] = {}
        for record, shard in zip(records, shards, strict=True):
            if not isinstance(shard, UndecodableRecord):
                last[layout.TALLY + shard.key] = version_of(shard.row)
            elif record.value is None and record.key is not None:
                last[layout.TALLY + record.key[:-2]] = _DELETED
        keys = list(last)
        found = partition.store.get_many(keys) if keys else []
        pairs = list(zip(keys, found, strict=True))
        dropped = self._dropped.setdefault(partition.journal.partition, set())
        dropped.update(key[1:] for key, packed in pairs if packed is None)
        return [
            (key, packed[: layout.TALLY_BYTES])
            for key, packed in pairs
            if packed is not None and version_of(packed) > last[key]
        ]

    def dropped(self, number: int) -> list[tuple[bytes, bytes]]:
        """At the end of a look: the newest record of each shard that is in no store, and not last in the log.

        Flushes may go on meanwhile. Raises Unavailable.
        """
        keys = self._dropped.pop(number, set())
        if not 0 < len(keys) <= DROPPED_MAX:
            return []
        newest: dict[bytes, tuple[int, Keyed]] = {}
        last: dict[bytes, int] = {}
        at, end = 0, self._cluster.ends(self._topic, [number])[number]
        while at < end:
            records = self._cluster.records(self._topic, number, at, end, RECORDS_AT_ONCE)
            for record, shard in zip(records, decode_shards(self._codec, [one.value for one in records]), strict=True):
                if not isinstance(shard, UndecodableRecord) and shard.key in keys:
                    last[shard.key] = version_of(shard.row)
                    if shard.key not in newest or newest[shard.key][0] < last[shard.key]:
                        newest[shard.key] = last[shard.key], record
            at = records[-1].offset + 1 if len(records) == RECORDS_AT_ONCE else end
        behind = [record for key, (version, record) in newest.items() if version > last[key]]
        return [(record.key, record.value) for record in behind if record.key is not None and record.value is not None]
