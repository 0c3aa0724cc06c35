"""What only the worker of the live generation does: it sends strays on to their partition and writes dead letters.

Neither belongs to the fold's state, and one copy of each is enough, so a worker that builds another generation leaves
them out. How far they are done stands in Kafka: an acting worker commits its offsets with a note, the fold's version.
Whoever takes over from it begins where the farthest note of any generation stands, and at the journal's start where
there is none: an offset without a note is that of a worker that only folded. A copy too many does no harm (a duplicate,
a letter twice), one too few would be a loss: where records that were still to be seen to are gone from the journal,
nobody takes over, unless an operator had the group begin where the journal does now (``BEGINS``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, MeterEvent
from pipeline.domain.fold import Undecodable, is_stray
from pipeline.errors import Refusal, UndecodableRecord
from pipeline.kafka.bounds import EARLIEST, offsets
from pipeline.kafka.offsets import Noted, committed_with_notes
from pipeline.kafka.outlet import Outlet
from pipeline.kafka.reading import Record, read
from pipeline.kafka.topics import Topics
from pipeline.worker.dead_letters import bury
from pipeline.worker.partition import Partition

Place = tuple[str, int]
"""(topic, partition)"""


class Acts:
    """One worker's part in it.

    ``before``: the groups of workers of other generations. ``alone``: whether there has never been one.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topics: Topics,
        codec: Codec,
        outlet: Outlet,
        *,
        acting: bool,
        before: tuple[str, ...],
        alone: bool,
    ) -> None:
        self._kafka = {**kafka, "log_level": 0}
        self._topics = topics
        self._codec = codec
        self._outlet = outlet
        self._acting = acting
        self._alone = alone
        self._groups = (topics.worker_group, *before)

    def below(self, places: Iterable[Place]) -> dict[Place, int]:
        """Below which offset all is done, as all generations say in notes; nothing where there never was another."""
        found: dict[Place, int] = {}
        asked = list(places)
        if not self._acting or self._alone or not asked:
            return found
        for group in self._groups:
            for place, noted in self._noted(group, asked).items():
                if noted.note:
                    found[place] = max(found.get(place, 0), noted.offset)
        return found

    def take_over(self, partition: Partition, committed: int) -> None:
        """Do what is left of the records that are folded already, and let the partition go on from there.

        It is done when the outlet is flushed. ``committed``: our group's offset, below which its workers have done it
        if there never was another generation. Raises Refusal when such records are gone, and Unavailable.
        """
        if not self._acting:
            partition.acts_from = None
        elif self._alone:
            partition.acts_from = committed
        else:
            place = self._topics.journal, partition.journal.partition
            partition.acts_from = start = self.below([place]).get(place, 0)
            if start < partition.next_offset:
                self._check_beginning(place, start)
                self._act(partition, start)

    def _check_beginning(self, place: Place, start: int) -> None:
        first = self._first(place)
        if start < first:
            topic, number = place
            groups = " ".join(f"--group {group}" for group in self._groups)
            raise Refusal(
                f"partition {number} of {topic} begins at offset {first}, but what lies in a wrong partition has been"
                f" sent on only below offset {start}: what was deleted in between may never be counted. Restore the"
                " topic; if it is gone, stop all workers, delete what they noted (kafka-consumer-groups --delete"
                f" {groups}) and run `meterline topics create`: they go on where the topic begins"
            )

    def _act(self, partition: Partition, start: int) -> None:
        journal, end = partition.journal, partition.next_offset
        with contextlib.closing(self._records(start, journal.partition)) as log:
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

    # What it asks of Kafka.

    def _noted(self, group: str, places: Iterable[Place]) -> dict[Place, Noted]:
        return committed_with_notes(self._kafka, group, places)

    def _first(self, place: Place) -> int:
        return offsets(self._kafka, [place], EARLIEST)[place]

    def _records(self, start: int, partition: int) -> Generator[Record, None, None]:
        return read(self._kafka, self._topics.journal, start, partition=partition, exactly=True)

    def _content(self, value: bytes | None) -> MeterEvent | Cancellation | Undecodable:
        try:
            return self._codec.decode_journal(value)
        except UndecodableRecord as error:
            return Undecodable(error.reason)
