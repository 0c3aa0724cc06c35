"""What a meter makes of an event, without a stack: quick and plain reading agree, borders are exact, repeats known."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.catalog import Meter
from pipeline.domain.events import Identity, MeterEvent
from pipeline.domain.limits import DAY_MS, VALUE_UNIT, FoldRules
from pipeline.gateway.problems import Problem
from pipeline.gateway.recent import AlreadyExists, OtherRequest, RecentEvents
from pipeline.gateway.strict_json import Number
from pipeline.gateway.usage import Fault, Rulebook, Said, read_said, said_of

NOW_MS = 1_790_000_000_123
METER = Meter(
    id="mtr_1",
    livemode=True,
    created_ms=0,
    updated_ms=0,
    version=1,
    display_name="x",
    event_name="miles",
    formula="sum",
    dimension_payload_keys=("zone", "area"),
)


class Meters:
    """As much of the catalog as a rulebook asks."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def active_meter(self, livemode: bool, event_name: str) -> Meter | None:
        return next((one for one in self.meters_of(livemode, event_name) if one.active), None)

    def meters_of(self, livemode: bool, event_name: str) -> list[Meter]:
        return [one for one in self._meters if (one.livemode, one.event_name) == (livemode, event_name)]


def rulebook(*meters: Meter, rules: FoldRules | None = None) -> Rulebook:
    return Rulebook(Meters(*(meters or (METER,))), rules or FoldRules(), livemode=True, now_ms=NOW_MS)  # type: ignore[arg-type]


def said(timestamp_ms: int | None = None, **payload: str) -> Said:
    whole = {"stripe_customer_id": "c", "value": "1", "zone": "z", "area": "a", **payload}
    return Said("miles", {key: text for key, text in whole.items() if text is not None}, None, timestamp_ms)


# --- the quick way and the plain way

words = st.sampled_from(
    ["", "a", "x" * 100, "x" * 101, "é", "a\u200bb", "\x00", "1", "2026-01-31T12:00:00Z"]
) | st.text(max_size=5)
leaves = st.none() | st.booleans() | st.integers(-10, 300_000_000_000) | words | words.map(Number)
payloads = leaves | st.dictionaries(words, leaves | st.just({}), max_size=4) | st.just({str(n): "x" for n in range(51)})
raws = leaves | st.fixed_dictionaries(
    {"event_name": leaves | st.just("miles"), "payload": payloads},
    optional={"identifier": leaves, "timestamp": leaves, "more": leaves},
)


def outcome(read, raw) -> object:
    try:
        return read(raw, "events[3]")
    except Problem as problem:
        return problem.body("v2")


@settings(deadline=None)
@given(raws)
def test_the_quick_way_of_reading_an_event_is_the_plain_way(raw):
    plain = outcome(read_said, raw)
    assert outcome(said_of, raw) == plain
    assert isinstance(plain, Said) or plain["error"]["param"].startswith("events[3]")


# --- borders


@pytest.mark.parametrize("rules", [FoldRules(), FoldRules(max_past_ms=DAY_MS, max_ahead_ms=0)])
def test_g5_the_borders_of_time_are_exact(rules):
    """FAULTS G5: 35 days and 5 minutes to the millisecond, both included."""
    book = rulebook(rules=rules)
    for good in (NOW_MS, NOW_MS - rules.max_past_ms, NOW_MS + rules.max_ahead_ms):
        event = book.event_of(said(good), "i")
        assert isinstance(event, MeterEvent)
        assert event.timestamp_ms == good
    for bad, code in (
        (NOW_MS - rules.max_past_ms - 1, "timestamp_too_far_in_past"),
        (NOW_MS - rules.max_past_ms - 1000, "timestamp_too_far_in_past"),
        (0, "timestamp_too_far_in_past"),
        (NOW_MS + rules.max_ahead_ms + 1, "timestamp_in_future"),
        (NOW_MS + rules.max_ahead_ms + 1000, "timestamp_in_future"),
        (2**62, "timestamp_in_future"),
    ):
        fault = book.event_of(said(bad), "i")
        assert isinstance(fault, Fault)
        assert (fault.codes.report, fault.codes.v2, fault.meter) == (code, code, METER)


def test_the_words_about_time_are_stripes():
    fault = rulebook().event_of(said(5), "i")
    expected = (NOW_MS - 35 * DAY_MS) // 1000 + 1
    assert isinstance(fault, Fault)
    assert fault.message == (
        "The event timestamp cannot be more than 35 days in past. Expected a timestamp greater than or equal to "
        f"{expected}."
    )
    assert isinstance(rulebook().event_of(said(expected * 1000), "i"), MeterEvent), "what it says is accepted"


def test_faults_are_found_in_one_order():
    def code(one: Said, *meters: Meter) -> str:
        fault = rulebook(*meters).event_of(one, "i")
        assert isinstance(fault, Fault)
        return fault.codes.report

    everything = said(0, stripe_customer_id="", value="x", zone=None)
    inactive = dataclasses.replace(METER, deactivated_at_ms=1)
    assert code(everything._replace(event_name="other")) == "no_meter"
    assert code(everything, inactive) == "archived_meter"
    assert code(everything) == "meter_event_no_customer_defined"
    assert code(said(0, value="x", zone=None)) == "meter_event_invalid_value"
    assert code(said(0, value="9" * 27, zone=None)) == "meter_event_value_too_many_digits"
    assert code(said(0, zone=None)) == "missing_dimension_payload_keys"
    assert code(said(0)) == "timestamp_too_far_in_past"


