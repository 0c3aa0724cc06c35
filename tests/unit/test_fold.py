"""The rules of the fold (DESIGN section 4), one row each: records in, what was decided about which record out.

Times are milliseconds after T0, where every clock starts. The windows are short: an event may be 20 minutes old and
one minute ahead, so identities are remembered for 21 minutes; events can be taken back for 5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from pipeline.domain import checks, outcomes
from pipeline.domain.events import Cancellation, CancellationRange, Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState

T0 = 1_700_000_040_000
PAST, AHEAD, CANCEL = 20 * MINUTE_MS, MINUTE_MS, 5 * MINUTE_MS
DEDUP = PAST + AHEAD
RULES = FoldRules(PAST, AHEAD, CANCEL)
ALONE = Journal(0, 1, RULES)

Content = MeterEvent | Cancellation | Undecodable


def test_the_start_of_all_times_is_the_start_of_a_minute() -> None:
    assert T0 % MINUTE_MS == 0


def event(identifier: str = "a", value: int = 1, at: int = 0, **change: Any) -> MeterEvent:
    usual = MeterEvent(identifier, "calls", "c", value, T0 + at, (), True)
    return usual._replace(**change)


def cancel(identifier: str = "a", by: str = "x", event_name: str = "calls", livemode: bool = True) -> Cancellation:
    return Cancellation(by, event_name, livemode, identifier, None, T0)


def cancel_range(
    start: int, end: int, by: str = "x", requested: int = MINUTE_MS, customer: str | None = None, **change: Any
) -> Cancellation:
    wanted = CancellationRange(customer, T0 + start, T0 + end)
    return Cancellation(by, "calls", True, None, wanted, T0 + requested)._replace(**change)


GARBAGE = Undecodable("no_value")


class At(NamedTuple):
    """One record: appended so many ms after T0; what it decides, as words "offset disposition [reason]"."""

    ms: int
    content: Content
    decided: tuple[str, ...] = ()
    """Without its own counted, which is not written."""


def said(state: PlainState, journal: Journal, offset: int, appended_at_ms: int, content: Content) -> tuple[str, ...]:
    decided = step(state, journal, Record(offset, appended_at_ms, content))
    assert all(one.decided_offset == offset and one.partition == journal.partition for one in decided)
    return tuple(f"{one.offset} {one.disposition}" + (f" {one.reason}" if one.reason else "") for one in decided)


def total(state: PlainState) -> int:
    """The sum of what counts, in all tallies."""
    return sum(shard.sum for shard in state.take_shards(0))


class Rule(NamedTuple):
    name: str
    records: tuple[At, ...]
    total: int


TOO_OLD, TOO_NEW = f"rejected {checks.TIMESTAMP_TOO_OLD}", f"rejected {checks.TIMESTAMP_IN_FUTURE}"

EVENTS = (
    Rule("an event counts", (At(0, event()),), 1),
    Rule("at the border of the past it counts", (At(0, event(at=-PAST)),), 1),
    Rule("a millisecond older it does not", (At(0, event(at=-PAST - 1), (f"0 {TOO_OLD}",)),), 0),
    Rule("at the border of the future it counts", (At(0, event(at=AHEAD)),), 1),
    Rule("a millisecond later it does not", (At(0, event(at=AHEAD + 1), (f"0 {TOO_NEW}",)),), 0),
    Rule(
        "a broker's clock that steps back does not bring the past back",
        (
            At(10 * MINUTE_MS, event("a", at=10 * MINUTE_MS)),
            At(0, event("b", 2, at=-10 * MINUTE_MS)),
            At(0, event("c", 4, at=-10 * MINUTE_MS - 1), (f"2 {TOO_OLD}",)),
        ),
        3,
    ),
    Rule("a repeat does not count", (At(0, event()), At(0, event(), ("1 duplicate",))), 1),
    *(
        Rule(
            f"a repeat with another {field} does not count, and says so",
            (
                At(0, event()),
                At(0, event(**{field: other}), ("1 duplicate_differs",)),
                At(0, event(), ("2 duplicate",)),
            ),
            1,
        )
        for field, other in (
            ("value", 2),
            ("customer", "d"),
            ("timestamp_ms", T0 + 1),
            ("dimensions", (("k", "v"),)),
        )
    ),
    Rule("under another event name it is another event", (At(0, event()), At(0, event(event_name="pages"))), 2),
    Rule("in test mode it is another event", (At(0, event()), At(0, event(livemode=False))), 2),
    Rule(
        "a rejected event leaves its identifier free",
        (At(0, event(at=AHEAD + 1), (f"0 {TOO_NEW}",)), At(0, event())),
        1,
    ),
    Rule(
        "a repeat at the end of the dedup window is known",
        (At(0, event(at=AHEAD)), At(DEDUP, event(at=AHEAD), ("1 duplicate",))),
        1,
    ),
    Rule(
        "a repeat after it is too old (invariant 3)",
        (At(0, event(at=AHEAD)), At(DEDUP + 1, event(at=AHEAD), (f"1 {TOO_OLD}",))),
        1,
    ),
    Rule(
        "an identifier can be used again after the dedup window, by another event",
        (At(0, event(at=AHEAD)), At(DEDUP + 1, event(value=10, at=DEDUP))),
        11,
    ),
    Rule("garbage counts nowhere", (At(0, GARBAGE, ("0 undecodable no_value",)), At(0, event())), 1),
)

SINGLE_CANCELLATIONS = (
    Rule("an event is taken back", (At(0, event()), At(0, cancel(), ("1 cancelled", "0 cancelled"))), 0),
    Rule(
        "until the end of the cancellation window",
        (At(0, event()), At(CANCEL, cancel(), ("1 cancelled", "0 cancelled"))),
        0,
    ),
    Rule("and not a millisecond longer (FAULTS E8)", (At(0, event()), At(CANCEL + 1, cancel(), ("1 too_late",))), 1),
    Rule(
        "the window counts from the append, not from the timestamp",
        (At(CANCEL, event(at=0)), At(2 * CANCEL, cancel(), ("1 cancelled", "0 cancelled"))),
        0,
    ),
    Rule(
        "a cancelled identifier stays used up",
        (At(0, event()), At(0, cancel(), ("1 cancelled", "0 cancelled")), At(1, event(), ("2 duplicate",))),
        0,
    ),
    Rule(
        "a second cancellation finds it done",
        (
            At(0, event()),
            At(0, cancel(by="x"), ("1 cancelled", "0 cancelled")),
            At(0, cancel(by="y"), ("2 already_cancelled",)),
        ),
        0,
    ),
    Rule(
        "also when its window has passed",
        (
            At(0, event()),
            At(0, cancel(by="x"), ("1 cancelled", "0 cancelled")),
            At(CANCEL + 1, cancel(by="y"), ("2 already_cancelled",)),
        ),
        0,
    ),
    Rule(
        "a copy of the adjustment is a duplicate",
        (At(0, event()), At(0, cancel(), ("1 cancelled", "0 cancelled")), At(0, cancel(), ("2 duplicate",))),
        0,
    ),
    Rule(
        "it waits for its event", (At(0, cancel(), ("0 pending",)), At(0, event(), ("1 cancelled", "0 cancelled"))), 0
    ),
    Rule(
        "until the end of its window",
        (At(0, cancel(), ("0 pending",)), At(CANCEL, event(at=CANCEL), ("1 cancelled", "0 cancelled"))),
        0,
    ),
    Rule(
        "and not a millisecond longer: it was not found, and the event counts",
        (At(0, cancel(), ("0 pending",)), At(CANCEL + 1, event(at=CANCEL), ("0 not_found",))),
        1,
    ),
    *(
        Rule(f"any record lets it expire: {name}", (At(0, cancel(), ("0 pending",)), At(CANCEL + 1, other, decided)), 0)
        for name, other, decided in (
            ("garbage", GARBAGE, ("0 not_found", "1 undecodable no_value")),
            ("a cancellation", cancel("b"), ("0 not_found", "1 pending")),
            ("a rejected event", event("b", at=-PAST), ("0 not_found", f"1 {TOO_OLD}")),
        )
    ),
    Rule(
        "each expires at its own time",
        (
            At(0, cancel(by="x"), ("0 pending",)),
            At(1, cancel(by="y"), ("1 pending",)),
            At(CANCEL + 1, GARBAGE, ("0 not_found", "2 undecodable no_value")),
            At(CANCEL + 1, event(at=CANCEL), ("3 cancelled", "1 cancelled")),
        ),
        0,
    ),
    Rule(
        "several expire in the order in which they came",
        (
            At(0, cancel("b"), ("0 pending",)),
            At(0, cancel("a"), ("1 pending",)),
            At(0, cancel("b", by="y"), ("2 pending",)),
            At(CANCEL + 1, GARBAGE, ("0 not_found", "1 not_found", "2 not_found", "3 undecodable no_value")),
        ),
        0,
    ),
    Rule(
        "of two that wait, the first takes the event back",
        (
            At(0, cancel(by="x"), ("0 pending",)),
            At(0, cancel(by="y"), ("1 pending",)),
            At(0, event(), ("2 cancelled", "0 cancelled", "1 already_cancelled")),
            At(0, cancel(by="z"), ("3 already_cancelled",)),
        ),
        0,
    ),
    Rule(
        "a copy of one that waits is a duplicate",
        (
            At(0, cancel(), ("0 pending",)),
            At(0, cancel(), ("1 duplicate",)),
            At(0, event(), ("2 cancelled", "0 cancelled")),
        ),
        0,
    ),
    Rule(
        "an expired one can be sent again",
        (
            At(0, cancel(), ("0 pending",)),
            At(CANCEL + 1, cancel(), ("0 not_found", "1 pending")),
            At(CANCEL + 1, event(at=CANCEL), ("2 cancelled", "1 cancelled")),
        ),
        0,
    ),
    Rule(
        "under another event name it finds nothing", (At(0, event()), At(0, cancel(event_name="p"), ("1 pending",))), 1
    ),
    Rule("in the other mode it finds nothing", (At(0, event()), At(0, cancel(livemode=False), ("1 pending",))), 1),
    Rule(
        "a forgotten event cannot be found",
        (At(0, event(at=AHEAD)), At(DEDUP, cancel(), ("1 too_late",)), At(DEDUP + 1, cancel(by="y"), ("2 pending",))),
        1,
    ),
    Rule(
        "a rejected event cannot be found",
        (At(0, event(at=AHEAD + 1), (f"0 {TOO_NEW}",)), At(0, cancel(), ("1 pending",))),
        0,
    ),
    Rule(
        "without an identifier that could be, it is rejected",
        (At(0, cancel("a\n"), ("0 rejected invalid_identifier",)),),
        0,
    ),
    Rule("without an id, too", (At(0, cancel(by=""), ("0 rejected invalid_adjustment",)),), 0),
    Rule("without an event name, too", (At(0, cancel(event_name=""), ("0 rejected invalid_event_name",)),), 0),
)

THREE = (At(0, event("a", 1, at=0)), At(0, event("b", 2, at=1)), At(0, event("c", 4, at=2)))

RANGE_CANCELLATIONS = (
    Rule(
        "a range begins with its start and ends before its end",
        (*THREE, At(0, cancel_range(0, 2), ("3 cancelled", "0 cancelled", "1 cancelled"))),
        4,
    ),
    Rule("a range of one millisecond", (*THREE, At(0, cancel_range(1, 2), ("3 cancelled", "1 cancelled"))), 5),
    Rule("a range of nobody's usage", (*THREE, At(0, cancel_range(3, 4), ("3 cancelled",))), 7),
    Rule("an empty range is rejected", (*THREE, At(0, cancel_range(1, 1), ("3 rejected invalid_adjustment",))), 7),
    Rule(
        "of one customer",
        (
            At(0, event("a", 1)),
            At(0, event("b", 2, customer="d")),
            At(0, cancel_range(0, 1, customer="d"), ("2 cancelled", "1 cancelled")),
        ),
        1,
    ),
    Rule(
        "of one event name and mode",
        (
            At(0, event("a", 1)),
            At(0, event("b", 2, event_name="pages")),
            At(0, event("c", 4, livemode=False)),
            At(0, cancel_range(0, 1), ("3 cancelled", "0 cancelled")),
        ),
        6,
    ),
    Rule(
        "whatever the dimensions",
        (
            At(0, event("a", 1)),
            At(0, event("b", 2, dimensions=(("k", "v"),))),
            At(0, cancel_range(0, 1), ("2 cancelled", "0 cancelled", "1 cancelled")),
        ),
        0,
    ),
    Rule(
        "events that were appended until it was asked for, and none later",
        (
            At(0, event("a", 1)),
            At(7, event("b", 2)),
            At(8, event("c", 4)),
            At(8, cancel_range(0, 1, requested=7), ("3 cancelled", "0 cancelled", "1 cancelled")),
        ),
        4,
    ),
    Rule(
        "events within their cancellation window",
        (
            At(0, event("a", 1)),
            At(1, event("b", 2)),
            At(CANCEL + 1, cancel_range(0, 1), ("2 cancelled", "1 cancelled")),
        ),
        1,
    ),
    Rule(
        "a second copy is a duplicate, whatever came meanwhile",
        (
            At(0, event("a", 1)),
            At(0, cancel_range(0, 1), ("1 cancelled", "0 cancelled")),
            At(0, event("b", 2)),
            At(CANCEL, cancel_range(0, 1), ("3 duplicate",)),
        ),
        2,
    ),
    Rule(
        "its id is remembered for a cancellation window, after which it could only take back what came since",
        (
            At(0, event("a", 1)),
            At(0, cancel_range(0, 1, requested=PAST), ("1 cancelled", "0 cancelled")),
            At(1, event("b", 2)),
            At(CANCEL, cancel_range(0, 1, requested=PAST), ("3 duplicate",)),
            At(CANCEL + 1, cancel_range(0, 1, requested=PAST), ("4 cancelled", "2 cancelled")),
        ),
        0,
    ),
    Rule(
        "another id takes back what came meanwhile, and nothing twice",
        (
            At(0, event("a", 1)),
            At(0, cancel_range(0, 1, by="x"), ("1 cancelled", "0 cancelled")),
            At(0, event("b", 2)),
            At(0, cancel_range(0, 1, by="y"), ("3 cancelled", "2 cancelled")),
            At(0, cancel("b", by="z"), ("4 already_cancelled",)),
        ),
        0,
    ),
    Rule(
        "a cancelled event is not taken back again",
        (
            At(0, event("a", 1)),
            At(0, cancel(by="x"), ("1 cancelled", "0 cancelled")),
            At(0, cancel_range(0, 1, by="y"), ("2 cancelled",)),
        ),
        0,
    ),
    Rule(
        "its customer must be one",
        (At(0, cancel_range(0, 1, customer=""), ("0 rejected invalid_customer",)),),
        0,
    ),
    Rule(
        "a cancellation of an event and a range at once is neither",
        (At(0, event()), At(0, cancel_range(0, 1, identifier="a"), ("1 rejected invalid_adjustment",))),
        1,
    ),
    Rule(
        "nor is one of nothing",
        (At(0, event()), At(0, cancel_range(0, 1, range=None), ("1 rejected invalid_adjustment",))),
        1,
    ),
)


@pytest.mark.parametrize("rule", [*EVENTS, *SINGLE_CANCELLATIONS, *RANGE_CANCELLATIONS], ids=lambda rule: rule.name)
def test_rule(rule: Rule) -> None:
    state = PlainState()
    for offset, record in enumerate(rule.records):
        assert said(state, ALONE, offset, T0 + record.ms, record.content) == record.decided, f"record {offset}"
    assert total(state) == rule.total


FAULTS = (
    (checks.INVALID_IDENTIFIER, {"identifier": "x" * 101}),
    (checks.INVALID_EVENT_NAME, {"event_name": "n\x7f"}),
    (checks.NO_CUSTOMER, {"customer": ""}),
    (checks.TOO_MANY_DIMENSIONS, {"dimensions": tuple((f"{n:02}", "v") for n in range(17))}),
    (checks.TOO_MANY_DIGITS, {"value": VALUE_BOUND}),
    (checks.TIMESTAMP_TOO_OLD, {"timestamp_ms": T0 - PAST - 1}),
)


def test_the_first_check_that_fails_names_the_reason() -> None:
    """An event with every fault, mended one by one in the documented order."""
    for mended in range(len(FAULTS)):
        bad = event()
        for _, change in FAULTS[mended:]:
            bad = bad._replace(**change)
        assert said(PlainState(), ALONE, 0, T0, bad) == (f"0 rejected {FAULTS[mended][0]}",)


@pytest.mark.parametrize(
    ("reason", "good", "bad"),
    [
        (checks.INVALID_IDENTIFIER, {"identifier": "é" * 100}, {"identifier": "é" * 101}),
        (checks.INVALID_IDENTIFIER, {"identifier": " "}, {"identifier": ""}),
        (checks.INVALID_EVENT_NAME, {"event_name": "n" * 100}, {"event_name": "n" * 101}),
        (checks.INVALID_CUSTOMER, {"customer": "\U0001f680" * 100}, {"customer": "\U0001f680" * 101}),
        (checks.INVALID_CUSTOMER, {"customer": "\u00a0"}, {"customer": "c\u200b"}),
        (
            checks.TOO_MANY_DIMENSIONS,
            {"dimensions": tuple((f"{n:02}", "v") for n in range(16))},
            {"dimensions": tuple((f"{n:02}", "v") for n in range(17))},
        ),
        (checks.INVALID_DIMENSION, {"dimensions": (("k" * 100, "v" * 100),)}, {"dimensions": (("k" * 101, "v"),)}),
        (checks.INVALID_DIMENSION, {"dimensions": (("k", ""),)}, {"dimensions": (("", "v"),)}),
        (checks.INVALID_DIMENSION, {"dimensions": (("k", " "),)}, {"dimensions": (("k", "\x00"),)}),
        (checks.TOO_MANY_DIGITS, {"value": VALUE_BOUND - 1}, {"value": VALUE_BOUND}),
        (checks.TOO_MANY_DIGITS, {"value": 1 - VALUE_BOUND}, {"value": -VALUE_BOUND}),
    ],
)
def test_borders_of_the_checks(reason: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert said(PlainState(), ALONE, 0, T0, event(**good)) == ()
    assert said(PlainState(), ALONE, 0, T0, event(**bad)) == (f"0 rejected {reason}",)


def test_a_record_in_the_wrong_partition_is_only_named() -> None:
    """Not remembered, and its times not looked at: where it belongs it is judged."""
    here = partition_of("a", 3)
    away = Journal((here + 1) % 3, 3, RULES)
    state = PlainState()
    for offset, stray in enumerate([event("a"), event("a", at=-PAST - 1), cancel("a")]):
        assert said(state, away, offset, T0, stray) == (f"{offset} rerouted",)
    assert (state.ledger, state.take_shards(away.partition)) == ({}, [])
    assert said(state, Journal(here, 3, RULES), 9, T0, event("a")) == ()
    # A range has no home: it stands in every partition.
    assert said(state, away, 10, T0, cancel_range(5, 6)) == ("10 cancelled",)


def test_what_can_be_accepted_nowhere_is_not_sent_anywhere() -> None:
    """Or a record that is too large to be sent again would stop the worker for good."""
    away = Journal((partition_of("a", 3) + 1) % 3, 3, RULES)
    assert said(PlainState(), away, 0, T0, event("a", customer="")) == (f"0 rejected {checks.NO_CUSTOMER}",)
    assert said(PlainState(), away, 0, T0, cancel("a", by="")) == (f"0 rejected {checks.INVALID_ADJUSTMENT}",)


def test_a_disposition_repeats_no_more_than_the_beginning_of_an_overlong_text() -> None:
    long = "x" * 1_000_000
    for bad in (
        event(long, event_name=long, customer=long),
        cancel(long, by=long, event_name=long),
        cancel_range(0, 1, adjustment_id=long, event_name=long),
    ):
        (decided,) = step(PlainState(), ALONE, Record(0, T0, bad))
        assert decided.disposition == outcomes.REJECTED
        texts = [text for text in decided if isinstance(text, str)]
        assert long[:200] in texts
        assert max(map(len, texts)) == 200


def test_what_a_disposition_tells() -> None:
    state = PlainState()
    step(state, ALONE, Record(3, T0, event("a", 5)))
    (repeat,) = step(state, ALONE, Record(4, T0 + 1, event("a", 6, dimensions=(("k", "v"),))))
    assert (repeat.first_offset, repeat.identifier, repeat.event_name, repeat.customer) == (3, "a", "calls", "c")
    assert (repeat.value, repeat.timestamp_ms, repeat.appended_at_ms, repeat.livemode) == (6, T0, T0 + 1, True)
    own, taken = step(state, ALONE, Record(5, T0 + 2, cancel("a", by="x")))
    assert (own.record, own.adjustment_id, own.events_cancelled) == ("cancellation", "x", 1)
    assert (taken.record, taken.adjustment_id, taken.value, taken.appended_at_ms) == ("event", "x", 5, T0)
    assert step(state, ALONE, Record(6, T0 + 2, cancel("b", by="y")))[0].events_cancelled == 0
    arrived, waited = step(state, ALONE, Record(7, T0 + 2, event("b")))
    assert (arrived.adjustment_id, waited.adjustment_id, waited.events_cancelled) == ("y", "y", 1)
    step(state, ALONE, Record(8, T0 + 3, event("c", customer="d")))
    own, taken = step(state, ALONE, Record(9, T0 + 3, cancel_range(0, 1, by="z", customer="d")))
    assert (own.record, own.adjustment_id, own.events_cancelled, own.customer) == ("range_cancellation", "z", 1, "d")
    assert (taken.offset, taken.adjustment_id) == (8, "z")


def test_a_value_that_no_decimal_holds_is_not_repeated() -> None:
    """The disposition's schema has no room for it; the dead digits stay in the journal."""
    (decided,) = step(PlainState(), ALONE, Record(0, T0, event(value=VALUE_BOUND)))
    assert decided.value is None


