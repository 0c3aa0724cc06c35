"""Where generations stand: their topics and groups in Kafka, their tables in ClickHouse, their ledger."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pipeline.clickhouse import generations as sql
from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.clickhouse.migrations import migrate
from pipeline.domain.generations import BUILDING, DROPPED, LIVE, Generation, Generations
from pipeline.errors import Refusal
from pipeline.kafka import admin, fence
from pipeline.kafka.admin import TopicState
from pipeline.kafka.asking import admin_client, topics_of
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.lag import LagReader
from pipeline.kafka.members import members
from pipeline.kafka.offsets import BEGINS, Noted, committed, committed_with_notes, put_back
from pipeline.kafka.reading import partitions_of, read
from pipeline.kafka.start_offsets import commit_start_offsets
from pipeline.kafka.topics import GENERATIONS, TABLE, Topics, topics_of_generation
from pipeline.replay.beside import Beside, sql_beside
from pipeline.replay.coverage import Coverage

MIXED = 0
"""In place of a generation's number: some views show one, some another."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """One deployment, as commands about its generations see it."""

    kafka: Mapping[str, Any]
    namespace: str
    replication: int
    server: Server
    ledger: GenerationLedger

    def topics(self, generation: Generation) -> Topics:
        return topics_of_generation(self.namespace, generation)

    def coverage(self, generation: Generation) -> Coverage:
        return Coverage(self.kafka, self.topics(generation), generation.partitions)

    def members(self, group: str) -> int:
        """How many processes a consumer group has."""
        return members(self.kafka, group)

    def lag_reader(self) -> LagReader:
        return LagReader(self.kafka)

    def reopen(self, topic: str) -> None:
        """Let producers write to a topic that was closed for the sake of another one."""
        fence.reopen(self.kafka, topic)

    def beside(self, before: Generation, after: Generation) -> AbstractContextManager[Beside]:
        """The tables of two generations, to compare them."""
        return sql_beside(self.server, before, after)

    def prepare(self, generation: Generation) -> None:
        """Topics, groups and tables of a generation, those that are missing. Can be repeated."""
        admin.create(self.kafka, self.namespace, generation.partitions, self.replication, generation)
        self.restore_tables(self.ledger.read().live)
        with translated(self.server), connect(self.server) as client:
            sql.create_tables(client, generation.number, generation.journal)

    def restore_tables(self, live: Generation) -> None:
        """Whoever lost the database, or tables in it, gets them back, empty.

        Views that differ were being moved to what is live, after its tables had caught up: that is finished.
        """
        shown = self.shown()
        lost = shown is None
        if lost:
            self.want_filled(live)  # first: killed after the next step, nobody would know any more
            list(migrate(self.server))
        with translated(self.server), connect(self.server) as client:
            sql.create_shared_tables(client)
            sql.create_tables(client, live.number, live.journal)
        if lost or shown == MIXED:
            self.show(live)

    @property
    def filling_group(self) -> str:
        """The consumer group that fills the tables from the topics' start; it is there while that is to be done."""
        return f"{Topics(self.namespace).sink_group}-tables"

    def want_filled(self, live: Generation) -> None:
        """Put that group to the start of every topic that belongs to no generation, and to those of this one."""
        names = self.topics(live)
        present = topics_of(admin_client(self.kafka))
        wanted = (names.summaries, names.dispositions, names.adjustments, names.catalog, names.journal)
        places = [(topic, number) for topic in wanted if topic in present for number in present[topic].partitions]
        admin.delete(self.kafka, (), [self.filling_group])
        commit_start_offsets(self.kafka, self.filling_group, places)

    def filling_wanted(self) -> bool:
        """Whether the tables were lost and nobody has filled them since."""
        journal = self.topics(self.ledger.read().live).journal
        return bool(committed(self.kafka, self.filling_group, [(journal, 0)]))

    def known(self, fold: str) -> Generations:
        """What stands, with the rules of the first generation written down: ``fold`` where nobody has folded yet.

        Creates the ledger where it is missing.
        """
        found = self.ledger.read()
        live = found.live
        if live.fold:
            return found
        names = Topics(self.namespace)
        partitions = len(partitions_of(self.kafka, names.journal))
        admin.create_topics(self.kafka, names, [GENERATIONS], partitions, self.replication)
        places = [(names.journal, number) for number in range(partitions)]
        noted = committed_with_notes(self.kafka, names.worker_group, places).values()
        folded = {one.note.split()[0] for one in noted if one.note} - {BEGINS}
        return self.ledger.append(live.number, LIVE, live.journal, partitions, min(folded, default=fold))

    def shown(self) -> int | None:
        """The generation that all views show, those of the event log by its journal.

        MIXED when they differ, as somebody left them who was killed on the way; None when one is missing.
        """
        if not self._has_database():
            return None
        known = self.ledger.read().by_number
        with translated(self.server), connect(self.server) as client:
            numbers, journals = set(sql.shown(client).values()), set(sql.shown_journals(client).values())
        if None in numbers | journals:
            return None
        if len(numbers) > 1 or len(journals) > 1:
            return MIXED
        (number,), (journal,) = numbers, journals
        one = None if number is None else known.get(number)
        return MIXED if one is not None and one.journal != journal else number

    def newest_records(self, generation: Generation) -> dict[int, tuple[int, int]]:
        """By partition, (offset, appended_at_ms) of a record that its tables tell of; nothing without tables."""
        if not self._has_database():
            return {}
        with translated(self.server), connect(self.server) as client:
            return sql.newest_records(client, generation.number)

    def _has_database(self) -> bool:
        with translated(self.server), connect(self.server, database="default") as client:
            return bool(int(str(client.command(f"EXISTS DATABASE {self.server.database}"))))

    def journal(self, generation: Generation) -> TopicState | None:
        """The journal that a generation is folded from, as the cluster has it; None when there is none."""
        name = self.topics(generation).journal
        return admin.describe(self.kafka, [name]).get(name)

    def partitions(self, generation: Generation) -> int:
        """How many partitions its journal had when it was made; 0 where nothing tells."""
        name = self.topics(generation).summaries
        made = admin.describe(self.kafka, [name]).get(name)
        return generation.partitions or (made.partitions if made is not None else 0)

    def appended_at(self, generation: Generation, partition: int, offset: int) -> int | None:
        """When the journal's record at this offset was appended; None when there is none."""
        with contextlib.closing(read(self.kafka, self.topics(generation).journal, offset, partition=partition)) as log:
            record = next(log, None)
        return record.appended_at_ms if record is not None and record.offset == offset else None

    def put_back(self, generation: Generation, places: Mapping[tuple[str, int], Noted]) -> None:
        """Set the offsets of its workers. Raises Refusal while there are some."""
        put_back(self.kafka, self.topics(generation).worker_group, places)

    def show(self, generation: Generation) -> None:
        with translated(self.server), connect(self.server) as client:
            sql.show(client, generation.number, generation.journal)

    def _check_taken_over(self, known: Generations, one: Generation) -> None:
        """Refuse while only this generation's group says how far strays are sent on and dead letters written."""
        places = [(self.topics(one).journal, number) for number in range(one.partitions)]

        def noted(other: Generation) -> set[tuple[str, int]]:
            return {place for place, found in self.noted(other, places).items() if found.note}

        others = [other for other in known.kept if other.number != one.number and other.journal == one.journal]
        if others and noted(one) - set().union(*map(noted, others)):
            raise Refusal(
                f"no worker of generation {known.live.number} has taken over from generation {one.number} yet, which"
                " alone knows where to go on: start a worker, then drop it"
            )

    def drop(self, number: int) -> Generation:
        """Delete a generation for good; returns it as it was. Goes on where an earlier drop was killed.

        Raises Refusal for the live one, for one that never was, and while its processes run.
        """
        found = self.ledger.read()
        one = found.by_number.get(number)
        if one is None or number == found.live.number:
            why = "it is live: `meterline rebuild` makes another" if one else "`meterline generations list` shows all"
            raise Refusal(f"generation {number} cannot be dropped: {why}")
        shown = self.shown()
        if shown in (number, MIXED):
            what = "what the views show" if shown == number else "perhaps in some of the views, which differ"
            raise Refusal(f"generation {number} is {what}: `meterline rebuild` shows the live one first")
        topics = self.topics(one)
        own = [topics.name(row) for row in TABLE if row.belongs_to == "generation"]
        groups = (topics.worker_group, topics.sink_group)
        self._check_taken_over(found, one)
        if one.state != DROPPED:
            self.ledger.append(number, DROPPED, one.journal, one.partitions, one.fold)
        live = self.topics(found.live)
        if one.state in (BUILDING, DROPPED) and one.journal > found.live.journal:  # an unfinished copy of the journal
            own.append(topics.journal)
            for topic in (live.journal, live.adjustments):
                self.reopen(topic)
        self.delete(own, groups)
        self.drop_tables(
            one, log=not any(other.journal == one.journal for other in found.kept if other.number != number)
        )
        return one

    def noted(self, generation: Generation, places: list[tuple[str, int]]) -> dict[tuple[str, int], Noted]:
        """What its workers have committed."""
        return committed_with_notes(self.kafka, self.topics(generation).worker_group, places)

    def acted(self, generation: Generation) -> dict[int, int]:
        """By partition of its journal: below it strays are sent on and dead letters written, as notes tell.

        Whoever did it: workers of any generation of that journal. An offset without a note is that of a worker that
        only folded (worker/acts.py).
        """
        places = [(self.topics(generation).journal, number) for number in range(generation.partitions)]
        found = dict.fromkeys(range(generation.partitions), 0)
        for other in self.ledger.read().kept:
            for (_, number), one in self.noted(other, places).items():
                if one.note:
                    found[number] = max(found[number], one.offset)
        return found

    def delete(self, topics: Sequence[str], groups: Sequence[str]) -> None:
        """Raises Refusal while somebody is in one of the groups."""
        admin.delete(self.kafka, topics, groups)

    def drop_tables(self, generation: Generation, *, log: bool) -> None:
        """``log``: with the event log of its journal."""
        with translated(self.server), connect(self.server) as client:
            sql.drop_tables(client, generation.number)
            if log:
                sql.drop_event_log(client, generation.journal)


assert GENERATIONS.belongs_to == "deployment", "the ledger outlives every generation"
