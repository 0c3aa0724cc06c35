"""What the topic of dispositions holds: of each journal record the newest decision, and what makes no sense in it."""

from __future__ import annotations

from typing import Any

from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition
from pipeline.errors import UndecodableRecord
from pipeline.replay.audit_decisions import kept_decisions
from pipeline.replay.audit_findings import DIFFERENCES_TOLD_MAX, Difference, Kind
from pipeline.replay.audit_reading import Bounds, Client, PartitionReader


class StandingDispositions:
    """The dispositions of one partition as a reader of the topic has them."""

    def __init__(self, where: str, partition: int, codec: Codec) -> None:
        self.where = where
        self.kept = kept_decisions()
        self.strange: list[Difference] = []
        """What no reader can make sense of, or two readers could read differently."""
        self._partition = partition
        self._decode = codec.decode_disposition
        self._position = 0
        self._fresh: dict[int, Disposition] = {}

    def read(self, client: Client, topic: str, bounds: Bounds) -> None:
        """Take in the records of the topic up to the end that have not been read yet."""
        start = max(self._position, bounds.first)
        if start >= bounds.end:
            return
        reader = PartitionReader(client, topic, self._partition, start)
        for messages in reader.pieces(bounds.end):
            for message in messages:
                self.take(message)
        self.settle()
        self._position = bounds.end

    def take(self, message: Any) -> None:
        """The next record."""
        try:
            one = self._decode(message.value())
        except UndecodableRecord as error:
            self._tell("broken", f"offset {message.offset()}: it cannot be read: {error}")
            return
        place = f"{one.partition}:{one.offset}"
        if one.partition != self._partition or message.key() != place.encode():
            self._tell("broken", f"offset {message.offset()}: the disposition of record {place} under another's key")
            return
        before = self._fresh.get(one.offset) or self.kept.things.get(one.offset)
        if before is None or before.decided_offset < one.decided_offset:
            self._fresh[one.offset] = one
        elif before.decided_offset == one.decided_offset and before != one:
            what = f"a second disposition of record {place} as decided at {one.decided_offset}"
            self._tell("differs", f"offset {message.offset()}: {what}")
            self._fresh[one.offset] = one

    def settle(self) -> None:
        """Everything that was taken is kept."""
        self.kept.put(self._fresh)
        self._fresh = {}

    def _tell(self, kind: Kind, what: str) -> None:
        if len(self.strange) < DIFFERENCES_TOLD_MAX:
            self.strange.append(Difference(self.where, self._partition, kind, what))
