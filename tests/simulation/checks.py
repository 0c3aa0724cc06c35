"""The invariants, checked while a world runs and when it has come to rest; pipeline/README.md numbers them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pipeline.clickhouse.tables import derived
from pipeline.codec.records import Codec
from pipeline.domain.events import Adjustment, MeterEvent, SummaryShard
from pipeline.errors import UndecodableRecord
from pipeline.kafka.topics import Topics
from pipeline.worker.partition import Partition
from tests.simulation.broker import Broker, Place, Stored
from tests.simulation.clickhouse import SimClickHouse
from tests.simulation.oracle import Decision, Key, Ledger, Shard, Windows
from tests.simulation.validity import home


class Violation(AssertionError):
    """An invariant does not hold."""


def hold(invariant: str, holds: bool, *what: Any) -> None:
    if not holds:
        raise Violation(f"{invariant}: {' '.join(map(str, what))}")


class Outputs:
    """What one generation has published."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.shards: defaultdict[tuple[int, Key], set[int]] = defaultdict(set)
        """Versions by (partition, key)."""
        self.last: dict[tuple[int, Key], int] = {}
        """The version that was appended last, which is what compaction keeps."""
        self.decisions: set[tuple[int, int, int]] = set()
        """(partition, offset, decided_offset)"""
        self.paid: defaultdict[int, int] = defaultdict(int)
        """By partition, how much of what is owed was looked at."""


