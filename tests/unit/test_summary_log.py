"""A late writer's older shards, behind newer ones, in the log of a partition that has a new owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.codec.records import Codec
from pipeline.domain.events import Last, Latest, SummaryShard
from pipeline.domain.tally import TallyKey
from pipeline.errors import PublishFailed
from pipeline.kafka.topics import Topics
from pipeline.worker import summary_log
from pipeline.worker.edges import Keyed
from pipeline.worker.partition import Seen
from pipeline.worker.summary_log import SummaryLogs

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
    return SummaryLogs(anything, CODEC, Topics("test"), anything), partition


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
    while logs.look(partition):
        pass
    again = logs.dropped(0)
    assert again == [shard(KEYS[0], 9)], "the newest of the one that is not last"
    logs.append(partition, again)
    assert log.appended == again
    assert logs.dropped(0) == [], "they are looked for once"


def test_nobody_is_overtaken_whose_newest_shard_lies_last() -> None:
    logs, partition = owner_of(Log(shard(KEYS[0], 3), shard(KEYS[1], 4), shard(KEYS[0], 9)))
    assert not logs.look(partition)
    assert logs.dropped(0) == []


def test_of_too_many_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary_log, "DROPPED_MAX", 1)
    logs, partition = owner_of(Log(shard(KEYS[0], 9), shard(KEYS[0], 3), shard(KEYS[1], 4)))
    assert not logs.look(partition)
    assert logs.dropped(0) == []


def test_a_log_that_is_ahead_of_the_fold_is_looked_at_later() -> None:
    """A successor has appended what this worker has not folded yet; what he said is known when it is there, too."""
    logs, partition = owner_of(Log(shard(KEYS[0], CURSOR), shard(KEYS[0], 3)))
    assert not logs.look(partition)
    assert partition.summaries == Seen(0, None)
    assert logs.dropped(0) == []


def test_a_store_that_has_not_caught_up_is_compared_with_nothing() -> None:
    """It was taken over after the log was found to be longer, and may be as old as what a late writer left there."""
    logs, partition = owner_of(Log(shard(KEYS[0], 3)))
    assert logs.unseen([partition]) == [0]
    partition.is_caught_up = False
    assert not logs.look(partition)
    assert partition.summaries == Seen(0, None)
    assert logs.unseen([partition]) == []
    partition.is_caught_up = True
    assert logs.unseen([partition]) == [0]


def test_nothing_counts_as_appended_before_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(shard(KEYS[0], 9), shard(KEYS[0], 3))
    logs, partition = owner_of(log)

    def fail(timeout_s: float) -> None:
        raise PublishFailed("no acknowledgement")

    partition.summaries = Seen(2, 0)
    monkeypatch.setattr(log, "flush", fail)
    with pytest.raises(PublishFailed):
        logs.append(partition, [shard(KEYS[0], 9)])
    assert partition.summaries == Seen(2, 0)
