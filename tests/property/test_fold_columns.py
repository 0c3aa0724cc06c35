"""The worker's fold (columns, store, cuts, crashes) answers as the specification does, however a partition is cut."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.codec.digests import Digest, hash_shards, key_bytes, row_bytes
from pipeline.domain.events import Disposition, SummaryShard
from pipeline.stream.batch import RecordBatch
from pipeline.worker import columnar, layout
from pipeline.worker.cell import domain_key
from pipeline.worker.partition import Origin, Partition, PartitionCut
from pipeline.worker.store import Store
from tests.swarm import CODEC, JOURNAL, Swarm, records, specified

ORIGIN = Origin("journal", "id", 0, 2, JOURNAL.rules.version)


def batches(journal: list[tuple[bytes, int, int]], sizes: list[int]) -> Iterator[RecordBatch]:
    rows, start = list(records(journal)), 0
    for size in [*sizes, len(rows)]:
        taken, rows = rows[:size], rows[size:]
        if taken:
            offsets, times, values = zip(*taken, strict=True)
            yield RecordBatch(
                "journal",
                0,
                start,
                offsets[-1] + 1,
                np.array(offsets),
                np.array(times),
                [None] * len(taken),
                list(values),
            )
            start = offsets[-1] + 1


def shards_of(cut: PartitionCut) -> dict[object, SummaryShard]:
    return {key: layout.unpack_tally(packed).shard(domain_key(key), 0) for key, packed in cut.tallies}


@settings(max_examples=100, deadline=None)
@example(295475)
@example(1223)
@given(st.integers(0, 2**32))
def test_invariant_1_any_cut_of_a_partition_gives_the_specified_answers(seed: int) -> None:
    swarm = Swarm(seed)
    journal, schedule = swarm.journal(), swarm.schedule()
    state, decided, shards = specified(journal)
    published: dict[object, SummaryShard] = {}
    dispositions: dict[tuple[int, int], Disposition] = {}
    few = (0, 0, 4)[seed % 3]  # records that are folded one by one
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(columnar, "FEW", few)
        partition = Partition(JOURNAL, ORIGIN, Store(Path(home) / "p"), CODEC)
        actions = iter([action for _, action in schedule])
        for batch in batches(journal, [size for size, _ in schedule]):
            written = partition.next_offset
            partition.fold(batch)
            action = next(actions, "flush")
            if action == "crash":  # what was folded since the last write is lost, and folded again
                partition.close()
                partition = Partition(JOURNAL, ORIGIN, Store(Path(home) / "p"), CODEC)
                for again in batches(journal, [size for size, _ in schedule]):
                    if partition.next_offset < again.next_offset <= batch.next_offset:
                        partition.fold(again.since(partition.next_offset))
                assert written <= partition.next_offset
            elif action == "flush":
                cut = partition.cut()
                partition.store.write(*cut.writes)
                partition.wrote()
                published |= shards_of(cut)
                dispositions |= {(one.offset, one.decided_offset): one for one in cut.dispositions}
        cut = partition.cut()
        published |= shards_of(cut)
        dispositions |= {(one.offset, one.decided_offset): one for one in cut.dispositions}
        partition.close()
    assert dispositions == {(one.offset, one.decided_offset): one for one in decided}
    assert sorted(published.values()) == shards
    keys, rows = [key_bytes(one.key) for one in shards], b"".join(row_bytes(one) for one in shards)
    assert partition.digest == Digest().plus(hash_shards(keys, rows, 0))
    assert {name: account for name, account in partition.state.accounts.items() if account != [0, 0]} == {
        name: account for name, account in state.accounts.items() if account != [0, 0]
    }
    assert partition.state.clock_ms == state.clock_ms
