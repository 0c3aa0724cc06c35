"""What the fold tells of a record, and what is left in a shard when some of its events are taken back."""

from __future__ import annotations

import pytest

from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.domain.fold import Record, step
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND
from pipeline.domain.state import PlainState
from tests.folds import ALONE, T0, cancel, cancel_range, event


def test_the_start_of_all_times_is_the_start_of_a_minute() -> None:
    assert T0 % MINUTE_MS == 0


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
