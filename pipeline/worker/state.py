"""The fold's state over a partition's store: what changed since the last write in memory, the rest in RocksDB.

Memory has two layers. ``cut`` takes what changed so far, ready to be published and written; while that goes on the
fold continues on top of it. ``wrote`` says that the store now holds the cut. Reads look at what changed last, then at
the cut, then at the store.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.domain.events import CancellationRange, Identity, MeterEvent, TallyKey
from pipeline.domain.ledger import Awaited, Counted, Remembered
from pipeline.domain.tally import Entry
from pipeline.worker import layout
from pipeline.worker.cell import Cell, ChangedTally, store_key
from pipeline.worker.edges import OrderedStore
from pipeline.worker.ranges import matching

Decode = Callable[[bytes], MeterEvent]

CACHED_TALLIES_MAX = 5_000
"""Of each partition, where they have not changed since they were written: about 1.5 KB each, with newest entries."""


class Cut(NamedTuple):
    """What changed since the last cut."""

    writes: tuple[dict[bytes, bytes | None], ...]
    tallies: list[ChangedTally]
    earlier: list[ChangedTally]
    """Those of them that were cut before, as they were then."""


class StoredState:
    """``pipeline.domain.fold.State`` over a store. ``decode`` reads the body of an event that was decoded before."""

    def __init__(self, store: OrderedStore, decode: Decode) -> None:
        self.clock_ms = 0
        self.accounts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.bodies: dict[int, bytes] = {}
        self.ledger: dict[bytes, bytes | None] = {}
        self.cells: dict[bytes, Cell] = {}
        self.dirty: list[bytes] = []
        self._store = store
        self.decode = decode
        self._small: dict[bytes, bytes | None] = {}
        self._cutting: dict[bytes, bytes | None] = {}
        self._cutting_ledger: dict[bytes, bytes | None] = {}
        self._cutting_bodies: dict[int, bytes] = {}
        self._awaited: dict[bytes, int] = {}
        self._oldest: list[tuple[int, bytes]] = []
        for marker, _ in store.scan(layout.AWAITING):
            packed = store.get(marker[1:])
            assert packed is not None, "a marker without its ledger entry"
            self._await(marker[1:], layout.unpack_awaited(packed))

    # The ledger.

    def ledger_value(self, key: bytes) -> bytes | None:
        """The packed entry of a ledger key, wherever it is."""
        if key in self.ledger:
            return self.ledger[key]
        if key in self._cutting_ledger:
            return self._cutting_ledger[key]
        return self._store.get(key)

    def ledger_values(self, keys: list[bytes]) -> list[bytes | None]:
        """The packed entries of many ledger keys."""
        found = self._store.get_many(keys)
        for layer in (self._cutting_ledger, self.ledger):
            if layer:
                for place, key in enumerate(keys):
                    if key in layer:
                        found[place] = layer[key]
        return found

    def find(self, identity: Identity) -> Remembered | None:
        packed = self.ledger_value(layout.ledger_key(identity))
        if packed is None:
            return None
        if packed[0] == layout.AWAITED:
            return layout.unpack_awaited(packed)
        return self._counted(packed)

    def _counted(self, packed: bytes) -> Counted:
        offset, appended_at_ms, clock_ms, cancelled_by = layout.unpack_counted(packed)
        return Counted(self.decode(self.body(offset)), offset, appended_at_ms, clock_ms, cancelled_by)

    def body(self, offset: int) -> bytes:
        """The bytes of a remembered event, as they came."""
        body = self.bodies.get(offset) or self._cutting_bodies.get(offset)
        if body is None:
            page = self._store.get(layout.bodies_key(offset))
            assert page is not None, f"the body of offset {offset} is gone"
            body = layout.body_in(page, offset)
        return body

    def remember(self, identity: Identity, remembered: Remembered) -> None:
        key = layout.ledger_key(identity)
        if isinstance(remembered, Awaited):
            self.ledger[key] = layout.pack_awaited(remembered)
            self._await(key, remembered)
        else:
            self._await_no_more(key)
            self.ledger[key] = layout.pack_counted(
                remembered.offset, remembered.appended_at_ms, remembered.clock_ms, remembered.cancelled_by
            )

    def forget(self, identity: Identity) -> None:
        key = layout.ledger_key(identity)
        self.ledger[key] = None
        self._await_no_more(key)

    def _await(self, key: bytes, awaited: Awaited) -> None:
        clock_ms = awaited.waiting[0].clock_ms
        if self._awaited.get(key) != clock_ms:
            self._awaited[key] = clock_ms
            self._small[layout.AWAITING + key] = b""
            heapq.heappush(self._oldest, (clock_ms, key))

    def _await_no_more(self, key: bytes) -> None:
        if self._awaited.pop(key, None) is not None:
            self._small[layout.AWAITING + key] = None

    @property
    def oldest_awaited_ms(self) -> int | None:
        """The clock of the oldest cancellation that waits, or None."""
        while self._oldest and self._awaited.get(self._oldest[0][1]) != self._oldest[0][0]:
            heapq.heappop(self._oldest)  # its event came meanwhile
        return self._oldest[0][0] if self._oldest else None

    def awaited_before(self, before_ms: int) -> list[int]:
        """The clocks of all cancellations that wait since before ``before_ms``."""
        oldest_ms = self.oldest_awaited_ms
        if oldest_ms is None or oldest_ms >= before_ms:
            return []
        waiting = (layout.unpack_awaited(self.ledger_value(key) or b"").waiting for key in self._awaited)
        return [one.clock_ms for ones in waiting for one in ones if one.clock_ms < before_ms]

    def expired(self, before_ms: int) -> list[tuple[Identity, Awaited]]:
        found = []
        while (oldest_ms := self.oldest_awaited_ms) is not None and oldest_ms < before_ms:
            _, key = heapq.heappop(self._oldest)
            self._await_no_more(key)  # the fold remembers it anew or forgets it
            packed = self.ledger_value(key)
            assert packed is not None
            found.append((layout.identity_of(key), layout.unpack_awaited(packed)))
        return found

    def matching(
        self, livemode: bool, event_name: str, wanted: CancellationRange
    ) -> Iterator[tuple[Identity, Counted]]:
        return matching(self, livemode, event_name, wanted)

    # Tallies.

    def cell(self, key: bytes) -> Cell:
        """The tally of a store key, from memory or the store, or a new one."""
        cell = self.cells.get(key)
        if cell is None:
            packed = self._store.get(key)
            cell = self.loaded(key, packed)
        return cell

    def stored(self, keys: list[bytes]) -> list[bytes | None]:
        """Tallies as the store has them."""
        return self._store.get_many(keys)

    def loaded(self, key: bytes, packed: bytes | None) -> Cell:
        """Put a tally as it was read from the store into memory."""
        cell = Cell() if packed is None else Cell(packed[: layout.TALLY_BYTES], packed[layout.TALLY_BYTES :])
        self.cells[key] = cell
        return cell

    def touch(self, key: bytes, cell: Cell) -> None:
        if not cell.dirty:
            cell.dirty = True
            self.dirty.append(key)

    def add(self, key: TallyKey, entry: Entry) -> None:
        stored = store_key(key)
        cell = self.cell(stored)
        cell.numbers().add(entry)
        cell.append(layout.pack_entry(entry))
        self.touch(stored, cell)

    def remove(self, key: TallyKey, entry: Entry, at_offset: int) -> None:
        stored = store_key(key)
        cell = self.cell(stored)
        cell.stale |= cell.numbers().remove(entry, at_offset)
        self._remove_entry(stored, cell, entry[0])
        self.touch(stored, cell)

    def _remove_entry(self, key: bytes, cell: Cell, offset: int) -> None:
        left = layout.without_entry(cell.tail, offset)
        if left is not None:
            cell.tail = left
            return
        for place, (first, page) in enumerate(cell.pages):
            left = layout.without_entry(page, offset)
            if left is not None:
                cell.pages[place] = (first, left)
                return
        for page_key, page in self._stored_pages(key):
            left = layout.without_entry(page, offset)
            if left is not None:
                self._small[page_key] = left
                return
        raise AssertionError(f"offset {offset} is not among the entries of its tally")

    def _stored_pages(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Full pages of a tally's older entries, in the newest form of each."""
        prefix = layout.INDEX + key[1:]
        pages: dict[bytes, bytes | None] = dict(self._store.scan(prefix))
        for layer in (self._cutting, self._small):
            pages |= {page_key: page for page_key, page in layer.items() if page_key.startswith(prefix)}
        for page_key, page in pages.items():
            assert page is not None, "pages are never deleted while their tally lives"
            yield page_key, page

    def _entries(self, key: bytes, cell: Cell) -> Iterator[Entry]:
        in_memory = len(cell.tail) + sum(len(page) for _, page in cell.pages)
        if cell.numbers().count * layout.ENTRY_BYTES != in_memory:  # else there are no others to look for
            for _, page in self._stored_pages(key):
                yield from layout.unpack_entries(page)
        for _, page in cell.pages:
            yield from layout.unpack_entries(page)
        yield from layout.unpack_entries(cell.tail)

    # Ranges and accounts.

    def range_applied_ms(self, adjustment_id: str) -> int | None:
        key = layout.RANGE + adjustment_id.encode()
        clock = next((layer[key] for layer in (self._small, self._cutting) if key in layer), None)
        if clock is None and key not in self._small:
            clock = self._store.get(key)
        return None if clock is None else int.from_bytes(clock, "big", signed=True)

    def apply_range(self, adjustment_id: str, clock_ms: int) -> None:
        self._small[layout.RANGE + adjustment_id.encode()] = clock_ms.to_bytes(8, "big", signed=True)

    def account(self, disposition: str, records: int, value: int) -> None:
        account = self.accounts[disposition]
        account[0] += records
        account[1] += value

    # Garbage: see garbage.py.

    def body_pages(self, start: int, pages_max: int) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
        """(first offset of the page, its bodies) of written pages from offset ``start`` on."""
        for (key, page), _ in zip(
            self._store.scan(layout.BODIES, layout.bodies_key(start)), range(pages_max), strict=False
        ):
            page_start = layout.page_start_of(key)
            yield page_start, list(layout.unpack_bodies(page_start, page))

    def is_dirty(self, key: bytes) -> bool:
        cell = self.cells.get(key)
        return cell is not None and cell.dirty

    def drop_bodies(self, page_start: int) -> None:
        self._small[layout.bodies_key(page_start)] = None

    def drop_tally(self, key: bytes) -> None:
        """Its last shard stays wherever it was published."""
        self.cells.pop(key, None)
        self._small[key] = None
        for page_key, _ in self._store.scan(layout.INDEX + key[1:]):
            self._small[page_key] = None

    def is_dropped(self, key: bytes) -> bool:
        """Whether a tally of the store is to go with the cut that comes, or with the one that is being written."""
        return next((layer[key] is None for layer in (self._small, self._cutting) if key in layer), False)

    def drop_ranges(self, before_ms: int) -> None:
        for key, clock in self._store.scan(layout.RANGE):
            if int.from_bytes(clock, "big", signed=True) < before_ms and key not in self._small:
                self._small[key] = None

    # Cuts.

    def cut(self) -> Cut:
        """Take all that changed. At most one cut at a time: the one before must have been written."""
        assert not self._cutting, "a cut while another is being written"
        writes: dict[bytes, bytes | None] = {}
        tallies, earlier = [], []
        for key in self.dirty:
            cell = self.cells[key]
            if cell.stale:
                cell.numbers().recompute(self._entries(key, cell))
                cell.stale = False
            if cell.tally is not None:
                cell.packed, cell.tally = layout.pack_tally(cell.tally), None
            packed = cell.packed
            if cell.cut:
                earlier.append((key, cell.cut))
            cell.cut = packed
            tallies.append((key, packed))
            writes[key] = packed + cell.tail
            if cell.pages:
                writes |= {layout.index_key(key, first): page for first, page in cell.pages}
                cell.pages = []
            cell.dirty = False
        writes |= self._small
        self.ledger, ledger = {}, self.ledger
        self.bodies, self._cutting_bodies = {}, self.bodies
        self._small, self.dirty = {}, []
        pages = self._body_pages()
        self._cutting, self._cutting_ledger = writes, ledger
        return Cut((ledger, writes, dict(pages)), tallies, earlier)

    def _body_pages(self) -> list[tuple[bytes, bytes | None]]:
        offsets = sorted(self._cutting_bodies)  # nearly in order already
        if not offsets:
            return []
        start = offsets[0] - offsets[0] % layout.BODIES_PER_PAGE
        before = self._store.get(layout.bodies_key(start))
        if before is not None:  # an earlier cut ended within this page
            earlier = dict(layout.unpack_bodies(start, before))
            self._cutting_bodies |= earlier
            offsets = [*earlier, *offsets]
        return layout.pack_bodies(offsets, [self._cutting_bodies[offset] for offset in offsets])

    def wrote(self) -> None:
        """The store holds the cut. Tallies that have not changed since may leave memory."""
        self._cutting, self._cutting_ledger, self._cutting_bodies = {}, {}, {}
        excess = len(self.cells) - CACHED_TALLIES_MAX
        if excess > 0:
            clean = (key for key, cell in self.cells.items() if not cell.dirty)
            for key in [key for _, key in zip(range(excess), clean, strict=False)]:
                del self.cells[key]
