"""The audit of one journal partition, in a process of its own: fold it again, and hold every derived side to that."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.codec import digests
from pipeline.codec.digests import Digest
from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition
from pipeline.domain.fold import Journal
from pipeline.domain.limits import DAY_MS
from pipeline.kafka.topics import Topics
from pipeline.replay.audit_clickhouse import ANSWER_TIMEOUT_S, AuditedTables, Days, LateShard
from pipeline.replay.audit_decisions import compare_decisions
from pipeline.replay.audit_findings import Compared, Difference, Expected, PartitionFindings, compare_rows, shown_key
from pipeline.replay.audit_fold import AuditFold
from pipeline.replay.audit_reading import PartitionReader, bounds_of
from pipeline.replay.audit_state import StateImage, compare_state
from pipeline.replay.audit_topic import StandingShards

LONG_HOLE = 1_000
"""Offsets without a record that are worth a word: a transaction's marker takes one."""

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
    images: Images | None
    clickhouse: Server | None
    days: Days
    """What ClickHouse said of this partition."""

    @property
    def number(self) -> int:
        return self.journal.partition


def audit_partition(audit: PartitionAudit) -> PartitionFindings:
    """Raises Refusal when the journal cannot be folded from its start, Unavailable when something is away."""
    gc.disable()  # millions of objects, no cycles
    with contextlib.closing(PartitionRun(audit)) as run:
        return run.findings(audit)


class PartitionRun:
    """One partition's audit, once or round after round.

    The fold only moves forward, and on its way it meets what is to compare; what was read of the topic is kept. So a
    later round costs what has come since.
    """

    def __init__(self, audit: PartitionAudit) -> None:
        codec = audit.codec()
        self.audit = audit
        self.fold = AuditFold(audit.journal, codec)
        self.found = PartitionFindings(audit.number)
        self.reader = PartitionReader(audit.kafka, audit.topics.journal, audit.number)
        self.images: list[StateImage] = []
        self.journal_end = 0
        self.standing = StandingShards(f"topic {audit.topics.summaries}", audit.number, codec)

    def close(self) -> None:
        self.reader.close()

    def findings(self, audit: PartitionAudit) -> PartitionFindings:
        """Compare everything as of the audit's cursor, which is not below that of the round before."""
        assert audit.cursor >= self.fold.next_offset, "the fold is already beyond what is published for certain"
        self.audit = audit
        self.found = PartitionFindings(audit.number, cursor=audit.cursor)
        self.fold.forget_versions()
        with contextlib.ExitStack() as opened:
            images = [] if audit.images is None else opened.enter_context(audit.images(audit.number))
            # Asked for only now: a store that runs on may stand behind what was the end when the audit began.
            self.journal_end = self._end_of_journal()
            reached = [one for one in self._within(images) if one.cursor >= self.fold.next_offset]
            self.images = sorted(reached, key=lambda one: one.cursor)
            self._compare()
        return self.found

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
            self.found.compared.append(side)

    def _compare(self) -> None:
        audit, found = self.audit, self.found
        self.standing.read(audit.kafka, audit.topics.summaries, audit.summaries_end)
        self.fold_to(audit.cursor)
        decisions = dict(self.fold.decisions)
        self.fold.keep_versions()
        expected = Expected(audit.cursor, self.fold.rows(), self.fold.versions)
        late = [row.version for one in audit.days.values() for row in one.late]
        late += [digests.version_of(row) for row in self.standing.rows.values()]
        self.fold_past(max([-1, *late]))
        found.compared.append(self._compare_topic(expected))
        if audit.clickhouse is not None:
            found.compared.append(self._compare_tables(audit.clickhouse, expected))
            found.compared.append(self._compare_decisions(audit.clickhouse, decisions))
        if self.images:
            self.fold_to(self.images[-1].cursor)
        found.compared.append(self._compare_books())
        found.digest = _digest(expected.rows, audit.number)
        found.records, found.offsets, found.holes = self.fold.records, self.fold.next_offset, self.fold.holes
        found.longest_hole = self.fold.longest_hole
        if found.longest_hole[1] >= LONG_HOLE:
            first, offsets = found.longest_hole
            found.notes.append(
                f"the journal has no record in partition {audit.number} from offset {first} on for {offsets:,} offsets:"
                " an aborted transaction of that size, or a segment that a broker has lost. What was folded of lost"
                " records stands out as differences"
            )
        found.accounts = {name: (records, value) for name, (records, value) in self.fold.state.accounts.items()}

    def fold_to(self, offset: int) -> None:
        """Fold on; states that stand at an offset on the way are compared there."""
        while self.images and self.images[0].cursor <= offset:
            image = self.images.pop(0)
            self._fold_to(image.cursor)
            self.found.compared.append(compare_state(image, self.fold, self.audit.topic_id))
        self._fold_to(offset)

    def _fold_to(self, offset: int) -> None:
        for message in self.reader.up_to(offset):
            self.fold.fold(message)
        self.fold.pass_over(offset)

    def fold_past(self, version: int) -> None:
        """Fold on until this version is known; one beyond the end of the journal never is."""
        if version >= self.fold.next_offset:
            self.fold_to(min(version + 1, self._end_of_journal()))

    def _end_of_journal(self) -> int:
        return bounds_of(self.audit.kafka, self.audit.topics.journal, self.audit.journal.partitions)[
            self.audit.number
        ].end

    def _compare_topic(self, expected: Expected) -> Compared:
        rows, overtaken = self.standing.rows, self.standing.overtaken
        side = Compared(self.standing.where, self.audit.cursor, items=len(rows))
        for strange in self.standing.strange:
            side.differ(strange)
        compare_rows(side, self.audit.number, expected, rows)
        side.digest = str(_digest(rows, self.audit.number))
        if overtaken:
            self.found.notes.append(
                f"{len(overtaken)} keys of {self.audit.topics.summaries}-{self.audit.number} have an older version"
                f" behind their newest, for example {shown_key(min(overtaken))}: a worker that had lost its partition"
                " published late. Readers take the newest; compaction would keep the older one"
            )
        return side

    def _compare_tables(self, clickhouse: Server, expected: Expected) -> Compared:
        """Digests day by day; only the rows of days that differ are asked for."""
        number = self.audit.number
        with translated(clickhouse), connect(clickhouse, answer_timeout_s=ANSWER_TIMEOUT_S) as client:
            tables = AuditedTables(client, self.audit.topics.generation)
            side = Compared(f"ClickHouse {tables.shards}", self.audit.cursor)
            days = list(_differing_days(self.audit.days, expected, number, side))
            for day in days:
                found = tables.rows(number, day)
                self.fold_past(max([-1, *(digests.version_of(row) for row in found.values())]))
                compare_rows(side, number, expected, found, [key for key in expected.rows if _day_of(key) == day])
        if days and not side.differences:
            self.found.notes.append(
                f"{side.where}, partition {number}: the digests of {len(days)} days differed, but no row of them does"
                " any more: what was wrong has been written again meanwhile"
            )
        return side

    def _compare_decisions(self, clickhouse: Server, early: Mapping[int, Disposition]) -> Compared:
        """Every record that does not simply count has its disposition, and no other has one (invariant 2)."""
        with translated(clickhouse), connect(clickhouse, answer_timeout_s=ANSWER_TIMEOUT_S) as client:
            tables = AuditedTables(client, self.audit.topics.generation)
            found = tables.decisions(self.audit.number)
        side = Compared(f"ClickHouse {tables.dispositions}", self.audit.cursor, items=len(found))
        self.fold_past(max([-1, *(one.decided_offset for one in found.values())]))
        compare_decisions(side, self.audit.number, self.audit.cursor, early, self.fold.late_decisions, found)
        return side

    def _compare_books(self) -> Compared:
        books = Compared("the books", self.fold.next_offset, items=self.fold.records)
        for said in self.fold.unbalanced():
            books.differ(Difference(books.where, self.audit.number, "broken", said))
        return books


