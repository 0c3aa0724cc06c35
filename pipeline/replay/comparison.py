"""Two generations of one journal beside each other, tally by tally, while both of them move.

A row carries the offset of the last record that changed it. Below a cut that the tables of both sides are known to
cover, a pair of rows is *settled*: each shows the state of its key exactly as of the cut, and they are equal or they
are not. A pair with a row beyond the cut has moved since; it is looked at again, with a later cut, until it has settled
once. Two rows of one version and one content agree at any time: they are the same function of the same prefix.

What is compared is what a reader can see: a tally with nothing in it is as good as none.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from pipeline.domain.generations import Generation
from pipeline.replay.beside import Beside, Key, Pair, Side
from pipeline.replay.coverage import LOOK_EVERY_S, Coverage, Cursors

SLICES_OF_ROWS = 2_000_000
"""Rows of both sides that one query groups at a time: what it holds in memory."""
SETTLED_WITHIN_S = 90.0
"""A tally that has not stood still for the length of a query by then is left out, and counted."""
LOOKS_PER_CUT = 8
"""A tally that moves all the time is soon met with the same version on both sides, if one looks often enough."""
QUICK_ROWS = 1_000_000
"""Of more, a look takes longer than to find a new cut."""
DIFFERENCES_KEPT = 10_000


class Difference(NamedTuple):
    """A tally that the generations have otherwise, as of a common offset of its partition."""

    key: Key
    before: Side
    after: Side


@dataclasses.dataclass(slots=True)
class Comparison:
    """What was found."""

    before: Generation
    after: Generation
    tallies: int = 0
    """Rows of the later generation, about."""
    differing: int = 0
    differences: list[Difference] = dataclasses.field(default_factory=list)
    """The first DIFFERENCES_KEPT."""
    moving: int = 0
    """Tallies that never stood still for long enough to be compared."""
    dispositions: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    """(before, after, how many records): what became of a journal record; empty where it was counted."""

    @property
    def equal(self) -> bool:
        return not self.differing and not self.dispositions

    @property
    def same_rules(self) -> bool:
        return self.before.fold == self.after.fold

    def by_usage(self) -> list[tuple[str, str, Side, Side, int]]:
        """(event_name, customer, before, after, tallies) of what differs, the largest difference first."""
        sums: dict[tuple[str, str], list[int]] = {}
        for key, before, after in self.differences:
            total = sums.setdefault((key.event_name, key.customer), [0] * 5)
            for place, number in enumerate((*before, *after, 1)):
                total[place] += number
        rows = [(*usage, Side(*total[:2]), Side(*total[2:4]), total[4]) for usage, total in sums.items()]
        return sorted(rows, key=lambda row: (-abs(row[3].total - row[2].total), row[:2]))


def compare(
    tables: AbstractContextManager[Beside],
    before: Generation,
    after: Generation,
    sides: Sequence[Coverage],
    meanwhile: Callable[[], None],
    told: Callable[[int], None],
) -> Comparison:
    """Compare until every tally has settled once. ``told`` hears how many are left.

    Raises Unavailable when a side makes no progress: it could then not be told how far its tables are.
    """
    found = Comparison(before, after)
    deadline = time.monotonic() + SETTLED_WITHIN_S
    left: set[Key] = set()
    with tables as beside:
        earlier, found.tallies = beside.rows()
        rows = earlier + found.tallies
        slices = 1 + rows // SLICES_OF_ROWS
        looks = LOOKS_PER_CUT if rows < QUICK_ROWS else 1
        cut: Cursors = {}
        for look in itertools.count():
            if look % looks == 0:
                cut = _cut(sides, meanwhile)
            moved: set[Key] = set()
            for row in beside.pairs(slices, meanwhile):
                if look == 0 or row.key in left:
                    _judge(row, cut, found, moved)
            left = moved
            told(len(left))
            if not left or time.monotonic() > deadline:
                break
            time.sleep(LOOK_EVERY_S)
        found.moving = len(left)
        found.dispositions = beside.dispositions(_cut(sides, meanwhile))
    return found


def _cut(sides: Sequence[Coverage], meanwhile: Callable[[], None]) -> Cursors:
    covered = [side.await_tables(meanwhile) for side in sides]
    return {number: min(cursors[number] for cursors in covered) for number in covered[0]}


def _judge(pair: Pair, cut: Cursors, found: Comparison, moved: set[Key]) -> None:
    end = cut.get(pair.key.shard)  # None: the journal has no such partition, so nothing there moves
    if end is not None and max(pair.versions) >= end and pair.versions[0] != pair.versions[1]:
        moved.add(pair.key)
    elif pair.differs:
        found.differing += 1
        if len(found.differences) < DIFFERENCES_KEPT:
            found.differences.append(Difference(pair.key, pair.before, pair.after))
