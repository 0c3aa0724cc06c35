"""The audit of one journal partition, in a process of its own: fold it again, and hold every derived side to that."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.clickhouse.tables import derived
from pipeline.codec import digests
from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition
from pipeline.domain.fold import Journal
from pipeline.kafka.topics import Topics
from pipeline.replay.audit_clickhouse import ANSWER_TIMEOUT_S, AuditedTables, Tabled
from pipeline.replay.audit_decisions import DECISIONS, Decided, compare_decisions, kept_decisions
from pipeline.replay.audit_dispositions import StandingDispositions
from pipeline.replay.audit_findings import Compared, Difference, PartitionFindings, shown_key
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_holes import JournalHoles
from pipeline.replay.audit_kept import Expected, Part, differing_parts
from pipeline.replay.audit_reading import Bounds, Client, PartitionReader, bounds_of
from pipeline.replay.audit_shards import Shards, compare_rows, day_of, kept_shards
from pipeline.replay.audit_state import StateImage, compare_state
from pipeline.replay.audit_topic import StandingShards

Images = Callable[[int], contextlib.AbstractContextManager[Any]]
"""The worker's states of a partition that can be reached."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionAudit:
    """What the audit of one partition needs; goes to another process."""

    kafka: Mapping[str, Any]
    topics: Topics
    topic_id: str
    journal: Journal
    codec: Callable[[], Codec]
    cursor: int
    """The worker's committed offset: all that lies below was published."""
    summaries_end: int
    dispositions: Bounds
    dispositions_kept_ms: int
    """For how long their topic keeps them, by its configuration; -1: for ever."""
    images: Images | None
    """None: worker states are left out this time."""
    clickhouse: Server | None
    """None: the tables are left out this time."""
    tabled: Tabled
    """What ClickHouse said of this partition."""

    @property
    def number(self) -> int:
        return self.journal.partition


def audit_partition(audit: PartitionAudit) -> PartitionFindings:
    """Raises Refusal when the journal cannot be folded from its start, Unavailable when something is away."""
    gc.disable()  # millions of objects, no cycles
    with contextlib.closing(Client(audit.kafka)) as client:
        return PartitionRun(audit, client).findings(audit)


