"""Queries are values that render to (SQL, parameters): the text is compared, no database is asked."""

from __future__ import annotations

import dataclasses
import re

import pytest

from pipeline.clickhouse.queries import NAMES, TIME_MAX_MS, TIME_MIN_MS, MisalignedTime, QueryFault, SummaryQuery
from pipeline.clickhouse.summaries import average
from pipeline.clickhouse.windows import Unit, moment_of, moment_text
from pipeline.errors import UsageError

JANUARY, FEBRUARY, MARCH = 1_767_225_600_000, 1_769_904_000_000, 1_772_323_200_000
NASTY = "'; DROP TABLE summary_shards; --"


PLAINEST = """\
SELECT
    toInt64(0) AS local_ms,
    toInt64(0) AS piece_ms,
    reinterpret(sum(sum), 'Int256') AS total_sum,
    sum(count) AS total_count
FROM summary_shards
WHERE livemode = {livemode:Bool}
    AND event_name = {event_name:String}
    AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND count > 0
GROUP BY local_ms
ORDER BY local_ms"""

FULL = """\
WITH
    toUnixTimestamp64Milli(window_start) AS moment_ms,
    roundDown(moment_ms, {starts:Array(Int64)}) AS begins,
    moment_ms + transform(begins, {starts:Array(Int64)}, {offsets:Array(Int64)}) AS shown_ms
SELECT
    shown_ms - positiveModulo(shown_ms, 3600000) AS local_ms,
    begins AS piece_ms,
    customer,
    if(mapContains(dimensions, {dimension_0:String}), dimensions[{dimension_0:String}], NULL) AS group_0,
    reinterpret(max(max), 'Int128') AS total_max,
    reinterpret(sum(sum), 'Int256') AS total_sum,
    sum(count) AS total_count
FROM summary_shards
WHERE livemode = {livemode:Bool}
    AND event_name = {event_name:String}
    AND customer IN {customers:Array(String)}
    AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND count > 0
    AND mapContains(dimensions, {filter_0:String})
    AND has({accepted_0:Array(String)}, dimensions[{filter_0:String}])
GROUP BY local_ms, piece_ms, customer, group_0
ORDER BY local_ms, piece_ms, customer, group_0"""


def test_the_plainest_question() -> None:
    sql, parameters = SummaryQuery("api_calls", start_ms=JANUARY, end_ms=FEBRUARY).render()
    assert sql == PLAINEST
    assert parameters == {"livemode": True, "event_name": "api_calls", "start_ms": JANUARY, "end_ms": FEBRUARY}


def test_every_part_of_a_question() -> None:
    sql, parameters = SummaryQuery(
        "api_calls",
        livemode=False,
        start_ms=JANUARY - 3_600_000,
        end_ms=MARCH - 3_600_000,
        customers=("a", "b"),
        per_customer=True,
        window=Unit.HOUR,
        zone="Europe/Berlin",
        group_by=("region",),
        filters=(("path", ("/v1", "/v2")),),
        aggregations=("max", "avg"),
    ).render()
    assert sql == FULL
    assert parameters == {
        "livemode": False,
        "event_name": "api_calls",
        "dimension_0": "region",
        "starts": [1761440400000, 1774746000000],
        "offsets": [3_600_000, 7_200_000],
        "start_ms": JANUARY - 3_600_000,
        "end_ms": MARCH - 3_600_000,
        "customers": ["a", "b"],
        "filter_0": "path",
        "accepted_0": ["/v1", "/v2"],
    }


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "toUnixTimestamp64Milli(window_start) AS shown_ms"),
        ("Asia/Kathmandu", "toUnixTimestamp64Milli(window_start) + {offset_ms:Int64} AS shown_ms"),
    ],
)
def test_one_customers_hours_are_asked_for_in_few_words(zone: str, shown: str) -> None:
    start_ms = moment_of("2026-01-01", zone)
    sql, parameters = SummaryQuery(
        "e", start_ms=start_ms, end_ms=start_ms + 86_400_000, customers=("a",), window=Unit.HOUR, zone=zone
    ).render()
    assert shown in sql
    assert "AND customer = {customer:String}" in sql
    assert "GROUP BY local_ms\n" in sql, "what is the same in all rows is no key"
    assert parameters["customer"] == "a"
    assert parameters.get("offset_ms") == (None if zone == "UTC" else 20_700_000)


def test_survivors_are_chosen_before_anything_is_narrowed() -> None:
    half_past = JANUARY + 30 * 60_000
    sql, parameters = SummaryQuery(
        "api_calls",
        start_ms=half_past,
        end_ms=half_past + 60_000,
        filters=(("path", ("/v1",)),),
        event_time_window=Unit.HOUR,
    ).render()
    inner, _, outer = sql.partition("GROUP BY customer")
    assert "filter_0" not in inner
    assert "filter_0" in outer
    assert (parameters["slots_start_ms"], parameters["slots_end_ms"]) == (JANUARY, JANUARY + 3_600_000)
    assert (parameters["start_ms"], parameters["slot_ms"]) == (half_past, 3_600_000)


def test_windows_of_any_length() -> None:
    question = SummaryQuery("e", start_ms=JANUARY, end_ms=FEBRUARY, cuts=(JANUARY, JANUARY + 60_000))
    sql, parameters = question.render()
    assert "roundDown(toUnixTimestamp64Milli(window_start), {cuts:Array(Int64)}) AS local_ms" in sql
    assert parameters["cuts"] == [JANUARY, JANUARY + 60_000]


