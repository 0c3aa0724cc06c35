"""Ranges over what is old: tallies that are being dropped, and identities that were used again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.domain.events import Cancellation, CancellationRange, MeterEvent
from pipeline.domain.limits import MINUTE_MS
from pipeline.worker import layout
from pipeline.worker.partition import Partition
from pipeline.worker.store import Store
from tests.property.test_fold_columns import ORIGIN, batches
from tests.swarm import CODEC, HOME, JOURNAL, T0, specified

BEYOND_DEDUP_MS = 22 * MINUTE_MS
"""An identity is free again; its old tally can still be reached by a range."""
BEYOND_ALL_MS = 60 * MINUTE_MS


def event(identifier: str, timestamp_ms: int) -> bytes:
    return CODEC.encode_event(MeterEvent(identifier, "n", "c", 5, timestamp_ms, (), True))


def taken_back(adjustment_id: str, start_ms: int, end_ms: int) -> bytes:
    span = CancellationRange(None, start_ms, end_ms)
    return CODEC.encode_cancellation(Cancellation(adjustment_id, "n", True, None, span, T0 + 2 * BEYOND_ALL_MS))


@pytest.fixture
def partition(tmp_path: Path) -> Iterator[Partition]:
    made = Partition(JOURNAL, ORIGIN, Store(tmp_path / "p"), CODEC)
    yield made
    made.close()


AGAIN = event(HOME[0], T0 + BEYOND_DEDUP_MS)
WAITING = CODEC.encode_cancellation(Cancellation("s", "n", True, HOME[0], None, T0))


@pytest.mark.parametrize("later", [AGAIN, WAITING], ids=["counted again", "awaited again"])
def test_a_range_over_an_old_event_means_no_later_one_of_its_identity(partition: Partition, later: bytes) -> None:
    old_minute = taken_back("r", T0 - MINUTE_MS, T0 + MINUTE_MS)
    journal = [(event(HOME[0], T0), 0, 1), (later, BEYOND_DEDUP_MS, 1), (old_minute, 0, 1)]
    (batch,) = batches(journal, [])
    partition.fold(batch)
    _, decided, shards = specified(journal)
    assert partition.dispositions == decided
    assert len(partition.cut().tallies) == len(shards)


def test_a_range_does_not_bring_back_a_tally_that_is_being_dropped(partition: Partition) -> None:
    page = layout.BODIES_PER_PAGE
    assert len(HOME) > page
    old = [(event(name, T0), 0, 1) for name in HOME[: page + 1]]
    leap = [(event(HOME[-1], T0 + BEYOND_ALL_MS), BEYOND_ALL_MS, 1)]
    ranges = [(taken_back(name, 0, T0 + 2 * BEYOND_ALL_MS), 0, 1) for name in ("first", "second")]
    events, leapt, first, second = batches([*old, *leap, *ranges], [len(old), 1, 1])
    partition.fold(events)
    for batch in (leapt, first):
        cut = partition.cut()  # the second one drops the old page: its bodies and their tallies
        partition.fold(batch)  # the first range is folded while that is under way
        partition.store.write(*cut.writes)
        partition.wrote()
    assert partition.sweep.tally_mark >= page
    partition.fold(second)
