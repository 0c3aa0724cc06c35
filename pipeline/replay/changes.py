"""Whether the logs of changes are whole: each is read from its first record on and held to three things.

    links      of the catalog and the generations each record says what its writer had read (domain/chain.py): all of
               that must stand before it
    offsets    these two are neither compacted nor written in transactions, so no offset is without a record. What is
               written to the adjustments may be a transaction, but they must begin at 0
    heads      that were kept elsewhere: the log must still begin with exactly the records that each is of

Links find what was done to records that were followed by another; what was done to the newest ones, or by someone who
has written everything anew, only a head finds that was kept where nobody could reach it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.codec.records import Codec
from pipeline.domain.chain import BY, FOLLOWS, NOTHING, Head, extended
from pipeline.errors import Refusal
from pipeline.kafka import admin
from pipeline.kafka.reading import Record, read
from pipeline.kafka.topics import ADJUSTMENTS, CATALOG, GENERATIONS, Topic, Topics
from pipeline.replay.audit_reading import bounds_of
from pipeline.replay.change_links import Links
from pipeline.replay.change_readers import Reader, Told, adjustments_reader, catalog_reader, generations_reader


class Log(NamedTuple):
    """A topic that keeps changes for ever."""

    topic: Topic
    reader: Callable[[Codec], Reader]
    linked: bool
    """Whether its writers say what they have read; else any service may write to it, in transactions too."""


LOGS: tuple[Log, ...] = (
    Log(CATALOG, catalog_reader, linked=True),
    Log(GENERATIONS, generations_reader, linked=True),
    Log(ADJUSTMENTS, adjustments_reader, linked=False),
)


class Finding(NamedTuple):
    """Something was done to a log."""

    topic: str
    partition: int
    offset: int
    """Of the record at which it shows; one beyond the last where the end is missing."""
    entity: str
    says: str


class Change(NamedTuple):
    """A record, as a person reads it."""

    log: str
    offset: int
    appended_at_ms: int
    by: str
    told: Told


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What one partition of a log holds, and what is wrong with it."""

    log: str
    """Name of the topic without its namespace, and partition: what a head is kept under."""
    topic: str
    partition: int
    head: Head
    kinds: Mapping[str, int]
    void: int
    """Records that everybody ignores."""
    unlinked: int
    """Records that do not say what their writer had read, where they should."""
    findings: Sequence[Finding]
    accepted: Sequence[Finding]
    """Those about records of which a head was kept that still holds: they were so when it was kept."""


def follow(
    config: Mapping[str, Any],
    topics: Topics,
    codec: Codec,
    kept: Mapping[str, Sequence[Head]],
    tell: Callable[[Change], None],
) -> Iterator[Checked]:
    """Read all logs to their ends; ``kept`` are heads by ``Checked.log``. Raises Refusal, Unavailable."""
    names = {log.topic.suffix: topics.name(log.topic) for log in LOGS}
    there = admin.describe(config, names.values())
    left = dict(kept)
    for log in LOGS:
        name = names[log.topic.suffix]
        state = there.get(name)
        if state is None and log.topic is not GENERATIONS:
            raise Refusal(f"there is no topic {name}: restore it; where it never was, run `meterline topics create`")
        bounds = [] if state is None else bounds_of(config, name, state.partitions)
        for partition, (first, end) in enumerate(bounds):
            label = f"{log.topic.suffix}/{partition}"
            following = Following(label, name, partition, log.reader(codec), left.pop(label, ()), linked=log.linked)
            if end > first:
                for record in read(config, name, "beginning", partition=partition):
                    tell(following.take(record))
            yield following.checked(end)
    for label, heads in left.items():
        suffix, _, number = label.rpartition("/")
        gone = Following(label, names.get(suffix, suffix), int(number), adjustments_reader(codec), heads, linked=False)
        yield gone.checked(0)


class Following:
    """One partition, record after record."""

    def __init__(
        self, log: str, topic: str, partition: int, reader: Reader, kept: Sequence[Head], *, linked: bool
    ) -> None:
        self._log, self._topic, self._partition = log, topic, partition
        self._reader, self._linked = reader, linked
        self._head, self._links = NOTHING, Links()
        self._kept = Kept(kept)
        self._next = self._void = 0
        self._kinds: Counter[str] = Counter()
        self._found: list[tuple[int, Finding]] = []
        """With how many records stand before each."""

    def take(self, record: Record) -> Change:
        """The next record."""
        said = dict(record.headers)
        told = self._reader(record.value)
        self._look_for_gap(record.offset)
        if told.lacks:
            self._find(record.offset, told.entity, told.lacks)
        self._head = extended(self._head, record.key, record.value, record.headers)
        if self._linked:
            self._links.take(record.offset, told.entity, said.get(FOLLOWS), self._head)
        self._kept.hold(self._head)
        self._kinds[told.kind] += 1
        self._void += not told.stands
        self._next = record.offset + 1
        return Change(self._log, record.offset, record.appended_at_ms, _text(said.get(BY)), told)

    def checked(self, end: int) -> Checked:
        """What came of it, once it was read up to ``end``."""
        self._look_for_gap(max(end, self._next))
        for offset, says in self._kept.broken(self._head.records):
            self._find(offset, "", says)
        judged_from = self._kept.holds
        broken = [
            (one.before, self._finding(one.offset, one.entity, one.says)) for one in self._links.findings(judged_from)
        ]
        found = sorted(self._found + broken, key=lambda one: (one[1].offset, one[0]))
        return Checked(
            self._log,
            self._topic,
            self._partition,
            self._head,
            dict(sorted(self._kinds.items())),
            self._void,
            self._links.absent,
            [finding for count, finding in found if count >= judged_from],
            [finding for count, finding in found if count < judged_from],
        )

    def _look_for_gap(self, offset: int) -> None:
        if offset > self._next and (self._linked or self._next == 0):
            count = offset - self._next
            here = f"offset {self._next}" if count == 1 else f"offsets {self._next} to {offset - 1}"
            self._find(self._next, "", f"there is no record at {here}")

    def _find(self, offset: int, entity: str, says: str) -> None:
        self._found.append((self._head.records, self._finding(offset, entity, says)))

    def _finding(self, offset: int, entity: str, says: str) -> Finding:
        return Finding(self._topic, self._partition, offset, entity, says)


class Kept:
    """Heads of one log that were kept elsewhere, held to the log as it is read."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._digests: dict[int, set[bytes]] = {}
        for head in heads:
            self._digests.setdefault(head.records, set()).add(head.digest)
        self._differs: int | None = None
        self.holds = 0
        """The log begins with exactly so many records that a head was kept of."""
        self.hold(NOTHING)

    def hold(self, head: Head) -> None:
        digests = self._digests.get(head.records)
        if digests is None:
            return
        if digests == {head.digest}:
            self.holds = head.records
        elif self._differs is None:
            self._differs = head.records

    def broken(self, count: int) -> Iterator[tuple[int, str]]:
        """What does not hold of a log with so many records, and from which record on."""
        if self._differs is not None:
            same = self.holds if self.holds < self._differs else 0
            says = f"the first {self._differs:,} records are not those of the head that was kept"
            yield same, f"{says}; the first {same:,} are" if same else says
        beyond = max(self._digests, default=0)
        if beyond > count:
            yield count, f"the log ends after {count:,} records, and a head was kept of {beyond:,}"


def _text(said: str | bytes | None) -> str:
    return said.decode("utf-8", "backslashreplace") if isinstance(said, bytes) else said or ""