class Checks:
    """Watches every append and every commit, and compares with the oracle's ledgers."""

    def __init__(self, broker: Broker, topics: Topics, codec: Codec, windows: Windows) -> None:
        self.broker = broker
        self.topics = topics
        self.codec = codec
        partitions = broker.partitions[topics.journal]
        self.ledgers = [Ledger(number, partitions, windows) for number in range(partitions)]
        self.outputs: dict[int, Outputs] = {}
        self.letters: set[tuple[str, int, int]] = set()
        self.journal_values: list[set[bytes]] = [set() for _ in range(partitions)]
        self.adjustments: dict[tuple[int, int], Adjustment | None] = {}
        self.cancellations: list[set[str]] = [set() for _ in range(partitions)]
        self._owed: list[list[tuple[int, str, Any]]] = [[] for _ in range(partitions)]
        """(offset below which no cursor may stand without it, kind, what), in order: shards and decisions."""
        self._acts: list[list[tuple[int, str, Any]]] = [[] for _ in range(partitions)]
        """The same for dead letters and strays, which are the live generation's business."""
        self._acted: defaultdict[int, int] = defaultdict(int)
        self._committed: dict[tuple[str, Place], int] = {}
        self._looks: dict[str, Callable[[int, Stored], None]] = {
            topics.journal: self._journal,
            topics.dead_letters: self._letter,
            topics.adjustments: self._adjustment,
        }
        self.watch(topics)
        broker.on_append.append(lambda topic, partition, stored: self._looks[topic](partition, stored))

    def watch(self, topics: Topics) -> None:
        """From now on, what a generation publishes, too."""
        outputs = self.outputs.setdefault(topics.generation, Outputs(topics))
        self._looks[topics.summaries] = partial(self._shard, outputs)
        self._looks[topics.dispositions] = partial(self._disposition, outputs)

    # While it runs.

    def _adjustment(self, partition: int, stored: Stored) -> None:
        try:
            self.adjustments[partition, stored.offset] = self.codec.decode_adjustment(stored.value)
        except UndecodableRecord:
            self.adjustments[partition, stored.offset] = None

    def _journal(self, partition: int, stored: Stored) -> None:
        ledger, owed = self.ledgers[partition], self._owed[partition]
        value = stored.value or b""
        try:
            content: Any = self.codec.decode_journal(stored.value)
        except UndecodableRecord as error:
            content = error.reason
        ledger.read(stored.offset, stored.appended_at_ms, value, content)
        self.journal_values[partition].add(value)
        if not isinstance(content, str | MeterEvent):
            self.cancellations[partition].add(content.adjustment_id)
        for one in ledger.news:
            if isinstance(one, Decision):
                owed.append((stored.offset, "decision", one))
                self.broker.trace.reach(f"{one.kind} {one.disposition}")
            else:
                owed.append((stored.offset, "shard", one))
        if stored.offset in ledger.garbage:
            self._acts[partition].append((stored.offset, "letter", None))
        if stored.offset in ledger.strays:
            self._acts[partition].append((stored.offset, "stray", (content.identifier, value)))

    def _shard(self, outputs: Outputs, partition: int, stored: Stored) -> None:
        shard = self.codec.decode_shard(stored.value)
        hold("1 prefix determinism", shard.shard == partition, "a shard of", shard.shard, "published to", partition)
        key: Key = tuple(shard.key)
        expected = self.ledgers[partition].shards.get(key, {}).get(shard.version)
        hold("1 prefix determinism", expected == numbers_of(shard), shard, "published, expected", expected)
        outputs.shards[partition, key].add(shard.version)
        outputs.last[partition, key] = shard.version

    def _disposition(self, outputs: Outputs, partition: int, stored: Stored) -> None:
        one = self.codec.decode_disposition(stored.value)
        said = Decision(
            one.offset,
            one.decided_offset,
            one.record,
            one.disposition,
            one.reason,
            one.adjustment_id,
            one.first_offset,
            one.events_cancelled,
        )
        expected = [
            decision
            for decision in self.ledgers[partition].decisions.get(one.offset, [])
            if decision.decided_offset == one.decided_offset
        ]
        hold("1 prefix determinism", one.partition == partition and said in expected, said, "expected", expected)
        outputs.decisions.add((partition, one.offset, one.decided_offset))

    def _letter(self, _: int, stored: Stored) -> None:
        headers = dict(stored.headers)
        topic, partition, offset = headers["topic"].decode(), int(headers["partition"]), int(headers["offset"])
        if topic == self.topics.journal:
            reason = self.ledgers[partition].garbage.get(offset)
            hold("2 total disposition", reason == headers["reason"].decode(), "a dead letter says", headers)
        self.letters.add((topic, partition, offset))

    def cursor(self, partition: int, cursor: int, generation: int, who: str) -> None:
        """Invariant 5: nothing below a cursor or a committed offset is unpublished."""
        owed, ledger, outputs = self._owed[partition], self.ledgers[partition], self.outputs[generation]
        while outputs.paid[partition] < len(owed) and owed[outputs.paid[partition]][0] < cursor:
            offset, kind, what = owed[outputs.paid[partition]]
            outputs.paid[partition] += 1
            if kind == "shard":
                # Of a tally that changes again below the cursor only the newer shard has to be there.
                version = max(version for version in ledger.shards[what] if version < cursor)
                paid = any(one >= version for one in outputs.shards.get((partition, what), ()))
            else:
                paid = (partition, what.offset, what.decided_offset) in outputs.decisions
            hold("5 publish before commit", paid, who, "stands at", cursor, "without", kind, what, "of", offset)

    def acted(self, partition: int, cursor: int, who: str) -> None:
        """The same of what only the worker of the live generation does."""
        owed = self._acts[partition]
        while self._acted[partition] < len(owed) and owed[self._acted[partition]][0] < cursor:
            offset, kind, what = owed[self._acted[partition]]
            self._acted[partition] += 1
            if kind == "letter":
                paid = (self.topics.journal, partition, offset) in self.letters
            else:
                paid = what[1] in self.journal_values[home(what[0], len(self.ledgers))]
            hold("5 publish before commit", paid, who, "stands at", cursor, "without", kind, what, "of", offset)

    def commit(self, group: str, acting: bool, place: Place, offset: int, database: SimClickHouse) -> None:
        before = self._committed.get((group, place), 0)
        hold("5 commits never go back", offset >= before, group, place, "from", before, "to", offset)
        self._committed[group, place] = offset
        topic, partition = place
        if "-sink" in group:
            self._inserted(place, before, offset, database)
        elif topic == self.topics.journal:
            self.cursor(partition, offset, generation_of(group), group)
            if acting:
                self.acted(partition, offset, group)
        else:
            for number in range(before, offset):
                if (partition, number) in self.adjustments:
                    self._routed(partition, number)

    def forget_commits(self, group: str) -> None:
        """Its offsets are gone; what was checked stays checked."""
        self._committed = {key: offset for key, offset in self._committed.items() if key[0] != group}

    def _routed(self, partition: int, offset: int) -> None:
        adjustment = self.adjustments[partition, offset]
        place = (self.topics.adjustments, partition, offset)
        if adjustment is None or place in self.letters:
            hold("2 total disposition", place in self.letters, "an adjustment at", offset, "was lost")
            return
        homes = range(len(self.ledgers))
        if adjustment.identifier is not None:
            homes = [home(adjustment.identifier, len(self.ledgers))]
        for number in homes:
            hold("5 publish before commit", adjustment.id in self.cancellations[number], adjustment, "is not routed")

    def _inserted(self, place: Place, before: int, offset: int, database: SimClickHouse) -> None:
        topic = place[0]
        generation = generation_of(topic)
        for stored in self.broker.logs[place].records:
            if not before <= stored.offset < offset:
                continue
            if topic == self.outputs[generation].topics.summaries:
                shard = self.codec.decode_shard(stored.value)
                held = ((*shard.key, shard.shard), shard.version) in database.held[
                    derived("summary_shards", generation)
                ]
            elif topic == self.outputs[generation].topics.dispositions:
                one = self.codec.decode_disposition(stored.value)
                held = ((one.partition, one.offset), one.decided_offset) in database.held[
                    derived("dispositions", generation)
                ]
            else:
                continue
            hold("5 publish before commit", held, "the sink committed", topic, offset, "without", stored.offset)

    def overtaken(self, generation: int) -> list[tuple[int, Key]]:
        """Tallies of which an older shard lies behind the newest one in the summary log."""
        outputs = self.outputs[generation]
        return [key for key, version in outputs.last.items() if version < max(outputs.shards[key])]

    # At rest.

    def accounts(self, partitions: Iterable[Partition], who: str) -> None:
        """What a worker has counted of a partition's records, by what became of them."""
        for partition in partitions:
            number = partition.journal.partition
            if partition.next_offset == self.broker.logs[self.topics.journal, number].end:
                counted = {name: both for name, both in partition.state.accounts.items() if any(both)}
                expected = self.ledgers[number].accounts()
                hold("2 total disposition", counted == expected, who, _difference(counted, expected))

    def at_rest(self, live: int, database: SimClickHouse | None, event_log: bool) -> None:
        """Everything is published, and ClickHouse, if there is one, says what the oracle says."""
        shards, fates = {}, {}
        for number, ledger in enumerate(self.ledgers):
            ledger.check_books()
            end = self.broker.logs[self.topics.journal, number].end
            self.cursor(number, end, live, "the world at rest")
            self.acted(number, end, "the world at rest")
            for key, versions in ledger.shards.items():
                shards[*key, number] = (max(versions), versions[max(versions)])
            for offset, ones in ledger.decisions.items():
                fates[number, offset] = (ones[-1].decided_offset, ones[-1].disposition)
        for partition, offset in self.adjustments:
            self._routed(partition, offset)
        if database is None:
            return
        hold("7 what is served", database.shown == live, "the views show", database.shown, "and live is", live)
        served = {
            key: (row["version"], _row_numbers(row)) for key, row in database.final_of("summary_shards", live).items()
        }
        hold("7 what is served", served == shards, _difference(served, shards))
        told = {
            key: (row["decided_offset"], row["disposition"])
            for key, row in database.final_of("dispositions", live).items()
        }
        hold("2 total disposition", told == fates, _difference(told, fates))
        if event_log:
            logged = set(database.final("meter_events_j1")) | set(database.final("cancellations_j1"))
            expected = {
                (number, offset)
                for number, ledger in enumerate(self.ledgers)
                for offset in ledger.offsets
                if offset not in ledger.garbage
            }
            hold("2 total disposition", logged == expected, "event log", logged ^ expected)


def generation_of(name: str) -> int:
    """The generation that a topic's or a group's name speaks of."""
    number = re.search(r"-g(\d+)$", name)
    return int(number[1]) if number else 1


def numbers_of(shard: SummaryShard) -> Shard:
    if shard.count == 0:
        return (0, shard.sum, None, None, None, None)
    return (shard.count, shard.sum, shard.min, shard.max, tuple(shard.last or ()), tuple(shard.latest or ()))


def _row_numbers(row: dict[str, Any]) -> Shard:
    if row["count"] == 0:
        return (0, row["sum"], None, None, None, None)
    return (
        row["count"],
        row["sum"],
        row["min"],
        row["max"],
        (row["last_timestamp"], row["last_appended_at"], row["last_offset"], row["last_value"]),
        (row["latest_appended_at"], row["latest_offset"], row["latest_value"]),
    )


def _difference(found: dict[Any, Any], expected: dict[Any, Any]) -> str:
    wrong = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
    return "; ".join(f"{key}: {found.get(key)} expected {expected.get(key)}" for key in wrong[:3])
