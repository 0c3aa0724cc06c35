"""What ClickHouse answers, held to a plain computation: queries.py and meter_event_summaries on the real engine.

The oracle is a loop over shards and, for windows, query_oracle.py. It shares nothing with what it checks.
Invariant 7: however shards are cut, repeated, mixed up and inserted, a summary is the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import PINNED_SETTINGS, Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.queries import NAMES, TIME_MAX_MS, TIME_MIN_MS, SummaryQuery
from pipeline.clickhouse.summaries import few_summaries, summaries
from pipeline.clickhouse.windows import Unit, bucket_of, window_of
from pipeline.clickhouse.zones import known_zones, pieces_of
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND
from pipeline.sink.rows import Place, row_of, tables_of
from tests.property.query_oracle import ZONES, oracle_window

NASTY = (
    "plain", "it's", 'say "x"', "back\\slash", "\\N", "\\'", "tab\there", "new\nline", "`tick`", "{a:String}", "%s",
    "';DROP TABLE zones;--", "') OR 1=1 --", "日本", "", " ", "NULL", "a,b", "$$", "/*", "\\x41", "\u200d",
)  # fmt: skip
_counter = itertools.count()


@pytest.fixture(scope="module")
def client(stack) -> Iterator[Client]:
    server = Server(stack.clickhouse, f"query_property_{uuid.uuid4().hex[:12]}")
    list(migrate(server))
    with connect(server) as found:
        yield found


# The oracle.


def standing(shards: list[SummaryShard]) -> list[SummaryShard]:
    newest: dict[object, SummaryShard] = {}
    for shard in shards:
        before = newest.get((shard.key, shard.shard))
        if before is None or before.version < shard.version:
            newest[shard.key, shard.shard] = shard
    return [shard for shard in newest.values() if shard.count]


def survivors(shards: list[SummaryShard], slot_ms: int) -> list[SummaryShard]:
    """Of each customer and stretch of UTC the event that arrived last, as if it were the only one of its shard."""
    newest: dict[object, SummaryShard] = {}
    for shard in shards:
        key = shard.key
        of = (key.livemode, key.event_name, key.customer, key.window_start_ms // slot_ms)
        best = newest.get(of)
        if best is None or arrival(best) < arrival(shard):
            newest[of] = shard
    return [
        shard._replace(
            count=1,
            sum=shard.latest.value,
            min=shard.latest.value,
            max=shard.latest.value,
            last=Last(shard.key.window_start_ms, shard.latest.appended_at_ms, shard.latest.offset, shard.latest.value),
        )
        for shard in newest.values()
    ]


def arrival(shard: SummaryShard) -> tuple[int, int, int]:
    return shard.latest.appended_at_ms, shard.shard, shard.latest.offset


SLOTS_MS = {Unit.HOUR: 3_600_000, Unit.DAY: 86_400_000}


def window_among(query: SummaryQuery, moment_ms: int) -> tuple[int, int]:
    if query.cuts:
        ends = [*query.cuts[1:], query.end_ms]
        return next((low, high) for low, high in zip(query.cuts, ends, strict=True) if low <= moment_ms < high)
    if query.window is Unit.NONE:
        return query.start_ms, query.end_ms
    return oracle_window(query.window, moment_ms, query.zone)


def oracle(shards: list[SummaryShard], query: SummaryQuery) -> dict[object, dict[str, int | None]]:
    groups: dict[object, list[SummaryShard]] = {}
    considered = standing(shards)
    if query.event_time_window is not None:
        considered = survivors(considered, SLOTS_MS[query.event_time_window])
    for shard in considered:
        key, dimensions = shard.key, dict(shard.key.dimensions)
        if (key.livemode, key.event_name) != (query.livemode, query.event_name):
            continue
        if not query.start_ms <= key.window_start_ms < query.end_ms:
            continue
        if query.customers and key.customer not in query.customers:
            continue
        if not all(name in dimensions and dimensions[name] in accepted for name, accepted in query.filters):
            continue
        window = window_among(query, key.window_start_ms)
        of = (window, key.customer if query.per_customer else None, tuple(dimensions.get(n) for n in query.group_by))
        groups.setdefault(of, []).append(shard)
    if not groups and not (query.window is not Unit.NONE or query.cuts or query.per_customer or query.group_by):
        nothing = dict.fromkeys(query.aggregations) | {"count": 0, "sum": 0}
        return {((query.start_ms, query.end_ms), None, ()): {name: nothing[name] for name in query.aggregations}}
    return {of: merged(found, query) for of, found in groups.items()}


def merged(found: list[SummaryShard], query: SummaryQuery) -> dict[str, int | None]:
    count, total = sum(s.count for s in found), sum(s.sum for s in found)
    mean = Context(prec=200).divide(Decimal(total), Decimal(count))
    values = {
        "count": count,
        "sum": total,
        "min": min(s.min for s in found),
        "max": max(s.max for s in found),
        "avg": int(mean.quantize(Decimal(1), ROUND_HALF_EVEN, Context(prec=200))),
        "last": max((s.last.timestamp_ms, s.last.appended_at_ms, s.shard, s.last.offset, s.last.value) for s in found)[
            -1
        ],
        "latest": max((s.latest.appended_at_ms, s.shard, s.latest.offset, s.latest.value) for s in found)[-1],
    }
    return {name: values[name] for name in query.aggregations}


# What is asked.

values = st.one_of(st.integers(-20, 20), st.integers(1 - VALUE_BOUND, VALUE_BOUND - 1))
small_times = st.integers(0, 1)
near_a_change = st.sampled_from((-1441, -61, -60, -31, -30, -1, 0, 1, 29, 30, 31, 59, 60, 61, 90, 1439, 1440))
names = st.sampled_from(NASTY[:6])


@st.composite
def questions(draw) -> tuple[list[SummaryShard], SummaryQuery]:
    zone = draw(st.one_of(st.sampled_from(ZONES), st.sampled_from(ZONES), st.sampled_from(known_zones())))
    event_name = draw(st.sampled_from(NASTY))
    changes = [p.starts_ms for p in pieces_of(zone) if 946_684_800_000 < p.starts_ms < 3_000_000_000_000]
    centre = draw(st.sampled_from(changes or [1_772_323_200_000])) // MINUTE_MS * MINUTE_MS
    customers, dims = draw(st.lists(st.sampled_from(NASTY), min_size=1, max_size=3)), draw(st.lists(names, max_size=3))
    shards: list[SummaryShard] = []
    for version in range(draw(st.integers(0, 14))):
        minutes = draw(st.one_of(near_a_change, near_a_change, st.integers(-1600, 1600), st.integers(-50_000, 50_000)))
        dimensions = {name: draw(st.sampled_from((*NASTY[:3], ""))) for name in dims if draw(st.booleans())}
        key = TallyKey(
            draw(st.booleans()) or draw(st.booleans()),
            event_name,
            draw(st.sampled_from(customers)),
            centre + minutes * MINUTE_MS,
            tuple(sorted(dimensions.items())),
        )
        if shards and draw(st.booleans()):
            key = draw(st.sampled_from(shards)).key
        value = draw(values)
        last = Last(draw(small_times), draw(small_times), version, draw(values))
        some = draw(st.integers(0, 5))
        shards.append(
            SummaryShard(key, draw(st.integers(0, 2)), version, some, value * some, value, value, last,
                         Latest(draw(small_times), version, draw(values)))
            if some else SummaryShard(key, draw(st.integers(0, 2)), version, 0, 0, None, None, None, None)
        )  # fmt: skip
    unit = draw(st.sampled_from(list(Unit)))
    narrow = unit in (Unit.NONE, Unit.MINUTE) and draw(st.booleans())  # the range cuts hours and days
    query = SummaryQuery(
        event_name,
        livemode=draw(st.booleans()) or draw(st.booleans()),
        start_ms=draw(st.one_of(st.just(TIME_MIN_MS), aligned(unit, zone, centre, -80 if narrow else -60_000, -1))),
        end_ms=draw(
            st.one_of(st.just(TIME_MAX_MS), aligned(unit, zone, centre, *((1, 80) if narrow else (45_000, 100_000))))
        ),
        customers=tuple(draw(st.lists(st.sampled_from([*customers, "nobody"]), max_size=2))),
        per_customer=draw(st.booleans()),
        window=unit,
        zone=zone,
        group_by=tuple(dict.fromkeys(draw(st.lists(names, max_size=2)))),
        filters=tuple(
            (n, tuple(NASTY[:3]))
            for n in dict.fromkeys(draw(st.lists(st.sampled_from(dims), max_size=1) if dims else st.just([])))
        ),
        aggregations=NAMES,
        event_time_window=draw(st.sampled_from([None, None, Unit.HOUR, Unit.DAY])),
    )
    if unit is Unit.NONE and query.end_ms - query.start_ms > 2 * MINUTE_MS and draw(st.booleans()):
        query = dataclasses.replace(query, cuts=draw(some_cuts(query)))
    return shards, query


@st.composite
def some_cuts(draw, query: SummaryQuery) -> tuple[int, ...]:
    first = query.start_ms if query.start_ms != TIME_MIN_MS else 0
    minutes = st.integers(1, max(1, min(100_000, (query.end_ms - first) // MINUTE_MS - 1)))
    more = {first + minute * MINUTE_MS for minute in draw(st.sets(minutes, max_size=4))}
    return (query.start_ms, *sorted(moment for moment in more if query.start_ms < moment < query.end_ms))


@st.composite
def aligned(draw, unit: Unit, zone: str, centre: int, low: int, high: int) -> int:
    ms = centre + draw(st.integers(low, high)) * MINUTE_MS
    if unit in (Unit.NONE, Unit.MINUTE):
        return ms
    return window_of(unit, bucket_of(unit, ms, pieces_of(zone)), pieces_of(zone)).start_ms


def named_apart(shards: list[SummaryShard], query: SummaryQuery) -> tuple[list[SummaryShard], SummaryQuery]:
    """The same under an event name that no other example has."""
    name = f"{query.event_name}#{next(_counter)}"
    shards = [shard._replace(key=shard.key._replace(event_name=name)) for shard in shards]
    return shards, dataclasses.replace(query, event_name=name)


def insert(client: Client, shards: list[SummaryShard], cuts: list[int]) -> None:
    """In inserts of these sizes, one after the other."""
    rows = iter(shards)
    for size in cuts:
        part = [row_of(Place(0, 0, 0), shard) for shard in itertools.islice(rows, size)]
        for table in tables_of(part).values():
            client.insert_arrow(tables.derived("summary_shards"), table, settings=PINNED_SETTINGS)


VIEW_SQL = """
SELECT toUnixTimestamp64Milli(window_start), toUnixTimestamp64Milli(window_end), customer, dimensions,
    reinterpret(sum, 'Int256'), count, reinterpret(min, 'Int128'), reinterpret(max, 'Int128'),
    reinterpret(avg, 'Int256'), reinterpret(last, 'Int128'), reinterpret(latest, 'Int128')
