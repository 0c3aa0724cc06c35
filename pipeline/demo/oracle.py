"""The answer by a plain computation from the file, and the comparison with what ClickHouse says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.demo.flights import Flight

Cell = tuple[str, int]
"""(carrier, month 1 to 12)"""


class Figures(NamedTuple):
    """One cell of the table: how many flights departed, and their miles in units of 10^-12."""

    flights: int
    miles: int


class Difference(NamedTuple):
    cell: Cell
    expected: Figures
    found: Figures


NOTHING = Figures(0, 0)


def expected_table(all_flights: Iterable[Flight]) -> dict[Cell, Figures]:
    """The departed flights per carrier and month, added up with nothing but a dictionary and integers."""
    table: dict[Cell, Figures] = {}
    for flight in all_flights:
        if flight.departed:
            cell = (flight.event.customer, flight.month)
            before = table.get(cell, NOTHING)
            table[cell] = Figures(before.flights + 1, before.miles + flight.event.value)
    return table


def differences(expected: dict[Cell, Figures], found: dict[Cell, Figures]) -> list[Difference]:
    """The cells that are not equal digit for digit; a cell that one side lacks stands for nothing."""
    cells = sorted(expected.keys() | found.keys())
    pairs = ((cell, expected.get(cell, NOTHING), found.get(cell, NOTHING)) for cell in cells)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
