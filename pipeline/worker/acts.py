"""What only the worker of the live generation does: it sends strays on to their partition and writes dead letters.

Neither belongs to the fold's state, and one copy of each is enough, so a worker that builds another generation leaves
them out. How far they are done stands in Kafka: an acting worker commits its offsets with a note, the fold's version.
Whoever takes over from it begins where the farthest note of any generation stands. A copy too many does no harm (a
duplicate, a letter twice), one too few would be a loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.fold import Undecodable, is_stray
from pipeline.errors import UndecodableRecord
from pipeline.kafka.offsets import committed_with_notes
from pipeline.kafka.outlet import Outlet
from pipeline.kafka.reading import read
from pipeline.kafka.topics import Topics
from pipeline.worker.dead_letters import bury
from pipeline.worker.partition import Partition
from pipeline.worker.publishing import PUBLISH_TIMEOUT_S

Place = tuple[str, int]
"""(topic, partition)"""


class Acts:
    """One worker's part in it. ``before``: the groups of workers of other generations."""

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        outlet: Outlet,
        *,
        acting: bool,
        before: tuple[str, ...],
    ) -> None:
        self._kafka = {**kafka, "log_level": 0}
        self._topics = topics
        self._codec = codec
        self._outlet = outlet
        self._acting = acting
        self._groups = (topics.worker_group, *before)

    def below(self, places: Iterable[Place]) -> dict[Place, int]:
        """Below which offset all is done, as the notes of all generations say; nothing where there is no other."""
        found: dict[Place, int] = {}
        asked = list(places)
        if not self._acting or len(self._groups) == 1 or not asked:
            return found
        for group in self._groups:
            for place, noted in committed_with_notes(self._kafka, group, asked).items():
                if noted.note:
                    found[place] = max(found.get(place, 0), noted.offset)
        return found

    def take_over(self, partition: Partition, committed: int) -> None:
        """Do what is left of the records that are folded already, and let the partition go on from there.

        ``committed``: our group's offset, below which the workers of this generation have done it if there is no
        other generation.
        """
        number = partition.journal.partition
        start = self.below([(self._topics.journal, number)]).get((self._topics.journal, number), committed)
        partition.acts_from = start if self._acting else None
        if self._acting and start < partition.next_offset and len(self._groups) > 1:
            self._act(partition, start)

    def _act(self, partition: Partition, start: int) -> None:
        journal, end = partition.journal, partition.next_offset
        with contextlib.closing(read(self._kafka, self._topics.journal, start, partition=journal.partition)) as log:
            for record in log:
                if record.offset >= end:
                    break
                content = self._content(record.value)
                if isinstance(content, Undecodable):
                    place = self._topics.journal, record.partition, record.offset
                    bury(self._outlet, self._topics, place, record.key, record.value, content.reason)
                elif content.identifier is not None and is_stray(journal, content):
                    assert record.value is not None
                    self._outlet.publish(self._topics.journal, content.identifier.encode(), record.value)
        self._outlet.flush(PUBLISH_TIMEOUT_S)

    def _content(self, value: bytes | None) -> MeterEvent | Cancellation | Undecodable:
        try:
            return self._codec.decode_journal(value)
        except UndecodableRecord as error:
            return Undecodable(error.reason)