FROM meter_event_summaries(
    livemode = {livemode:Bool}, event_name = {event_name:String}, customers = {customers:Array(String)},
    start = fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'), end = fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'),
    window = {unit:String}, zone = {zone:String}, by_customer = {per_customer:Bool},
    group_by = {group_by:Array(String)},
    filter = mapFromArrays({names:Array(String)}, {accepted:Array(Array(String))}))
"""


def ask_view(client: Client, query: SummaryQuery) -> dict[object, dict[str, int]]:
    parameters = {
        "livemode": query.livemode,
        "event_name": query.event_name,
        "customers": list(query.customers),
        "start_ms": query.start_ms,
        "end_ms": query.end_ms,
        "unit": query.window.value,
        "zone": query.zone,
        "per_customer": query.per_customer,
        "group_by": list(query.group_by),
        "names": [name for name, _ in query.filters],
        "accepted": [list(accepted) for _, accepted in query.filters],
    }
    answer = {}
    for start, end, customer, dimensions, *numbers in client.query(VIEW_SQL, parameters=parameters).result_rows:
        of = ((start, end), customer if query.per_customer else None, tuple(dimensions.get(n) for n in query.group_by))
        answer[of] = dict(zip(NAMES, map(int, numbers), strict=True))
    return answer


def cut_to_range(answer, query: SummaryQuery):
    """The view cuts the first and the last window to the range that was asked for."""
    return {
        ((max(window[0], query.start_ms), min(window[1], query.end_ms)), *rest): values
        for (window, *rest), values in answer.items()
        if values["count"]
    }


def check_pages(client: Client, query: SummaryQuery, random) -> None:
    """Going on behind any row, forwards and in pages, shows what comes behind it; newest first is that backwards."""
    rows = list(summaries(client, query))
    assert few_summaries(client, query, "summary_shards_g1 FINAL") == rows
    if query.always_one:
        return
    if not query.group_by:
        assert few_summaries(client, dataclasses.replace(query, newest_first=True)) == rows[::-1]
    place = random.randrange(len(rows) + 1)
    behind = query.place_of(*rows[place - 1][:3]) if place else None
    limit = random.randint(1, 3)
    page = few_summaries(client, dataclasses.replace(query, after=behind, limit=limit))
    assert page == rows[place : place + limit]


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(questions(), st.randoms(use_true_random=False))
def test_any_query_answers_what_the_shards_say(client, question, random) -> None:
    """Invariant 7."""
    shards, query = named_apart(*question)
    sent = shards + random.choices(shards, k=len(shards)) if shards else []
    random.shuffle(sent)
    insert(client, sent, [random.randint(1, 10) for _ in sent])
    expected = oracle(shards, query)
    found = {(tuple(row.window), row.customer, row.groups): dict(row.values) for row in summaries(client, query)}
    assert found == expected
    check_pages(client, query, random)
    if query.event_time_window is None and not query.cuts:  # the view has neither
        assert ask_view(client, query) == cut_to_range(expected, query)