def _differing_days(days: Days, expected: Expected, number: int, side: Compared) -> Iterator[int]:
    """The days on which ClickHouse does not have what it must."""
    by_day: dict[int, list[bytes]] = {}
    for key in expected.rows:
        by_day.setdefault(_day_of(key), []).append(key)
    known = {day: one for (_, day), one in days.items()}
    total = Digest()
    for day in sorted({*by_day, *known}):
        found = known.get(day)
        late = {} if found is None else {row.key: row for row in found.late}
        early = [key for key in by_day.get(day, ()) if key not in late]
        digest = Digest() if found is None else found.early
        total = digests.added([total, digest])
        side.items += len(late) + (0 if found is None else found.early_shards)
        wanted = Digest().plus(_hashes({key: expected.rows[key] for key in early}, number))
        equal = digest == wanted and len(early) == (0 if found is None else found.early_shards)
        if not equal or not all(_is_known(row, expected, number) for row in late.values()):
            yield day
    side.digest = str(total)


def _is_known(late: LateShard, expected: Expected, number: int) -> bool:
    row = expected.later.get((late.key, late.version))
    return row is not None and tuple(map(int, digests.hash_shards([late.key], row, number)[0])) == late.lanes


def _hashes(rows: Mapping[bytes, bytes], number: int) -> digests.Hashes:
    if not rows:
        return np.zeros((0, 2), np.uint64)
    return digests.hash_shards(list(rows), b"".join(rows.values()), number)


def _digest(rows: Mapping[bytes, bytes], number: int) -> Digest:
    return Digest().plus(_hashes(rows, number))


def _day_of(key: bytes) -> int:
    names_end = key.index(0, key.index(0, 1) + 1) + 1
    return int.from_bytes(key[names_end : names_end + 8], "big", signed=True) // DAY_MS
