"""A late writer's older shards, behind newer ones, in the log of a partition that has a new owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.codec.records import Codec
from pipeline.domain.events import Last, Latest, SummaryShard
from pipeline.domain.tally import Tally, TallyKey
from pipeline.errors import Unavailable
from pipeline.kafka.topics import Topics
from pipeline.worker import layout, summary_log
from pipeline.worker.cell import store_key
from pipeline.worker.core import CoreLimits, WorkerCore
from pipeline.worker.edges import Keyed
from pipeline.worker.partition import Partition, Seen
from pipeline.worker.publishing import shards_of
from pipeline.worker.store import Store
from pipeline.worker.summary_log import SummaryLogs
from tests.property.test_fold_columns import ORIGIN
from tests.swarm import JOURNAL

CODEC = Codec()
KEYS = [TallyKey(True, "calls", f"cus_{number}", 60_000, ()) for number in range(4)]
CURSOR = 100


def shard(key: TallyKey, version: int) -> tuple[bytes, bytes]:
    one = SummaryShard(key, 0, version, 1, 5, 5, 5, Last(60_000, 1, version, 5), Latest(1, version, 5))
    return key.customer.encode(), CODEC.encode_shard(one)


def packed(version: int) -> bytes:
    return layout.pack_tally(Tally(version, 1, 5, 5, 5, Last(60_000, 1, version, 5), Latest(1, version, 5)))


class Log:
    """``pipeline.worker.edges.Cluster`` and an outlet, over one summary log."""

    def __init__(self, *records: tuple[bytes, bytes]) -> None:
        self.records_of = [Keyed(offset, key, value) for offset, (key, value) in enumerate(records)]
        self.appended: list[tuple[bytes, bytes]] = []
        self.at_read: Callable[[], None] = lambda: None

    def put(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            self.records_of.append(Keyed(len(self.records_of), key, value))

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, len(self.records_of))

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        self.at_read()
        return [one for one in self.records_of if start <= one.offset < end][:most]

    def publish_batch(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.appended += records
        self.put(records)

    def flush(self, timeout_s: float) -> None:
        """It is there."""


class Rows:
    """Of a store, its tallies."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        return self._rows.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self._rows.get(key) for key in keys]

    def scan(self, prefix: bytes, start: bytes | None = None) -> list[tuple[bytes, bytes]]:
        return []


class Owner:
    """A worker with one partition of a log. ``stored``: versions by the place of their key; the rest is dropped."""

    def __init__(self, log: Log, stored: Mapping[int, int] | None = None, cursor: int = CURSOR) -> None:
        anything: Any = log
        self.log = log
        self.rows = {store_key(KEYS[place]): packed(version) for place, version in (stored or {}).items()}
        store: Any = Rows(self.rows)
        self.partition: Any = Partition(JOURNAL, ORIGIN, store, CODEC)
        self.partition.cursor = self.partition.next_offset = cursor
        self.logs = SummaryLogs(anything, CODEC, Topics("test"))
        opening: Any = SimpleNamespace(cluster=log, topic=lambda: None)
        self.core = WorkerCore(CoreLimits(100, 100, 100), CODEC, Topics("test"), anything, opening, anything)
        self.core.partitions[0] = self.partition

    def publish(self, places: Sequence[int], version: int) -> None:
        """What a flush does."""
        changed = [(store_key(KEYS[place]), packed(version)) for place in places]
        self.log.put(shards_of(CODEC, changed, 0))
        self.rows.update(changed)
        self.partition.cursor = version + 1
        self.partition.summaries = self.partition.summaries.plus(len(places))

    def looks(self) -> None:
        """One round of ``watch_summaries``."""

        async def look() -> None:
            for partition in self.logs.unseen([self.partition]):
                await self.core._look_through(self.logs.look(partition))

        asyncio.run(look())


