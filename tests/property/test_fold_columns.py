"""The worker's fold (columns, store, cuts, crashes) answers as the specification does, however a partition is cut."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, CancellationRange, Disposition, MeterEvent, SummaryShard
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND, FoldRules
from pipeline.domain.state import PlainState
from pipeline.errors import UndecodableRecord
from pipeline.stream.batch import RecordBatch
from pipeline.worker import layout
from pipeline.worker.partition import Origin, Partition, PartitionCut
from pipeline.worker.state import domain_key
from pipeline.worker.store import Store

CODEC = Codec()
T0 = 1_700_000_000_000
JOURNAL = Journal(0, 2, FoldRules(max_past_ms=10 * MINUTE_MS, max_ahead_ms=MINUTE_MS, cancel_window_ms=5 * MINUTE_MS))
ORIGIN = Origin("journal", "id", 0, 2, JOURNAL.rules.version)

identifiers = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "é", "x\u200b", "y" * 101, ""])
names = st.sampled_from(["n", "n", "m", "bad\x01"])
values = st.sampled_from([0, 1, -1, 10**12, 2**63, -(2**63), 2**64 + 5, VALUE_BOUND - 1, 1 - VALUE_BOUND, VALUE_BOUND])
when = st.integers(-11 * MINUTE_MS, 2 * MINUTE_MS).map(lambda ms: T0 + ms // 20_000 * 20_000)
dimensions = st.sampled_from([(), (("k", "v"),), (("a", "1"), ("b", "")), tuple((str(n).zfill(2), "v") for n in range(17))])
events = st.builds(
    MeterEvent, identifiers, names, st.sampled_from(["c1", "c2", "", "ü"]), values, when, dimensions, st.booleans()
)
singles = st.builds(
    Cancellation, st.sampled_from(["s1", "s2", "s3"]), names, st.booleans(), identifiers, st.none(), st.just(T0)
)
ranges = st.builds(
    Cancellation,
    st.sampled_from(["r1", "r2"]),
    names,
    st.booleans(),
    st.none(),
    st.builds(CancellationRange, st.sampled_from([None, "c1", "c2"]), when, when),
    st.integers(0, 20 * MINUTE_MS).map(lambda ms: T0 + ms),
)
bodies = st.one_of(
    events.map(CODEC.encode_event),
    events.map(CODEC.encode_event),
    events.map(CODEC.encode_event),
    singles.map(CODEC.encode_cancellation),
    ranges.map(CODEC.encode_cancellation),
    st.sampled_from([b"", b"junk", CODEC.encode_event(MeterEvent("a", "n", "c1", 1, T0, (), True)) + b"!"]),
)
steps_ms = st.sampled_from([0, 0, 1, 1000, 30_000, 3 * MINUTE_MS, -5_000])
journals = st.lists(st.tuples(bodies, steps_ms, st.sampled_from([1, 1, 1, 3])), min_size=1, max_size=60)
schedules = st.lists(st.tuples(st.integers(1, 25), st.sampled_from(["go on", "flush", "flush", "crash"])), max_size=20)


def records(journal: list[tuple[bytes, int, int]]) -> Iterator[tuple[int, int, bytes]]:
    """(offset, appended_at_ms, value): offsets with holes, a clock that sometimes steps back."""
    offset, now = 0, T0
    for body, step_ms, offset_step in journal:
        offset, now = offset + offset_step, now + step_ms
        yield offset, now, body


def specified(journal: list[tuple[bytes, int, int]]) -> tuple[PlainState, list[Disposition], list[SummaryShard]]:
    state, decided = PlainState(), []
    for offset, appended_at_ms, body in records(journal):
        try:
            content = CODEC.decode_journal(body)
        except UndecodableRecord as error:
            content = Undecodable(error.reason)
        decided += step(state, JOURNAL, Record(offset, appended_at_ms, content))
    return state, decided, state.take_shards(0)


def batches(journal: list[tuple[bytes, int, int]], sizes: list[int]) -> Iterator[RecordBatch]:
    rows, start = list(records(journal)), 0
    for size in [*sizes, len(rows)]:
        taken, rows = rows[:size], rows[size:]
        if taken:
            offsets, times, values = zip(*taken, strict=True)
            yield RecordBatch(
                "journal", 0, start, offsets[-1] + 1, np.array(offsets), np.array(times), [None] * len(taken), list(values)
            )
            start = offsets[-1] + 1


def shards_of(cut: PartitionCut) -> dict[object, SummaryShard]:
    return {
        changed.key: layout.unpack_tally(changed.packed).shard(domain_key(changed.key), 0) for changed in cut.tallies
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(journals, schedules)
def test_invariant_1_any_cut_of_a_partition_gives_the_specified_answers(
    journal: list[tuple[bytes, int, int]], schedule: list[tuple[int, str]]
) -> None:
    state, decided, shards = specified(journal)
    published: dict[object, SummaryShard] = {}
    dispositions: dict[tuple[int, int], Disposition] = {}
    with tempfile.TemporaryDirectory() as home:
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
                partition.store.write(cut.writes)
                partition.wrote()
                published |= shards_of(cut)
                dispositions |= {(one.offset, one.decided_offset): one for one in cut.dispositions}
        cut = partition.cut()
        published |= shards_of(cut)
        dispositions |= {(one.offset, one.decided_offset): one for one in cut.dispositions}
        partition.close()
    assert dispositions == {(one.offset, one.decided_offset): one for one in decided}
    assert sorted(published.values()) == shards
    assert {name: account for name, account in partition.state.accounts.items() if account != [0, 0]} == {
        name: account for name, account in state.accounts.items() if account != [0, 0]
    }
    assert partition.state.clock_ms == state.clock_ms