@pytest.mark.parametrize("event_time_window", [None, Unit.HOUR, Unit.DAY])
@pytest.mark.parametrize("unit", Unit)
def test_nothing_that_a_user_gave_stands_in_the_text(unit: Unit, event_time_window: Unit | None) -> None:
    question = SummaryQuery(
        event_time_window=event_time_window,
        event_name=NASTY,
        customers=(NASTY,),
        per_customer=True,
        window=unit,
        zone="Europe/Berlin",
        group_by=(NASTY,),
        filters=((NASTY, (NASTY,)),),
        aggregations=NAMES,
    )
    harmless = dataclasses.replace(
        question, event_name="e", customers=("c",), group_by=("g",), filters=(("f", ("v",)),), livemode=False
    )
    sql, parameters = question.render()
    assert sql == harmless.render().sql
    assert "DROP" not in sql
    assert set(re.findall(r"{(\w+):", sql)) == set(parameters), "each parameter is used, each placeholder is given"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"aggregations": ()}, "aggregations"),
        ({"aggregations": ("sum(sum); --",)}, "aggregations"),
        ({"start_ms": JANUARY, "end_ms": JANUARY}, "end_ms"),
        ({"start_ms": FEBRUARY, "end_ms": JANUARY}, "end_ms"),
        ({"start_ms": TIME_MIN_MS - 60_000}, "end_ms"),
        ({"end_ms": TIME_MAX_MS + 1}, "end_ms"),
        ({"start_ms": JANUARY + 1}, "start_ms"),
        ({"end_ms": JANUARY + 59_999}, "end_ms"),
        ({"start_ms": JANUARY + 60_000, "window": Unit.HOUR}, "start_ms"),
        ({"end_ms": FEBRUARY + 3_600_000, "window": Unit.DAY}, "end_ms"),
        ({"start_ms": JANUARY + 86_400_000, "window": Unit.MONTH}, "start_ms"),
        ({"start_ms": JANUARY, "window": Unit.DAY, "zone": "Europe/Berlin"}, "start_ms"),
        ({"start_ms": JANUARY, "window": Unit.HOUR, "zone": "Asia/Kathmandu"}, "start_ms"),
    ],
)
def test_questions_without_an_answer_name_what_is_to_blame(change: dict, param: str) -> None:
    with pytest.raises(QueryFault) as fault:
        SummaryQuery("api_calls", **change)
    assert fault.value.param == param


def test_a_misaligned_time_knows_the_window_it_lies_in() -> None:
    noon = JANUARY + 12 * 3_600_000
    with pytest.raises(MisalignedTime) as fault:
        SummaryQuery("api_calls", start_ms=noon, window=Unit.DAY, zone="America/New_York")
    assert tuple(fault.value.window) == (JANUARY + 5 * 3_600_000, JANUARY + 29 * 3_600_000)


def test_an_unknown_zone_is_the_callers_fault() -> None:
    for zone in ("Middle/Earth", "", "../etc/passwd", "UTC; SELECT 1", "/etc/localtime", "a" * 5000):
        with pytest.raises(UsageError, match="there is no time zone"):
            SummaryQuery("api_calls", zone=zone)


@pytest.mark.parametrize(
    ("total", "count", "mean"),
    [(0, 1, 0), (5, 2, 2), (7, 2, 4), (-5, 2, -2), (-7, 2, -4), (8, 3, 3), (-8, 3, -3), (10**60 + 1, 2, 10**60 // 2)],
)
def test_averages_round_halves_to_the_even_neighbour(total: int, count: int, mean: int) -> None:
    assert average(total, count) == mean


def test_there_is_no_average_of_nothing() -> None:
    assert average(0, 0) is None
    assert average(None, None) is None


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2026", "UTC", "2026-01-01T00:00:00Z"),
        ("2026-02", "UTC", "2026-02-01T00:00:00Z"),
        ("2026-02-03", "Europe/Berlin", "2026-02-02T23:00:00Z"),
        ("2026-02-03T04:05", "Europe/Berlin", "2026-02-03T03:05:00Z"),
        ("2026-02-03 04:05:06", "Asia/Kathmandu", "2026-02-02T22:20:06Z"),
        ("2026-02-03T04:05:06+01:00", "Asia/Kathmandu", "2026-02-03T03:05:06Z"),
        ("1767225600000", "Europe/Berlin", "2026-01-01T00:00:00Z"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00Z"),  # shown twice: the first time
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:00:00Z"),  # never shown: when it is skipped
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00Z"),  # a day that never was
    ],
)
def test_times_are_read_by_the_clocks_of_the_zone(text: str, zone: str, utc: str) -> None:
    assert moment_text(moment_of(text, zone), "UTC") == utc


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13", "2026-02-30", "2026-1-1", "26-01-01", "2026-01-01T25:00"])
def test_times_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment_of(text, "UTC")


def test_times_are_shown_by_the_clocks_of_the_zone() -> None:
    assert moment_text(JANUARY, "America/New_York") == "2025-12-31T19:00:00-05:00"
    assert moment_text(JANUARY + 1, "UTC") == "2026-01-01T00:00:00.001Z"
    assert moment_text(2**62, "UTC") == str(2**62)
