"""The rules of the fold (DESIGN section 4), one row each: records in, what was decided about which record out.

Times and windows are those of tests/folds.py.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pipeline.domain import checks
from pipeline.domain.fold import Undecodable
from pipeline.domain.limits import MINUTE_MS
from pipeline.domain.state import PlainState
from tests.folds import AHEAD, ALONE, CANCEL, DEDUP, PAST, T0, Content, cancel, cancel_range, event, said

GARBAGE = Undecodable("no_value")


class At(NamedTuple):
    """One record: appended so many ms after T0; what it decides, as words "offset disposition [reason]"."""

    ms: int
    content: Content
    decided: tuple[str, ...] = ()
    """Without its own counted, which is not written."""


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