TALLY = TallyKey(True, "calls", "c", T0, ())
#         identifier, value, timestamp, appended
ENTRIES = (("a", 5, 30, 0), ("b", -2, 10, 0), ("c", 9, 30, 1), ("d", 9, 20, 2))


@pytest.mark.parametrize(
    ("taken", "low", "high", "last", "latest"),
    [
        ("", -2, 9, "c", "d"),
        ("b", 5, 9, "c", "d"),  # the min
        ("c", -2, 9, "a", "d"),  # one of two equal maxima, and the last
        ("cd", -2, 5, "a", "b"),  # the max and the latest
        ("ac", -2, 9, "d", "d"),
        ("acd", -2, -2, "b", "b"),
        ("d", -2, 9, "c", "c"),
    ],
)
def test_a_summary_of_what_is_left(taken: str, low: int, high: int, last: str, latest: str) -> None:
    """Whichever of min, max, last and latest is taken back is found anew; ties of `last` fall to the later append."""
    state = PlainState()
    for offset, (name, value, at, appended) in enumerate(ENTRIES):
        step(state, ALONE, Record(offset, T0 + appended, event(name, value, at)))
    for offset, name in enumerate(taken, len(ENTRIES)):
        step(state, ALONE, Record(offset, T0 + 3, cancel(name, by=name)))
    left = {name: (offset, value, at, appended) for offset, (name, value, at, appended) in enumerate(ENTRIES)}
    for name in taken:
        del left[name]
    last_offset, last_value, last_at, last_appended = left[last]
    latest_offset, latest_value, _, latest_appended = left[latest]
    assert state.take_shards(7) == [
        SummaryShard(
            TALLY,
            7,
            len(ENTRIES) - 1 + len(taken),
            len(left),
            sum(value for _, value, _, _ in left.values()),
            low,
            high,
            Last(T0 + last_at, T0 + last_appended, last_offset, last_value),
            Latest(T0 + latest_appended, latest_offset, latest_value),
        )
    ]


