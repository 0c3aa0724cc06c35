"""Taking a partition over: find its state, check whose it is, refuse when the answer could be wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from pipeline.codec.records import Codec
from pipeline.domain.fold import Journal
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal
from pipeline.kafka.admin import TopicState, describe
from pipeline.kafka.topics import Topics
from pipeline.worker.partition import NEW_NAMESPACE, Origin, Partition
from pipeline.worker.snapshots import Snapshots
from pipeline.worker.store import Store

log = logging.getLogger("meterline.worker")


class Opening:
    """Opens partitions of one journal. ``state`` is this worker's own directory."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        topics: Topics,
        rules: FoldRules,
        state: Path,
        snapshots: Snapshots | None,
        codec: Codec,
    ) -> None:
        self._kafka = kafka
        self._journal = topics.journal
        self._outputs = (topics.summaries, topics.dispositions)
        self._rules = rules
        self._state = state
        self._snapshots = snapshots
        self._codec = codec
        self._topic: TopicState | None = None

    def topic(self) -> TopicState:
        """The journal as the cluster has it.

        Raises Refusal when it cannot be folded, or is another one than when it was first asked for.
        """
        found = describe(self._kafka, [self._journal, *self._outputs])
        missing = [name for name in (self._journal, *self._outputs) if name not in found]
        if missing:
            raise Refusal(f"there is no topic {missing[0]}; `meterline topics create` makes it")
        topic = found[self._journal]
        for name in self._outputs:  # made together, with as many: a journal that was changed gives itself away
            if found[name].partitions != topic.partitions:
                raise Refusal(
                    f"{self._journal} has {topic.partitions} partitions and {name} has {found[name].partitions}: one"
                    " of them was changed, identifiers moved to other partitions, and duplicates would count twice."
                    f" Restore the topic, or {NEW_NAMESPACE}"
                )
        if topic.config.get("message.timestamp.type") != "LogAppendTime":
            raise Refusal(
                f"topic {self._journal} does not stamp records with its own clock, so windows would depend on the"
                " producers'; set message.timestamp.type=LogAppendTime on it. `meterline topics check` says what else"
                " differs"
            )
        before = self._topic or topic
        if (topic.topic_id, topic.partitions) != (before.topic_id, before.partitions):
            raise Refusal(
                f"{self._journal} was deleted and created again while this worker ran (topic id {before.topic_id}"
                f" with {before.partitions} partitions, now {topic.topic_id} with {topic.partitions}): its offsets"
                f" mean other records. Restore the topic, or {NEW_NAMESPACE}"
            )
        self._topic = topic
        return topic

    def journal_partitions(self) -> int:
        return (self._topic or self.topic()).partitions

    def open(self, number: int, committed: int) -> Partition:
        """The partition with its state, ready to go on at its ``next_offset``.

        ``committed`` is the group's offset: what records below it had to say has been published.
        """
        topic = self.topic()
        origin = Origin(self._journal, topic.topic_id, number, topic.partitions, self._rules.version)
        path = self._state / f"partition-{number}"
        if not path.exists():
            self._restore(origin, path)
        partition = self._opened(origin, path)
        first, end = self._offsets(number)
        if partition.next_offset < first and self._reaches(origin, first):
            partition.close()
            path.rename(path.with_name(f"{path.name}-at-{partition.next_offset}"))
            self._restore(origin, path)
            partition = self._opened(origin, path)
        if partition.next_offset < first:
            raise Refusal(
                f"partition {number} of {self._journal} begins at offset {first}, but the fold has to go on at"
                f" {partition.next_offset}: usage in between was deleted from the journal. Restore the topic, or give"
                " this worker a snapshot store that reaches that far (METERLINE_SNAPSHOTS)"
            )
        known = max(partition.next_offset, committed)
        if known > end:
            raise Refusal(
                f"partition {number} of {self._journal} ends at offset {end}, but records up to {known} were folded:"
                " the journal lost its newest records, and what they said stands published. Restore the brokers' data;"
                f" if it is gone, {NEW_NAMESPACE}"
            )
        partition.sign()
        partition.silent_below = committed
        return partition

    def _opened(self, origin: Origin, path: Path) -> Partition:
        journal = Journal(origin.partition, origin.partitions, self._rules)
        store = Store(path)
        try:
            return Partition(journal, origin, store, self._codec)
        except Refusal:
            store.close()
            raise

    def _restore(self, origin: Origin, path: Path) -> None:
        """Take the newest snapshot, if there is any; without one the partition is folded from the journal's start."""
        if self._snapshots is not None:
            cursor = self._snapshots.restore(origin, path)
            if cursor is not None:
                log.info("partition %d: restored the snapshot at offset %d", origin.partition, cursor)

    def _reaches(self, origin: Origin, offset: int) -> bool:
        """Whether a snapshot goes on where the journal now begins."""
        cursor = self._snapshots.newest_cursor(origin) if self._snapshots is not None else None
        return cursor is not None and cursor >= offset

    def _offsets(self, number: int) -> tuple[int, int]:
        """(first offset, offset after the last) of a partition."""
        admin = AdminClient({**self._kafka, "log_level": 2})
        place = TopicPartition(self._journal, number)
        found = [
            admin.list_offsets({place: spec}, request_timeout=30)[place].result().offset
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
        ]
        return found[0], found[1]