class PartitionRun:
    """One partition's audit, once or round after round.

    The fold only moves forward, and on its way it meets what is to compare; what was read of the topic is kept. So a
    later round costs what has come since. What is left out of a round stands as it was found when it was looked at.
    """

    def __init__(self, audit: PartitionAudit, client: Client) -> None:
        codec = audit.codec()
        self.audit = audit
        self.fold = AuditFold(audit.journal, codec)
        self.found = PartitionFindings(audit.number)
        self.client = client
        self.reader = PartitionReader(client, audit.topics.journal, audit.number)
        self.images: list[StateImage] = []
        self.rows = kept_shards(audit.number)
        self.decided = kept_decisions()
        self.states: dict[str, Compared] = {}
        """By where they are."""
        self.states_took_s = 0.0
        """For how long worker states were looked into the last time."""
        self.tables: list[Compared] = []
        self.journal_end = 0
        self.standing = StandingShards(f"topic {audit.topics.summaries}", audit.number, codec)
        self.decisions = StandingDispositions(f"topic {audit.topics.dispositions}", audit.number, codec)
        self.journal = JournalHoles(audit.topics.journal, audit.number)

    def findings(self, audit: PartitionAudit) -> PartitionFindings:
        """Compare everything as of the audit's cursor, which is not below that of the round before."""
        assert audit.cursor >= self.fold.next_offset, "the fold is already beyond what is published for certain"
        self.audit = audit
        self.found = PartitionFindings(audit.number, cursor=audit.cursor)
        self.fold.forget_versions()
        self.images = []
        if audit.images is None:
            self._compare()
            return self.found
        self.states_took_s = 0.0
        with contextlib.ExitStack() as opened:
            with self._looking_at_states():
                images = opened.enter_context(audit.images(audit.number))
            there = {one.where for one in images}
            self.states = {where: side for where, side in self.states.items() if where in there}
            # Asked for only now: a store that runs on may stand behind what was the end when the audit began.
            self.journal_end = self._end_of_journal()
            reached = [one for one in self._within(images) if one.cursor >= self.fold.next_offset]
            self.images = sorted(reached, key=lambda one: one.cursor)
            self._compare()
        return self.found

    @contextlib.contextmanager
    def _looking_at_states(self) -> Iterator[None]:
        began_s = time.monotonic()
        yield
        self.states_took_s += time.monotonic() - began_s

    def _within(self, images: list[StateImage]) -> Iterator[StateImage]:
        """Those that the journal reaches; of the others it has lost what they stand on."""
        for image in images:
            if not image.fault and image.cursor <= self.journal_end:
                yield image
                continue
            side = Compared(image.where, image.cursor)
            ends = () if image.fault else (("the journal's end", str(image.cursor), str(self.journal_end)),)
            what = image.fault or "it has folded records that the journal has lost"
            side.differ(Difference(image.where, self.audit.number, "broken", what, ends))
            self.states[image.where] = side

    def _compare(self) -> None:
        audit, found = self.audit, self.found
        self.standing.read(self.client, audit.topics.summaries, audit.summaries_end)
        self.decisions.read(self.client, audit.topics.dispositions, audit.dispositions)
        self.fold_to(audit.cursor)
        rows, decided = self.fold.settled()
        self.rows.put(rows)
        self.decided.put(decided)
        self.fold.keep_versions()
        expected = Expected(audit.cursor, self.rows, self.fold.versions)
        decisions = Expected(audit.cursor, self.decided, self.fold.late_decisions)
        days, buckets = self.standing.kept.as_of(audit.cursor), self.decisions.kept.as_of(audit.cursor)
        sides: list[Mapping[Any, Part[Any]]] = [days, buckets, *audit.tabled]
        self.fold_past(max(map(_newest, sides)))
        found.compared += [self._compare_topic(expected, days), self._compare_dispositions(decisions, buckets)]
        if audit.clickhouse is not None:
            self.tables = [
                self._compare_tables(audit.clickhouse, expected),
                self._compare_decisions(audit.clickhouse, decisions),
            ]
        if self.images:
            self.fold_to(self.images[-1].cursor)
        found.compared = [*self.states.values(), *found.compared, *self.tables]
        found.compared.append(self._compare_books())
        found.digest = self.rows.digest()
        found.compared.append(self.journal.compared(audit.kafka, self.fold))
        found.records, found.offsets, found.holes = self.fold.records, self.fold.next_offset, self.journal.count
        found.accounts = {name: (records, value) for name, (records, value) in self.fold.state.accounts.items()}

    def fold_to(self, offset: int) -> None:
        """Fold on; states that stand at an offset on the way are compared there."""
        while self.images and self.images[0].cursor <= offset:
            image = self.images.pop(0)
            self._fold_to(image.cursor)
            with self._looking_at_states():
                self.states[image.where] = compare_state(image, self.fold, self.audit.topic_id)
        self._fold_to(offset)

    def _fold_to(self, offset: int) -> None:
        for messages in self.reader.pieces(offset):
            self.fold.fold_all(messages)
        self.fold.pass_over(offset)

    def fold_past(self, version: int) -> None:
        """Fold on until this version is known; one beyond the end of the journal never is."""
        if version >= self.fold.next_offset:
            self.fold_to(min(version + 1, self._end_of_journal()))

    def _end_of_journal(self) -> int:
        return bounds_of(self.audit.kafka, self.audit.topics.journal, self.audit.journal.partitions)[
            self.audit.number
        ].end

    def _compare_topic(self, expected: Shards, days: Mapping[int, Part[bytes]]) -> Compared:
        kept, overtaken = self.standing.kept, self.standing.overtaken
        side = Compared(self.standing.where, self.audit.cursor, items=len(kept.things), digest=str(kept.digest()))
        for strange in self.standing.strange:
            side.differ(strange)
        if list(differing_parts(days, expected)):
            compare_rows(side, self.audit.number, expected, kept.things)
        if overtaken:
            self.found.notes.append(
                f"{len(overtaken)} keys of {self.audit.topics.summaries}-{self.audit.number} have an older version"
                f" behind their newest, for example {shown_key(min(overtaken))}: a worker that had lost its partition"
                " published late. Readers take the newest; the worker that has the partition now appends it again"
            )
        return side

    def _compare_tables(self, clickhouse: Server, expected: Shards) -> Compared:
        """Digests day by day; only the rows of days that differ are asked for."""
        number, audit = self.audit.number, self.audit
        known = {day: one for (_, day), one in audit.tabled.days.items()}
        side = self._tabled("summary_shards", known)
        days = list(differing_parts(known, expected))
        if days:
            with self._tables(clickhouse) as tables:
                for day in days:
                    found = tables.rows(number, day)
                    self.fold_past(max([-1, *(digests.version_of(row) for row in found.values())]))
                    wanted = [key for key in expected.things if day_of(key) == day]
                    compare_rows(side, number, expected, found, wanted)
        if days and not side.differences:
            self.found.notes.append(
                f"{side.where}, partition {number}: the digests of {len(days)} days differed, but no row of them does"
                " any more: what was wrong has been written again meanwhile"
            )
        return side

    @contextlib.contextmanager
    def _tables(self, clickhouse: Server) -> Iterator[AuditedTables]:
        with translated(clickhouse), connect(clickhouse, answer_timeout_s=ANSWER_TIMEOUT_S) as client:
            yield AuditedTables(client, self.audit.topics.generation)

    def _tabled(self, name: str, known: Mapping[int, Part[Any]]) -> Compared:
        side = Compared(f"ClickHouse {derived(name, self.audit.topics.generation)}", self.audit.cursor)
        side.items = sum(one.size + len(one.late) for one in known.values())
        side.digest = str(digests.added(one.early for one in known.values()))
        return side

    def _compare_dispositions(self, decided: Decided, buckets: Mapping[int, Part[int]]) -> Compared:
        """The topic's. What is older than it keeps anything may be there or not."""
        audit, kept_ms = self.audit, self.audit.dispositions_kept_ms
        oldest_ms = time.time_ns() // 10**6 - kept_ms if kept_ms >= 0 else 0
        things = self.decisions.kept.things
        digest = str(self.decisions.kept.digest())
        side = Compared(self.decisions.where, audit.cursor, items=len(things), digest=digest)
        for strange in self.decisions.strange:
            side.differ(strange)

        def may_be_gone(one: Disposition) -> bool:
            return (one.appended_at_ms or self.fold.undated[one.offset]) < oldest_ms

        for bucket in differing_parts(buckets, decided):
            found = {offset: one for offset, one in things.items() if DECISIONS.part_of(offset) == bucket}
            compare_decisions(side, audit.number, decided, found, bucket, may_be_gone)
        return side

    def _compare_decisions(self, clickhouse: Server, decided: Decided) -> Compared:
        """Every record that does not simply count has its disposition, and no other has one (invariant 2)."""
        number = self.audit.number
        known = {bucket: one for (_, bucket), one in self.audit.tabled.buckets.items()}
        side = self._tabled("dispositions", known)
        buckets = list(differing_parts(known, decided))
        if buckets:
            with self._tables(clickhouse) as tables:
                for bucket in buckets:
                    found = tables.decisions(number, bucket)
                    self.fold_past(max([-1, *(one.decided_offset for one in found.values())]))
                    compare_decisions(side, number, decided, found, bucket)
        return side

    def _compare_books(self) -> Compared:
        books = Compared("the books", self.fold.next_offset, items=self.fold.records)
        for said in self.fold.unbalanced():
            books.differ(Difference(books.where, self.audit.number, "broken", said))
        return books


def _newest(parts: Mapping[Any, Part[Any]]) -> int:
    """The highest version that was written while the audit ran; -1 for none."""
    return max((one.version for part in parts.values() for one in part.late), default=-1)
