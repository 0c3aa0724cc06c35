"""Batches of records: cut and joined, they hold the same records."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.batch import RecordBatch, joined


def batch(partition: int, start: int, offsets: list[int], next_offset: int, topic: str = "t") -> RecordBatch:
    texts: list[bytes | None] = [f"{partition}:{offset}".encode() for offset in offsets]
    at = np.array(offsets, np.int64)
    return RecordBatch(topic, partition, start, next_offset, at, at * 10, texts, list(texts))


def records(batches: list[RecordBatch], partition: int) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [
        record
        for one in batches
        if one.partition == partition
        for record in zip(one.offsets.tolist(), one.appended_at_ms.tolist(), one.keys, one.values, strict=True)
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 1)), max_size=30), st.integers(1, 12))
def test_joined_batches_hold_the_same_records_in_the_same_order(
    steps: list[tuple[int, int, int]], records_max: int
) -> None:
    """Each step appends a batch of so many records to a partition, with or without a hole behind it."""
    ends, batches = {0: 0, 1: 0, 2: 0}, []
    for partition, count, hole in steps:
        start = ends[partition]
        ends[partition] = start + count + hole
        batches.append(batch(partition, start, list(range(start, start + count)), ends[partition]))
    together = joined(batches, records_max)
    for partition, end in ends.items():
        assert records(together, partition) == records(batches, partition)
        borders = [(one.start, one.next_offset) for one in together if one.partition == partition]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(borders))
        assert not borders or (borders[0][0], borders[-1][1]) == (0, end)
    largest = max((len(one) for one in batches), default=0)
    assert all(len(one) <= max(records_max, largest) for one in together)


def test_batches_that_follow_each_other_become_one() -> None:
    one, other = batch(0, 0, [0, 1], 2), batch(1, 0, [0], 1)
    together = joined([one, other, batch(0, 2, [2], 4), batch(1, 1, [1], 2)], 100)
    assert [(part.partition, part.start, part.next_offset, len(part)) for part in together] == [
        (0, 0, 4, 3),
        (1, 0, 2, 2),
    ]


def test_a_partition_that_was_lost_and_came_back_is_not_joined() -> None:
    again = batch(0, 0, [0, 1], 2)
    assert len(joined([batch(0, 0, [0, 1], 2), again], 100)) == 2


def test_partitions_of_two_topics_are_not_joined() -> None:
    assert len(joined([batch(0, 0, [0], 1), batch(0, 1, [1], 2, topic="u")], 100)) == 2
