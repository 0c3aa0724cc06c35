"""The checker names whatever is wrong: each planted fault is called what it is, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.local.program import Program
from tests.chaos import ledger
from tests.chaos.checker import (
    ABORTED,
    ALTERED,
    DIGITS,
    DUPLICATE,
    LOST,
    PHANTOM,
    REVIVED,
    UNSEEN,
    WRONGED,
    Appended,
    Evidence,
    Sum,
    Window,
    check,
)
from tests.chaos.drawing import Line, Mark, histogram, lanes, lines, page, percentile
from tests.chaos.kept import Keeper
from tests.chaos.ledger import FAIL, INFO, OK, Book, Identity, Ledger, One, Range, Usage
from tests.workers import until

MINUTE_MS = 60_000


def usage(identifier: str, units: int = 1, timestamp_ms: int = 0) -> Usage:
    return Usage(Identity(True, "calls", identifier), "cus", units, timestamp_ms)


A, B, C = usage("a", 5), usage("b", 7, MINUTE_MS), usage("c", 11)
R, UNKNOWN, REFUSED = usage("r", 13, 5), usage("unknown", 17), usage("refused", 19)
RANGE = Range(True, "calls", "cus", 5, 6)


def sound() -> Evidence:
    """a counts, with a copy; b counts; c is taken back; so is r, by a range; unknown got in; refused did not."""
    statuses = {A: OK, B: OK, C: OK, R: OK, UNKNOWN: INFO, REFUSED: FAIL}
    events = {one.identity: (status, one) for one, status in statuses.items()}
    journal = [Appended(0, offset, 10 + offset, one) for offset, one in enumerate((A, C, A, R, B, UNKNOWN))]
    return Evidence(
        Book(events, {One(C.identity): OK, RANGE: OK}, Counter()),
        journal,
        [(One(C.identity), 100), (RANGE, 100)],
        {(0, 1): "cancelled", (0, 2): "duplicate", (0, 3): "cancelled"},
        {(0, offset) for offset in range(6)},
        {Window(True, "calls", "cus", 0): Sum(2, 22), Window(True, "calls", "cus", MINUTE_MS): Sum(1, 7)},
    )


def test_who_ends_by_itself_surprises_and_who_is_killed_does_not(tmp_path: Path) -> None:
    """Either is started again."""
    argv = {"crashes": "echo why; exit 3", "leaves": "exit 0", "stays": "sleep 60"}
    with Keeper() as keeper:
        for name, code in argv.items():
            keeper.keep(name, [Program(name, ("sh", "-c", code), tmp_path / name, {}, lambda: True)])
        (stays,) = keeper.of("stays")
        stays.kill()
        until(lambda: all(one.starts > 1 for one in keeper.all), "all are started again")
        keeper.rest()
        surprises = {(one.name, one.code, one.said.strip().partition("\n")[0]) for one in keeper.surprises}
    assert surprises == {("crashes", 3, "why"), ("leaves", 0, "(empty)")}


def test_what_is_sound_has_no_anomalies() -> None:
    assert check(sound()) == []


def without(book: Book, one: Usage) -> Book:
    return book._replace(events={key: entry for key, entry in book.events.items() if key != one.identity})


PLANTED = {
    "a record that was acknowledged is gone": (
        lambda it: {"journal": [one for one in it.journal if one.usage != B]},
        {LOST},
    ),
    "a record that was refused is there": (
        lambda it: {"journal": [*it.journal, Appended(0, 6, 20, REFUSED)], "logged": it.logged | {(0, 6)}},
        {ABORTED, DIGITS},
    ),
    "the ledger does not know a record": (lambda it: {"book": without(it.book, A)}, {PHANTOM, DIGITS}),
    "a record has another value": (
        lambda it: {"journal": [one._replace(usage=usage("a", 6)) if one.usage == A else one for one in it.journal]},
        {ALTERED},
    ),
    "a copy counts": (lambda it: {"decided": {(0, 1): "cancelled", (0, 3): "cancelled"}}, {DUPLICATE}),
    "an event was thrown away": (lambda it: {"decided": {**it.decided, (0, 4): "rejected"}}, {LOST}),
    "a summary is one unit too high": (
        lambda it: {"summaries": {**it.summaries, Window(True, "calls", "cus", 0): Sum(2, 23)}},
        {DIGITS},
    ),
    "a summary is missing": (
        lambda it: {"summaries": {Window(True, "calls", "cus", 0): Sum(2, 22)}},
        {DIGITS},
    ),
    "an event counts although it was taken back": (
        lambda it: {"decided": {(0, 2): "duplicate", (0, 3): "cancelled"}},
        {REVIVED},
    ),
    "an event was taken back though nobody asked": (
        lambda it: {"decided": {**it.decided, (0, 4): "cancelled"}},
        {WRONGED},
    ),
    "a range reaches what was appended after it": (
        lambda it: {"requests": [(One(C.identity), 100), (RANGE, 12)]},
        {WRONGED, DIGITS},
    ),
    "a reader does not see a record": (lambda it: {"logged": it.logged - {(0, 2)}}, {UNSEEN}),
    "a request to take back is gone": (lambda it: {"requests": [(RANGE, 100)]}, {LOST, WRONGED, DIGITS}),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_called_by_its_name(name: str) -> None:
    change, kinds = PLANTED[name]
    found = check(dataclasses.replace(sound(), **change(sound())))
    assert {one.kind for one in found} == kinds, found


def test_the_surest_word_on_a_record_stands(tmp_path: Path) -> None:
    path = tmp_path / "ledger.tsv"
    with Ledger(path) as book:
        book.events(INFO, [A, B])
        book.events(FAIL, [C])
        book.events(OK, [A])
        book.events(OK, [A._replace(units=99)])
        book.events(FAIL, [B])
        book.adjustment(FAIL, RANGE)
        book.adjustment(OK, One(C.identity))
        book.adjustment(INFO, One(C.identity))
    found = ledger.read(path)
    assert found.events == {A.identity: (OK, A), B.identity: (INFO, B), C.identity: (FAIL, C)}
    assert found.adjustments == {RANGE: FAIL, One(C.identity): OK}
    assert found.attempts == {OK: 2, INFO: 2, FAIL: 2}


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(one) for one in range(1, 101)]
    assert [percentile(values, share) for share in (50, 99, 100)] == [50, 99, 100]
    assert percentile([3.0], 50) == 3
    assert percentile([], 99) == 0


def test_a_picture_holds_what_it_is_given() -> None:
    marks = [("worker", [Mark(1, 5, "kill <worker>", strong=True)])]
    drawn = page(
        [lines("load", [Line("a", [(0, 1), (9, 2)])], 10), lanes("faults", marks, 10), histogram("x", [1, 2], 0)], "t"
    )
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert "kill &lt;worker&gt;" in drawn
    assert "x: 2, p50 1.0 s, p99 2.0 s" in drawn
