"""Taking a partition over: find its state, check whose it is, refuse when the answer could be wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pipeline.codec.records import Codec
from pipeline.domain.fold import Journal
from pipeline.domain.limits import FoldRules
from pipeline.errors import Refusal, Unavailable
from pipeline.kafka.admin import TopicState
from pipeline.kafka.topics import Topics
from pipeline.worker.edges import Cluster, Stores
from pipeline.worker.partition import NEW_NAMESPACE, Origin, Partition

log = logging.getLogger("meterline.worker")

TRIES = 5
"""How often a snapshot store that is away is asked before the journal has to do, which may take much longer."""


class Opening:
    """Opens partitions of one journal in the stores of one worker."""

    def __init__(
        self,
        cluster: Cluster,
        stores: Stores,
        topics: Topics,
        rules: FoldRules,
        codec: Codec,
        *,
        stamped: bool = True,
    ) -> None:
        """``stamped``: insist on a journal that stamps its records itself; one that is being copied does not yet."""
        self._stamped = stamped
        self.cluster = cluster
        self._stores = stores
        self._journal = topics.journal
        self._outputs = (topics.summaries, topics.dispositions)
        self._rules = rules
        self._codec = codec
        self._topic: TopicState | None = None
        self._in_vain = 0
        """How often the snapshot store has been asked since it last answered."""

    def topic(self) -> TopicState:
        """The journal as the cluster has it.

        Raises Refusal when it cannot be folded, or is another one than when it was first asked for.
        """
        found = self.cluster.describe([self._journal, *self._outputs])
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
        if self._stamped and topic.config.get("message.timestamp.type") != "LogAppendTime":
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

    def check_place(self, number: int, next_offset: int) -> None:
        """Raise Refusal when a fold that stands at ``next_offset`` of a partition cannot go on with its journal."""
        self.topic()
        first, end = self.cluster.offsets(self._journal, number)
        if first > next_offset:
            raise Refusal(
                f"partition {number} of {self._journal} begins at offset {first} now, but the fold stands at"
                f" {next_offset}: usage in between was deleted from the journal. Restore the topic, or start this"
                " worker again with a snapshot store that reaches that far (METERLINE_SNAPSHOTS)"
            )
        self._check_end(number, next_offset, end)

    def cut_off(self, next_offsets: Mapping[int, int]) -> dict[int, int]:
        """Of ``next_offsets``, at which the folds stand, those that the journal holds no more, as it looks.

        Raises Unavailable.
        """
        firsts, ends = (ask(self._journal, next_offsets) for ask in (self.cluster.firsts, self.cluster.ends))
        return {number: at for number, at in next_offsets.items() if not firsts[number] <= at <= ends[number]}

    def _check_end(self, number: int, known: int, end: int) -> None:
        if known > end:
            raise Refusal(
                f"partition {number} of {self._journal} ends at offset {end}, but records up to {known} were folded:"
                " the journal lost its newest records, and what they said stands published. Restore the brokers' data;"
                f" if it is gone, {NEW_NAMESPACE}"
            )

    def journal_partitions(self) -> int:
        return (self._topic or self.topic()).partitions

    def open(self, number: int, committed: int) -> Partition:
        """The partition with its state, ready to go on at its ``next_offset``.

        ``committed`` is the group's offset: what records below it had to say has been published. Raises Refusal, and
        Unavailable; after the latter it can be asked for again.
        """
        topic = self.topic()
        origin = Origin(self._journal, topic.topic_id, number, topic.partitions, self._rules.version)
        if not self._stores.stands(number):
            self._restore(origin)
        partition = self._opened(origin)
        try:
            first, end = self.cluster.offsets(self._journal, number)
            left_behind = partition.next_offset < first and self._reaches(origin, first)
        except Unavailable:
            partition.close()
            raise
        if left_behind:
            partition.close()
            self._stores.set_aside(number, partition.next_offset)
            self._restore(origin)
            partition = self._opened(origin)
        if partition.next_offset < first:
            raise Refusal(
                f"partition {number} of {self._journal} begins at offset {first}, but the fold has to go on at"
                f" {partition.next_offset}: usage in between was deleted from the journal. Restore the topic, or give"
                " this worker a snapshot store that reaches that far (METERLINE_SNAPSHOTS)"
            )
        self._check_end(number, max(partition.next_offset, committed), end)
        partition.sign()
        partition.silent_below = partition.acts_from = committed
        return partition

    def _opened(self, origin: Origin) -> Partition:
        journal = Journal(origin.partition, origin.partitions, self._rules)
        store = self._stores.open(origin.partition)
        try:
            return Partition(journal, origin, store, self._codec)
        except Refusal:
            store.close()
            raise

    def _restore(self, origin: Origin) -> None:
        """Take the newest snapshot, if there is any; without one the partition is folded from the journal's start.

        So it is after some tries when the snapshot store is away, if the journal still has its start: the state comes
        out the same. Raises Unavailable until then.
        """
        try:
            cursor = self._stores.restore(origin)
        except Unavailable as error:
            self._in_vain += 1
            first, _ = self.cluster.offsets(self._journal, origin.partition)
            if first > 0 or self._in_vain < TRIES:
                raise
            log.warning(
                "partition %d is folded from the journal's beginning, which may take long: %s", origin.partition, error
            )
            return
        self._in_vain = 0
        if cursor is not None:
            log.info("partition %d: restored the snapshot at offset %d", origin.partition, cursor)

    def _reaches(self, origin: Origin, offset: int) -> bool:
        """Whether a snapshot goes on where the journal now begins."""
        cursor = self._stores.newest_cursor(origin)
        return cursor is not None and cursor >= offset