@pytest.mark.parametrize("at_once", [2, 20_000])
def test_what_no_store_has_any_more_is_compared_with_the_log_itself(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", at_once)
    log = Log(
        shard(KEYS[0], 3),
        shard(KEYS[1], 4),
        shard(KEYS[0], 9),
        shard(KEYS[0], 7),
        shard(KEYS[2], 5),
        shard(KEYS[1], 8),
        shard(KEYS[0], 9),
        shard(KEYS[0], 3),
    )
    owner = Owner(log)
    owner.looks()
    assert log.appended == [shard(KEYS[0], 9)], "the newest of the one that is not last"
    assert owner.partition.summaries == Seen(8, 1)
    owner.looks()
    assert (len(log.appended), owner.partition.summaries) == (1, Seen(9, 0)), "once"


def test_what_was_set_right_by_another_meanwhile_is_left_alone() -> None:
    owner = Owner(Log(shard(KEYS[0], 7), shard(KEYS[0], 3)))
    look = owner.logs.look(owner.partition)
    assert look.read_on() == []
    look.compare_dropped()
    owner.log.put([shard(KEYS[0], 9)])
    assert look.read_on() == []
    look.compare_dropped()
    assert (look.read_on(), look.seen) == ([], Seen(3, 0)), "7 would lie behind 9"


def test_nobody_is_overtaken_whose_newest_shard_lies_last() -> None:
    owner = Owner(Log(shard(KEYS[0], 3), shard(KEYS[1], 4), shard(KEYS[0], 9)))
    owner.looks()
    assert (owner.log.appended, owner.partition.summaries) == ([], Seen(3, 0))


@pytest.mark.parametrize("at_once", [1, 3, 20_000])
def test_what_an_owner_published_himself_overtakes_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """A piece ends anywhere: the rest of the log has the newer record."""
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", at_once)
    owner = Owner(Log(), {})
    for version in (10, 20, 30):
        owner.publish(range(4), version)
    owner.partition.summaries = Seen(0, None)
    owner.looks()
    assert (owner.log.appended, owner.partition.summaries) == ([], Seen(12, 0))


def test_a_look_comes_to_its_end_while_its_owner_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much in each piece as there is of it beside what is new."""
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", 5)
    owner = Owner(Log(), {})
    for version in range(10, 30):
        owner.publish(range(4), version)
    owner.partition.summaries = Seen(0, None)
    look = owner.logs.look(owner.partition)
    pieces = 0
    while not look.is_over:
        assert look.read_on() == []
        pieces += 1
        assert pieces <= 80, "80 records, and each piece takes one more than are new"
        if not look.is_over:
            owner.publish(range(4), 30 + pieces)
    assert look.seen == Seen(len(owner.log.records_of), 0)


@pytest.mark.parametrize("at_once", [1, 3, 20_000])
def test_what_a_late_writer_put_behind_newer_ones_is_appended_again(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", at_once)
    owner = Owner(Log(), {})
    for version in (10, 20):
        owner.publish(range(4), version)
    owner.log.put(shards_of(CODEC, [(store_key(KEYS[2]), packed(10))], 0))
    owner.looks()
    assert owner.log.appended == shards_of(CODEC, [(store_key(KEYS[2]), packed(20))], 0)
    assert owner.partition.summaries == Seen(9, 1)


def test_of_more_than_can_be_held_what_is_overtaken_is_appended_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", 1)
    monkeypatch.setattr(summary_log, "KEYS_MAX", 1)
    log = Log(*shards_of(CODEC, [(store_key(key), packed(5)) for key in KEYS], 0))
    owner = Owner(log, dict.fromkeys(range(4), 9))
    look = owner.logs.look(owner.partition)
    assert [len(look.read_on()) for _ in KEYS] == [0, 2, 0, 2], "not all of them at the end"
    owner.looks()
    assert sorted(log.appended) == sorted(shards_of(CODEC, [(store_key(key), packed(9)) for key in KEYS], 0))
    owner.looks()
    assert (len(log.appended), owner.partition.summaries) == (4, Seen(8, 0))


def test_of_too_many_dropped_ones_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", 1)
    monkeypatch.setattr(summary_log, "KEYS_MAX", 1)
    owner = Owner(Log(shard(KEYS[0], 9), shard(KEYS[0], 3), shard(KEYS[1], 4), shard(KEYS[2], 4)))
    look = owner.logs.look(owner.partition)
    while not look.is_over:
        assert look.read_on() == []
        assert len(look._dropped) <= 1
        look.compare_dropped()
    assert look.seen == Seen(4, 0)


def test_a_log_that_is_ahead_of_the_fold_is_looked_at_later() -> None:
    """A successor has appended what this worker has not folded yet; what he said is known when it is there, too."""
    owner = Owner(Log(shard(KEYS[0], CURSOR), shard(KEYS[0], 3)))
    owner.looks()
    assert (owner.log.appended, owner.partition.summaries) == ([], Seen(0, None))
    owner.partition.cursor += 1
    owner.looks()
    assert owner.log.appended == [shard(KEYS[0], CURSOR)]


def test_a_store_that_has_not_caught_up_is_compared_with_nothing() -> None:
    """It was taken over after the log was found to be longer, and may be as old as what a late writer left there."""
    owner = Owner(Log(shard(KEYS[0], 3)))
    assert owner.logs.unseen([owner.partition]) == [owner.partition]
    look = owner.logs.look(owner.partition)
    owner.partition.taken_over_again(CURSOR + 1)
    assert (look.read_on(), look.is_over, look.seen) == ([], True, None)
    assert owner.logs.unseen([owner.partition]) == []
    look = owner.logs.look(owner.partition)
    assert (look.read_on(), look.is_over, look.seen) == ([], True, None), "it was found before it was taken over"
    look = owner.logs.look(owner.partition)
    owner.partition.taken_over_again(CURSOR + 2)
    owner.partition.cursor = CURSOR + 2
    assert (look.read_on(), look.is_over, look.seen) == ([], True, None), "it began with an older store"
    assert owner.logs.unseen([owner.partition]) == [owner.partition]


def test_what_a_zombie_saw_of_a_log_that_was_compacted_meanwhile_is_looked_at_again() -> None:
    """It put 12 behind its successor's 20, compaction took the 20, and it found nothing wrong. Then it was its own."""
    owner = Owner(Log(), {0: 12}, cursor=15)
    owner.partition.summaries = Seen(0, 0)
    owner.partition.taken_over_again(0)
    late = shards_of(CODEC, [(store_key(KEYS[0]), packed(12))], 0)
    owner.log.records_of = [Keyed(1, *late[0])]
    owner.log.ends = lambda topic, partitions: dict.fromkeys(partitions, 2 + len(owner.log.appended))  # type: ignore[method-assign]
    owner.looks()
    assert (owner.log.appended, owner.partition.summaries) == ([], Seen(2, 0))
    owner.partition.taken_over_again(21)
    owner.rows[store_key(KEYS[0])], owner.partition.cursor = packed(20), 21  # said by the other, so not said again
    owner.looks()
    assert owner.log.appended == shards_of(CODEC, [(store_key(KEYS[0]), packed(20))], 0)


def test_nothing_counts_as_seen_before_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the store has nor what it has dropped; all of it is looked at again."""
    log = Log(shard(KEYS[0], 9), shard(KEYS[0], 3))
    owner = Owner(log)

    def fail(timeout_s: float) -> None:
        raise Unavailable("no acknowledgement")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(log, "flush", fail)
        with pytest.raises(Unavailable):
            owner.looks()
    assert owner.partition.summaries == Seen(0, None)
    owner.looks()
    assert owner.partition.summaries == Seen(3, 0)


def test_a_look_that_was_broken_off_leaves_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had found out was in memory alone: whoever opens the store begins where the last whole one ended."""
    monkeypatch.setattr(summary_log, "RECORDS_AT_ONCE", 1)
    partition = Partition(JOURNAL, ORIGIN, Store(tmp_path / "p"), CODEC)
    partition.cursor = CURSOR
    partition.summaries = Seen(1, 3)
    log: Any = Log(shard(KEYS[0], 5), shard(KEYS[0], 9), shard(KEYS[0], 3), shard(KEYS[1], 4))
    look = SummaryLogs(log, CODEC, Topics("test")).look(partition)
    look.read_on()
    look.read_on()
    partition.store.write(*partition.cut().writes)
    partition.close()
    again = Partition(JOURNAL, ORIGIN, Store(tmp_path / "p"), CODEC)
    assert again.summaries == Seen(1, 3)
    again.close()
