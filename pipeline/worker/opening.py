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
from pipeline.worker.partition import Origin, Partition
from pipeline.worker.snapshots import Snapshots
from pipeline.worker.store import Store

log = logging.getLogger("meterline.worker")


class Opening:
    """Opens partitions of one journal. ``state`` is this worker's own directory."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        journal: str,
        rules: FoldRules,
        state: Path,
        snapshots: Snapshots | None,
        codec: Codec,
    ) -> None:
        self._kafka = kafka
        self._journal = journal
        self._rules = rules
        self._state = state
        self._snapshots = snapshots
        self._codec = codec
        self._topic: TopicState | None = None

    def topic(self) -> TopicState:
        """The journal as the cluster has it. Raises Refusal when it cannot be folded."""
        topic = describe(self._kafka, [self._journal]).get(self._journal)
        if topic is None:
            raise Refusal(f"there is no topic {self._journal}; `meterline topics create` makes it")
        if topic.config.get("message.timestamp.type") != "LogAppendTime":
            raise Refusal(
                f"topic {self._journal} does not stamp records with its own clock, so windows would depend on the"
                " producers'; set message.timestamp.type=LogAppendTime on it. `meterline topics check` says what else"
                " differs"
            )
        self._topic = topic
        return topic

    def journal_partitions(self) -> int:
        return (self._topic or self.topic()).partitions

    def open(self, number: int) -> Partition:
        """The partition with its state, ready to go on at its ``next_offset``."""
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
        if partition.next_offset > end:
            raise Refusal(
                f"partition {number} of {self._journal} ends at offset {end}, but records up to"
                f" {partition.next_offset} were folded: the journal lost its newest records. Restore the brokers'"
                " data; if it is gone, `meterline worker reset` folds what is left"
            )
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
