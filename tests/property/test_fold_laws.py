"""Laws of the fold that hold for every journal: its books balance, forgetting changes nothing, shards merge."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import outcomes
from pipeline.domain.checks import check_content
from pipeline.domain.events import (
    Cancellation,
    CancellationRange,
    Disposition,
    Last,
    Latest,
    MeterEvent,
    SummaryShard,
    TallyKey,
)
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState
from pipeline.domain.tally import tally_key

T0 = 1_700_000_040_000
RULES = FoldRules(max_past_ms=20 * MINUTE_MS, max_ahead_ms=MINUTE_MS, cancel_window_ms=5 * MINUTE_MS)
VALUES = [0, 1, 2, -1, 10**12, 1 - VALUE_BOUND, VALUE_BOUND - 1]
SEEDS = st.integers(0, 2**32)

Content = MeterEvent | Cancellation | Undecodable


class Appended(NamedTuple):
    appended_at_ms: int
    content: Content


def journal(seed: int, *, calm: bool = False) -> list[Appended]:
    """A random journal. ``calm``: within all windows, with distinct times, so that no clock decides anything."""
    random, now = Random(seed), T0
    steps = (
        [1]
        if calm
        else random.choice([[0], [0, 1, 1000, -1000], [0] * 10 + [4 * MINUTE_MS], [0] * 5 + [15 * MINUTE_MS]])
    )
    kinds = [event, single, ranged, *([] if calm else [strange])]
    weights = [60, *(random.choice([0, 5, 15]) for _ in kinds[1:])]
    pool = [str(number) for number in range(random.choice([4, 15, 50]))]
    made = []
    for _ in range(random.randrange(1, 150)):
        now += random.choice(steps)
        made.append(Appended(now, random.choices(kinds, weights)[0](random, pool, now)))
    return made


def event(random: Random, pool: list[str], now: int) -> MeterEvent:
    at = now + random.choice([0, 0, 20_000, -40_000])
    dimensions = random.choice([(), (("k", "v"),)])
    return MeterEvent(random.choice(pool), "n", random.choice("cd"), random.choice(VALUES), at, dimensions, True)


def single(random: Random, pool: list[str], now: int) -> Cancellation:
    return Cancellation(f"s{random.randrange(20)}", random.choice("nnnm"), True, random.choice(pool), None, now)


def ranged(random: Random, pool: list[str], now: int) -> Cancellation:
    start_ms = now + random.choice([-60_000, -20_000, 0])
    wanted = CancellationRange(random.choice([None, "c"]), start_ms, start_ms + random.choice([1, 20_000, 90_000]))
    return Cancellation(
        f"r{random.randrange(4)}", "n", True, None, wanted, now + random.choice([0, 0, -1000, 30 * MINUTE_MS])
    )


def strange(random: Random, pool: list[str], now: int) -> Content:
    usual = event(random, pool, now)
    return random.choice(
        [
            Undecodable("no_value"),
            usual._replace(timestamp_ms=now + random.choice([-1, 1]) * 30 * MINUTE_MS),
            usual._replace(value=VALUE_BOUND),
            usual._replace(customer=""),
            usual._replace(identifier="x\n"),
            usual._replace(livemode=False),
            single(random, pool, now)._replace(adjustment_id=""),
        ]
    )


def fold(records: Iterable[Appended], partition: int = 0, partitions: int = 1) -> tuple[PlainState, list[Disposition]]:
    state, decided = PlainState(), []
    for offset, (appended_at_ms, content) in enumerate(records):
        decided += step(state, Journal(partition, partitions, RULES), Record(offset, appended_at_ms, content))
    return state, decided


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_invariant_2_every_record_has_one_disposition_and_every_value_a_place(seed: int) -> None:
    records = journal(seed)
    state, decided = fold(records, 0, Random(seed).choice([1, 2]))
    final = {one.offset: one for one in sorted(decided, key=lambda one: one.decided_offset)}
    books: Counter[str] = Counter()
    values: Counter[str] = Counter()
    for offset, (_, content) in enumerate(records):
        one = final.get(offset)
        if isinstance(content, MeterEvent):
            disposition = one.disposition if one else outcomes.COUNTED
            assert disposition in outcomes.EVENT_DISPOSITIONS
            values[disposition] += content.value
        else:
            assert one is not None, "only a counted event goes without saying"
            assert one.disposition in (*outcomes.CANCELLATION_DISPOSITIONS, outcomes.UNDECODABLE)
            is_cancellation = isinstance(content, Cancellation)
            disposition = f"cancellation_{one.disposition}" if is_cancellation else one.disposition
        books[disposition] += 1
    shards = state.take_shards(0)
    assert {name: count for name, (count, _) in state.accounts.items() if count} == books
    assert sum(books.values()) == len(records)
    assert {name: value for name, (_, value) in state.accounts.items() if value} == {
        n: v for n, v in values.items() if v
    }
    assert (sum(shard.count for shard in shards), sum(shard.sum for shard in shards)) == (
        books[outcomes.COUNTED],
        values[outcomes.COUNTED],
    )
    taken_back = [
        one for one in final.values() if one.record == outcomes.EVENT and one.disposition == outcomes.CANCELLED
    ]
    assert sum(one.events_cancelled or 0 for one in final.values()) == len(taken_back)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_invariant_3_an_identity_counts_once_within_its_window(seed: int) -> None:
    records = journal(seed)
    _, decided = fold(records)
    refused = {one.offset for one in decided if one.disposition != outcomes.CANCELLED}
    last_seen: dict[object, int] = {}
    for offset, (_, content) in enumerate(records):
        clock_ms = max(appended for appended, _ in records[: offset + 1])
        if isinstance(content, MeterEvent) and offset not in refused:
            assert check_content(content) is None
            before = last_seen.get(content.identity)
            assert before is None or clock_ms - before > RULES.dedup_window_ms
            last_seen[content.identity] = clock_ms


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.integers(0, 2**32))
def test_dropping_garbage_changes_no_answer(seed: int, drops: int) -> None:
    records, random = journal(seed), Random(drops)
    tidy, hoarder, alone = PlainState(), PlainState(), Journal(0, 1, RULES)
    for offset, (appended_at_ms, content) in enumerate(records):
        record = Record(offset, appended_at_ms, content)
        assert step(tidy, alone, record) == step(hoarder, alone, record)
        assert tidy.take_shards(0) == hoarder.take_shards(0)
        if random.random() < 0.3:
            tidy.drop_garbage(RULES)
    assert tidy.accounts == hoarder.accounts


def test_garbage_is_dropped() -> None:
    """Or the test above would say nothing: long after its windows a state is empty."""
    records = journal(7)
    end = max(appended for appended, _ in records) + 2 * RULES.dedup_window_ms
    state, _ = fold([*records, Appended(end, Undecodable("no_value"))])
    state.drop_garbage(RULES)
    assert (state.ledger, state.tallies, dict(state.entries), state.ranges) == ({}, {}, {}, {})


class Summary(NamedTuple):
    """Shards of one tally key, merged; in it, what does not depend on where an event stands."""

    count: int
    sum: int
    min: int | None
    max: int | None
    last: int | None
    latest: int | None


def merge(shards: list[SummaryShard]) -> Summary:
    some = [shard for shard in shards if shard.count]
    lasts = [shard.last for shard in some if shard.last is not None]
    latests = [shard.latest for shard in some if shard.latest is not None]
    return Summary(
        sum(shard.count for shard in some),
        sum(shard.sum for shard in some),
        min((shard.min for shard in some if shard.min is not None), default=None),
        max((shard.max for shard in some if shard.max is not None), default=None),
        max(lasts).value if lasts else None,
        max(latests).value if latests else None,
    )


def partitioned(records: list[Appended], partitions: int) -> dict[TallyKey, Summary]:
    """The journal spread over partitions as producers would, each folded alone, and the shards merged."""
    homes: list[list[Appended]] = [[] for _ in range(partitions)]
    for record in records:
        content = record.content
        assert not isinstance(content, Undecodable)
        everywhere = range(partitions)
        for number in everywhere if content.identifier is None else [partition_of(content.identifier, partitions)]:
            homes[number].append(record)
    shards = []
    for number, home in enumerate(homes):
        state, decided = fold(home, number, partitions)
        assert not [one for one in decided if one.disposition == outcomes.REROUTED]
        shards += state.take_shards(number)
    shards.sort(key=lambda shard: shard.key)
    return {key: merge(list(group)) for key, group in itertools.groupby(shards, lambda shard: shard.key)}


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_invariant_7_a_summary_is_the_same_whatever_the_partition_count(seed: int) -> None:
    records = journal(seed, calm=True)
    alone = partitioned(records, 1)
    for partitions in (2, 3, 8):
        assert partitioned(records, partitions) == alone


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_invariant_7_a_summary_is_a_plain_computation_over_what_counts(seed: int) -> None:
    """No tally, no shard: the events that no disposition speaks of, added up."""
    records = journal(seed, calm=True)
    _, decided = fold(records)
    spoken_of = {one.offset for one in decided}
    counted: dict[TallyKey, list[tuple[int, MeterEvent]]] = {}
    for offset, (appended_at_ms, content) in enumerate(records):
        if isinstance(content, MeterEvent) and offset not in spoken_of:
            counted.setdefault(tally_key(content), []).append((appended_at_ms, content))
    computed = {
        key: Summary(
            len(events),
            sum(one.value for _, one in events),
            min(one.value for _, one in events),
            max(one.value for _, one in events),
            max((one.timestamp_ms, appended, one.value) for appended, one in events)[2],
            max((appended, one.value) for appended, one in events)[1],
        )
        for key, events in counted.items()
    }
    assert {key: summary for key, summary in partitioned(records, 1).items() if summary.count} == computed


@given(st.permutations(range(6)))
def test_invariant_7_the_order_of_adding_does_not_matter(order: list[int]) -> None:
    """``last`` falls to the greatest (timestamp, appended_at, offset), whoever comes first."""
    entries = [(0, 5, 9, 1), (1, 5, 9, 7), (2, 6, 9, 3), (3, 7, 8, -4), (4, 7, 9, 2), (5, 7, 9, 2)]
    state = PlainState()
    key = TallyKey(True, "n", "c", 0, ())
    for place in order:
        state.add(key, entries[place])
    (shard,) = state.take_shards(0)
    assert (shard.version, shard.count, shard.sum, shard.min, shard.max) == (5, 6, 11, -4, 7)
    assert shard.last == Last(9, 7, 5, 2)
    assert shard.latest == Latest(7, 5, 2)
