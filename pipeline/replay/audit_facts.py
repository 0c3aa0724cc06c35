"""The state of the audit's own fold, made for millions of records: what the specification (domain/state.py) keeps in a
dozen objects for each event is one plain tuple here, a *fact*, that the ledger and its tally share.

A *series* is what events have in common: mode, event name, customer and dimensions. A *cell* is a series' minute: its
facts, and what they come to. Facts that are fresh in a cell have not been added up yet; whoever asks adds them up.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter

from pipeline.codec import digests
from pipeline.domain.events import CancellationRange, Dimensions, Identity, Last, Latest, MeterEvent, TallyKey
from pipeline.domain.ledger import Awaited, Counted, Remembered
from pipeline.domain.limits import MINUTE_MS, FoldRules
from pipeline.domain.state import Books, tally_is_garbage
from pipeline.domain.tally import Entry, Tally, merge_tally

Fact = tuple[int, int, int, int, int, bytes, "Series"]
"""Of an event that counts: (timestamp_ms, appended_at_ms, offset, value, clock_ms, identifier, series).

A plain tuple: this is the hot loop.
"""

Known = Fact | Counted | Awaited
"""What the ledger has of an identity: a fact when it counts, else as the specification has it."""

Ledger = dict[bytes, Known]
"""By identifier, in UTF-8."""

_order_of_arrival = itemgetter(1, 2, 3)


class Series:
    """All minutes of one customer's usage under one event name and set of dimensions."""

    __slots__ = ("cells", "customer", "dimensions", "event_name", "ledger", "livemode")

    def __init__(self, livemode: bool, event_name: str, customer: str, dimensions: Dimensions, ledger: Ledger) -> None:
        self.livemode = livemode
        self.event_name = event_name
        self.customer = customer
        self.dimensions = dimensions
        self.ledger = ledger
        """Of the mode and the event name: it is shared."""
        self.cells: dict[int, Cell] = {}
        """By the start of the minute."""

    def event(self, fact: Fact) -> MeterEvent:
        return MeterEvent(
            fact[5].decode(), self.event_name, self.customer, fact[3], fact[0], self.dimensions, self.livemode
        )

    def key(self, window_start_ms: int) -> TallyKey:
        return TallyKey(self.livemode, self.event_name, self.customer, window_start_ms, self.dimensions)


class Cell:
    """One minute of a series."""

    __slots__ = ("facts", "fresh", "packed_key", "tally", "window_start_ms")

    def __init__(self, series: Series, window_start_ms: int) -> None:
        self.window_start_ms = window_start_ms
        self.packed_key = digests.key_bytes(series.key(window_start_ms))
        self.tally = Tally()
        self.facts: dict[int, Fact] = {}
        """By offset, of those that count and can still be taken back."""
        self.fresh: list[Fact] = []
        """Those that neither ``tally`` nor ``facts`` has yet."""


