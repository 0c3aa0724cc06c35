"""A tally: adding is a merge that does not care about order, taking back is subtraction or a look at what is left."""

from __future__ import annotations

import itertools

import pytest

from pipeline.domain.events import Last, Latest, MeterEvent, SummaryShard, TallyKey
from pipeline.domain.limits import MINUTE_MS, VALUE_BOUND
from pipeline.domain.tally import Entry, Tally, tally_key

KEY = TallyKey(True, "calls", "c", 0, ())
#            offset, appended_at_ms, timestamp_ms, value
FIRST: Entry = (10, 100, 70, 5)
SECOND: Entry = (11, 100, 70, -3)
THIRD: Entry = (12, 101, 60, 9)


def tally_of(*entries: Entry) -> Tally:
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    return tally


def test_an_empty_tally_says_nothing_but_nought() -> None:
    assert Tally().shard(KEY, 3) == SummaryShard(KEY, 3, -1, 0, 0, None, None, None, None)


def test_one_event_is_all_of_it() -> None:
    assert tally_of(FIRST).shard(KEY, 3) == SummaryShard(
        KEY, 3, 10, 1, 5, 5, 5, Last(70, 100, 10, 5), Latest(100, 10, 5)
    )


def test_order_does_not_matter() -> None:
    expected = Tally(12, 3, 11, -3, 9, Last(70, 100, 11, -3), Latest(101, 12, 9))
    for entries in itertools.permutations([FIRST, SECOND, THIRD]):
        assert tally_of(*entries) == expected


def test_sums_are_exact_beyond_any_machine_word() -> None:
    tally = tally_of(*((offset, 0, 0, VALUE_BOUND - 1) for offset in range(1000)))
    assert tally.sum == 1000 * VALUE_BOUND - 1000


@pytest.mark.parametrize(
    ("taken", "must_look"),
    [
        (FIRST, False),  # neither extreme, last nor latest
        (SECOND, True),  # the min, and the last
        (THIRD, True),  # the max, and the latest
    ],
)
def test_taking_back_says_whether_the_entries_must_be_looked_at(taken: Entry, must_look: bool) -> None:
    tally = tally_of(FIRST, SECOND, THIRD)
    assert tally.remove(taken, 20) is must_look
    left = [entry for entry in (FIRST, SECOND, THIRD) if entry is not taken]
    if must_look:
        tally.recompute(left)
    expected = tally_of(*left)
    expected.version = 20
    assert tally == expected


def test_an_equal_extreme_that_stays_is_found_again() -> None:
    twin: Entry = (13, 102, 50, 9)
    tally = tally_of(FIRST, THIRD, twin)
    assert tally.remove(THIRD, 20)
    tally.recompute([FIRST, twin])
    assert (tally.max, tally.latest) == (9, Latest(102, 13, 9))


def test_entries_that_do_not_add_up_stop_everything() -> None:
    tally = tally_of(FIRST, SECOND)
    tally.remove(SECOND, 20)
    with pytest.raises(AssertionError, match="do not add up"):
        tally.recompute([FIRST, SECOND])


def test_nothing_can_be_taken_out_of_nothing() -> None:
    with pytest.raises(AssertionError, match="cannot be taken back"):
        Tally().remove(FIRST, 20)


@pytest.mark.parametrize(
    ("timestamp_ms", "window_start_ms"),
    [(0, 0), (MINUTE_MS - 1, 0), (MINUTE_MS, MINUTE_MS), (-1, -MINUTE_MS), (-MINUTE_MS, -MINUTE_MS)],
)
def test_a_minute_is_half_open_also_before_1970(timestamp_ms: int, window_start_ms: int) -> None:
    event = MeterEvent("a", "calls", "c", 1, timestamp_ms, (("k", "v"),), False)
    assert tally_key(event) == TallyKey(False, "calls", "c", window_start_ms, (("k", "v"),))
