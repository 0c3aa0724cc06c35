"""A late writer's older shards, behind newer ones, in the log of a partition that has a new owner."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.codec.records import Codec
from pipeline.domain.events import Last, Latest, SummaryShard
from pipeline.domain.tally import TallyKey
from pipeline.errors import Unavailable
from pipeline.kafka.topics import Topics
from pipeline.worker import summary_log
from pipeline.worker.core import CoreLimits, WorkerCore
from pipeline.worker.edges import Keyed
from pipeline.worker.partition import Partition, Seen
from pipeline.worker.store import Store
from pipeline.worker.summary_log import Look, SummaryLogs
from tests.property.test_fold_columns import ORIGIN
from tests.swarm import JOURNAL

CODEC = Codec()
KEYS = [TallyKey(True, "calls", f"cus_{number}", 60_000, ()) for number in range(3)]
CURSOR = 100


def shard(key: TallyKey, version: int) -> tuple[bytes, bytes]:
    one = SummaryShard(key, 0, version, 1, 5, 5, 5, Last(60_000, 1, version, 5), Latest(1, version, 5))
    return key.customer.encode(), CODEC.encode_shard(one)


class Log:
    """``pipeline.worker.edges.Cluster`` and an outlet, over one summary log."""

    def __init__(self, *records: tuple[bytes, bytes]) -> None:
        self.records_of = [Keyed(offset, key, value) for offset, (key, value) in enumerate(records)]
        self.appended: list[tuple[bytes, bytes]] = []

    def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, len(self.records_of))

    def records(self, topic: str, partition: int, start: int, end: int, most: int) -> list[Keyed]:
        return [one for one in self.records_of if start <= one.offset < end][:most]

    def publish_batch(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.appended += records

    def flush(self, timeout_s: float) -> None:
        """It is there."""


def owner_of(log: Log) -> tuple[SummaryLogs, Any]:
    """A worker's partition whose store has dropped every tally."""
    anything: Any = log
    store = SimpleNamespace(get_many=lambda keys: [None] * len(keys))
    journal = SimpleNamespace(partition=0)
    partition = SimpleNamespace(journal=journal, store=store, cursor=CURSOR, is_caught_up=True, summaries=Seen(0, None))
    return SummaryLogs(anything, CODEC, Topics("test")), partition


def worker_of(log: Log, partition: Any) -> WorkerCore:
    anything: Any = log
    opening: Any = SimpleNamespace(cluster=log)
    core = WorkerCore(CoreLimits(100, 100, 100), CODEC, Topics("test"), anything, opening, anything)
    core.partitions[0] = partition
    return core


async def looked_through(core: WorkerCore, logs: SummaryLogs) -> None:
    while await core._look_through(logs, 0):
        pass
    await core._settle(0, logs.dropped(0))


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
    logs, partition = owner_of(log)
    assert logs.unseen([partition]) == [0]
    asyncio.run(looked_through(worker_of(log, partition), logs))
    assert log.appended == [shard(KEYS[0], 9)], "the newest of the one that is not last"
    assert partition.summaries == Seen(8, 1)
    assert logs.dropped(0) == [], "they are looked for once"


def test_nobody_is_overtaken_whose_newest_shard_lies_last() -> None:
    logs, partition = owner_of(Log(shard(KEYS[0], 3), shard(KEYS[1], 4), shard(KEYS[0], 9)))
    assert logs.look(partition) == ([], Seen(3, 0, 0), False)
    assert logs.dropped(0) == []


def test_of_too_many_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_log, "DROPPED_MAX", 1)
    logs, partition = owner_of(Log(shard(KEYS[0], 9), shard(KEYS[0], 3), shard(KEYS[1], 4)))
    assert logs.look(partition).behind == []
    assert logs.dropped(0) == []


def test_a_log_that_is_ahead_of_the_fold_is_looked_at_later() -> None:
    """A successor has appended what this worker has not folded yet; what he said is known when it is there, too."""
    log = Log(shard(KEYS[0], CURSOR), shard(KEYS[0], 3))
    logs, partition = owner_of(log)
    asyncio.run(looked_through(worker_of(log, partition), logs))
    assert (log.appended, partition.summaries) == ([], Seen(0, None))
    assert logs.dropped(0) == []


def test_a_store_that_has_not_caught_up_is_compared_with_nothing() -> None:
    """It was taken over after the log was found to be longer, and may be as old as what a late writer left there."""
    logs, partition = owner_of(Log(shard(KEYS[0], 3)))
    assert logs.unseen([partition]) == [0]
    partition.is_caught_up = False
    assert logs.look(partition) == ([], Seen(0, None), False)
    assert logs.unseen([partition]) == []
    partition.is_caught_up = True
    assert logs.unseen([partition]) == [0]


def test_nothing_counts_as_appended_before_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the store has nor what it has dropped; what was looked at before is looked at again."""
    log = Log(shard(KEYS[0], 9), shard(KEYS[0], 3))
    logs, partition = owner_of(log)
    core = worker_of(log, partition)

    def fail(timeout_s: float) -> None:
        raise Unavailable("no acknowledgement")

    monkeypatch.setattr(log, "flush", fail)
    with monkeypatch.context() as of_the_store:
        of_the_store.setattr(logs, "look", lambda _: Look([shard(KEYS[1], 9)], Seen(2, 1, since=0), more=False))
        with pytest.raises(Unavailable):
            asyncio.run(looked_through(core, logs))
    assert partition.summaries == Seen(0, None)
    with pytest.raises(Unavailable):
        asyncio.run(looked_through(core, logs))
    assert partition.summaries == Seen(2, 0, since=0)
    assert logs.unseen([partition]) == [0]
    assert partition.summaries == Seen(0, None)


def test_a_look_that_a_crash_broke_off_begins_again(tmp_path: Path) -> None:
    """What it had found out about tallies that the store has dropped was in memory alone."""
    partition = Partition(JOURNAL, ORIGIN, Store(tmp_path / "p"), CODEC)
    for seen, found in ((Seen(7, 3, since=2), Seen(2, None)), (Seen(7, 3), Seen(7, 3))):
        partition.summaries = seen
        partition.store.write(*partition.cut().writes)
        partition.close()
        partition = Partition(JOURNAL, ORIGIN, Store(tmp_path / "p"), CODEC)
        assert partition.summaries == found
    partition.close()