def test_an_event_is_what_its_meter_finds_in_the_payload():
    event = rulebook().event_of(said(value="-2.5", more="not kept"), "i")
    assert event == MeterEvent("i", "miles", "c", -25 * VALUE_UNIT // 10, NOW_MS, (("area", "a"), ("zone", "z")), True)


# --- what this gateway wrote itself

ONE, OTHER = Identity(True, "e", "1"), Identity(True, "e", "2")
KEY, OTHER_KEY = (True, "k"), (True, "l")


async def _written() -> None:
    await asyncio.sleep(0)


async def _failed() -> None:
    await asyncio.sleep(0)
    raise ConnectionError


def test_a_repeat_gets_the_answer_and_another_event_an_error():
    async def story():
        recent = RecentEvents()
        assert await recent.repeated(KEY, b"a") is None
        assert await recent.write(ONE, KEY, b"a", _written, {"n": 1}) == ({"n": 1}, False)
        assert await recent.repeated(KEY, b"a") == {"n": 1}
        with pytest.raises(OtherRequest):
            await recent.repeated(KEY, b"b")
        assert await recent.write(ONE, KEY, b"a", _failed, {"n": 2}) == ({"n": 1}, True), "not written again"
        for key, asked in ((KEY, b"b"), (OTHER_KEY, b"a"), (None, b"a")):
            with pytest.raises(AlreadyExists):
                await recent.write(ONE, key, asked, _written, {"n": 2})
        assert await recent.write(OTHER, None, b"a", _written, {"n": 3}) == ({"n": 3}, False)
        with pytest.raises(AlreadyExists):
            await recent.write(OTHER, None, b"a", _written, {"n": 4})
        assert await recent.repeated(None, b"a") is None

    asyncio.run(story())


def test_an_unknown_outcome_may_be_written_again_by_anybody():
    async def story():
        recent = RecentEvents()
        with pytest.raises(ConnectionError):
            await recent.write(ONE, KEY, b"a", _failed, {"n": 1})
        assert await recent.repeated(KEY, b"a") is None
        with pytest.raises(ConnectionError):
            await recent.write(ONE, OTHER_KEY, b"b", _failed, {"n": 2})
        assert await recent.write(ONE, None, b"a", _written, {"n": 3}) == ({"n": 3}, True), "said to be a repeat"
        with pytest.raises(AlreadyExists):
            await recent.write(ONE, KEY, b"a", _written, {"n": 4})

    asyncio.run(story())


def test_those_who_come_meanwhile_wait_for_the_outcome():
    async def story(first, second_is_written: bool):
        recent, order = RecentEvents(), []

        async def slow():
            order.append("begun")
            await asyncio.sleep(0.01)
            order.append("ended")
            await first()

        async def follower(number: int):
            try:
                await recent.write(ONE, None, b"a", slow_too, {"n": number})
            except AlreadyExists:
                return "exists"
            return "written"

        async def slow_too():
            order.append("begun")
            await asyncio.sleep(0.01)
            order.append("ended")

        leader = asyncio.create_task(recent.write(ONE, KEY, b"a", slow, {"n": 0}))
        await asyncio.sleep(0)
        repeat = asyncio.create_task(recent.repeated(KEY, b"a"))
        outcomes = await asyncio.gather(*(follower(number) for number in range(1, 6)))
        await asyncio.gather(leader, return_exceptions=True)
        assert order == ["begun", "ended"] * (2 if second_is_written else 1), "never two at a time"
        assert sorted(outcomes) == (["exists"] * 4 + ["written"] if second_is_written else ["exists"] * 5)
        assert await repeat == (None if second_is_written else {"n": 0})

    asyncio.run(story(_written, second_is_written=False))
    asyncio.run(story(_failed, second_is_written=True))


def test_e1_repeats_that_waited_for_a_failure_all_get_the_answer_of_the_one_that_is_written():
    async def story():
        recent, written = RecentEvents(), []

        async def request(number: int) -> dict[str, int]:
            """As a handler does it."""
            known = await recent.repeated(KEY, b"a")
            if known is not None:
                return known

            async def write() -> None:
                await asyncio.sleep(0.01)
                if number == 0:
                    raise ConnectionError
                written.append(number)

            answer, _ = await recent.write(ONE, KEY, b"a", write, {"n": number})
            return answer

        first, *repeats = await asyncio.gather(*map(request, range(5)), return_exceptions=True)
        assert isinstance(first, ConnectionError)
        assert len(written) == 1, "never two that know of each other"
        assert repeats == [{"n": written[0]}] * 4

    asyncio.run(story())


def test_memory_is_bounded_and_forgetting_is_harmless():
    async def story():
        recent = RecentEvents(kept=10)
        for number in range(100):
            key = (True, str(number))
            answer = number + 1
            written = await recent.write(Identity(True, "e", str(number)), key, b"a", _written, answer)
            assert written == (answer, False)
        assert len(recent._by_identity) == len(recent._by_key) == 10
        assert await recent.repeated((True, "3"), b"a") is None
        assert await recent.repeated((True, "99"), b"a") == 100
        recent.forget(Identity(True, "e", "99"))
        assert await recent.repeated((True, "99"), b"a") is None

    asyncio.run(story())
