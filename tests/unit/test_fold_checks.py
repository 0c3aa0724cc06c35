"""What the fold refuses, at the borders and in which order; a record that belongs to another partition."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.domain import checks, outcomes
from pipeline.domain.fold import Journal, Record, step
from pipeline.domain.limits import VALUE_BOUND
from pipeline.domain.partitioning import partition_of
from pipeline.domain.state import PlainState
from tests.folds import ALONE, PAST, RULES, T0, cancel, cancel_range, event, said

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