def test_when_everything_is_taken_back_the_shard_says_so() -> None:
    state = PlainState()
    step(state, ALONE, Record(0, T0, event("a", 5)))
    step(state, ALONE, Record(1, T0, cancel("a")))
    assert state.take_shards(0) == [SummaryShard(TALLY, 0, 1, 0, 0, None, None, None, None)]


def test_windows_are_minutes_and_half_open() -> None:
    state = PlainState()
    for offset, at in enumerate([-1, 0, MINUTE_MS - 1, MINUTE_MS]):
        step(state, ALONE, Record(offset, T0, event(str(at), 1, at)))
    assert {shard.key.window_start_ms - T0: shard.count for shard in state.take_shards(0)} == {
        -MINUTE_MS: 1,
        0: 2,
        MINUTE_MS: 1,
    }


def test_only_what_changed_is_published_again() -> None:
    state = PlainState()
    step(state, ALONE, Record(0, T0, event("a")))
    step(state, ALONE, Record(1, T0, event("b", customer="d")))
    assert [(shard.key.customer, shard.version) for shard in state.take_shards(0)] == [("c", 0), ("d", 1)]
    step(state, ALONE, Record(2, T0, event("a")))
    step(state, ALONE, Record(3, T0, cancel("b")))
    step(state, ALONE, Record(4, T0, cancel("b", by="y")))
    assert [(shard.key.customer, shard.version) for shard in state.take_shards(0)] == [("d", 3)]