class AuditState(Books):
    """The ``State`` of domain/fold.py."""

    def __init__(self) -> None:
        super().__init__()
        self.ledgers: defaultdict[tuple[bool, str], Ledger] = defaultdict(dict)
        """By (livemode, event name)."""
        self.series: dict[tuple[bool, str, str, Dimensions], Series] = {}
        self.touched: set[Cell] = set()
        self.count = self.sum = 0
        """Of all tallies, kept as they change."""
        self._oldest: list[tuple[int, Identity]] = []
        self._newest: Fact | None = None

    def find(self, identity: Identity) -> Remembered | None:
        known = self._ledger(identity).get(identity.identifier.encode())
        return known if known is None or isinstance(known, Counted | Awaited) else as_counted(known)

    def remember(self, identity: Identity, remembered: Remembered) -> None:
        identifier = identity.identifier.encode()
        known: Known = remembered
        if isinstance(remembered, Awaited):
            heapq.heappush(self._oldest, (remembered.waiting[0].clock_ms, identity))
        elif remembered.cancelled_by is None:
            event = remembered.event
            series = self.series_of(event)
            offset, appended_at_ms, timestamp_ms, value = remembered.entry
            known = (timestamp_ms, appended_at_ms, offset, value, remembered.clock_ms, identifier, series)
            self._newest = known
        self._ledger(identity)[identifier] = known

    def forget(self, identity: Identity) -> None:
        del self._ledger(identity)[identity.identifier.encode()]

    def _ledger(self, identity: Identity) -> Ledger:
        return self.ledgers[identity.livemode, identity.event_name]

    def series_of(self, event: MeterEvent) -> Series:
        """The series that an acceptable event belongs to."""
        names = (event.livemode, event.event_name, event.customer, event.dimensions)
        if names not in self.series:
            self.series[names] = Series(*names, self.ledgers[event.livemode, event.event_name])
        return self.series[names]

    def expired(self, before_ms: int) -> list[tuple[Identity, Awaited]]:
        found: dict[Identity, Awaited] = {}
        while self._oldest and self._oldest[0][0] < before_ms:
            clock_ms, identity = heapq.heappop(self._oldest)
            awaited = self.find(identity)
            if isinstance(awaited, Awaited) and awaited.waiting[0].clock_ms == clock_ms:  # else its event came
                found[identity] = awaited
        return list(found.items())

    def awaited(self) -> set[tuple[bytes, tuple[bool, str]]]:
        """(identifier, (livemode, event name)) of every event that a cancellation waits for."""
        names = {identity for _, identity in self._oldest if isinstance(self.find(identity), Awaited)}
        return {(one.identifier.encode(), (one.livemode, one.event_name)) for one in names}

    def awaits_since_ms(self) -> int | None:
        """The oldest clock at which a cancellation may have begun to wait."""
        return self._oldest[0][0] if self._oldest else None

    def matching(
        self, livemode: bool, event_name: str, wanted: CancellationRange
    ) -> Iterator[tuple[Identity, Counted]]:
        for series in self.series.values():
            if (series.livemode, series.event_name) != (livemode, event_name):
                continue
            if wanted.customer not in (None, series.customer):
                continue
            for cell in series.cells.values():
                if cell.window_start_ms + MINUTE_MS <= wanted.start_ms or cell.window_start_ms >= wanted.end_ms:
                    continue
                self.add_up(cell)
                for fact in cell.facts.values():
                    if wanted.start_ms <= fact[0] < wanted.end_ms:
                        counted = as_counted(fact)  # one that was counted again since is too old for any range
                        yield counted.event.identity, counted

    def add(self, key: TallyKey, entry: Entry) -> None:
        fact = self._newest  # an event is remembered just before it is added
        assert fact is not None
        assert fact[2] == entry[0]
        cell = self.cell_of(fact[6], key.window_start_ms)
        cell.fresh.append(fact)
        self.touched.add(cell)

    def remove(self, key: TallyKey, entry: Entry, at_offset: int) -> None:
        cell = self.series[key.livemode, key.event_name, key.customer, key.dimensions].cells[key.window_start_ms]
        self.add_up(cell)
        del cell.facts[entry[0]]
        if cell.tally.remove(entry, at_offset):
            cell.tally.recompute(map(entry_of, cell.facts.values()))
        self.count -= 1
        self.sum -= entry[3]
        self.touched.add(cell)

    @staticmethod
    def cell_of(series: Series, window_start_ms: int) -> Cell:
        cell = series.cells.get(window_start_ms)
        if cell is None:
            cell = series.cells[window_start_ms] = Cell(series, window_start_ms)
        return cell

    def add_up(self, cell: Cell) -> None:
        """Take what is fresh into the cell's tally."""
        fresh = cell.fresh
        if not fresh:
            return
        values = [fact[3] for fact in fresh]
        offsets = [fact[2] for fact in fresh]
        last = max(fresh)  # by timestamp, then appended_at, then offset: no two have the same
        latest = max(fresh, key=_order_of_arrival)
        both = Tally(
            offsets[-1],
            len(fresh),
            sum(values),
            min(values),
            max(values),
            Last(*last[:4]),
            Latest(*_order_of_arrival(latest)),
        )
        self.count += both.count
        self.sum += both.sum
        merge_tally(cell.tally, both)
        cell.facts.update(zip(offsets, fresh, strict=True))
        cell.fresh = []

    def cells(self) -> Iterator[Cell]:
        """All of them, with nothing fresh."""
        for series in self.series.values():
            for cell in series.cells.values():
                self.add_up(cell)
                yield cell

    def drop_identities(self, rules: FoldRules) -> None:
        """Forget what no rule can reach any more, but for the tallies: those stand wherever they were published."""
        oldest_ms = self.clock_ms - rules.dedup_window_ms
        for ledger in self.ledgers.values():
            for identifier in [one for one, known in ledger.items() if counted_ms(known, oldest_ms) < oldest_ms]:
                del ledger[identifier]
        for cell in self.cells():
            if cell.facts and tally_is_garbage(cell.window_start_ms, self.clock_ms, rules):
                cell.facts.clear()
        self.drop_ranges(rules)


def as_counted(fact: Fact) -> Counted:
    """A fact as the specification has it."""
    return Counted(fact[6].event(fact), fact[2], fact[1], fact[4], None)


def entry_of(fact: Fact) -> Entry:
    """A fact as it stands in its tally."""
    return fact[2], fact[1], fact[0], fact[3]


def counted_ms(known: Known, awaited_ms: int) -> int:
    """The clock at which this was counted; ``awaited_ms`` for what never was."""
    if isinstance(known, Awaited):
        return awaited_ms
    return known.clock_ms if isinstance(known, Counted) else known[4]
