"""A tally as it is held in memory, and the way between its key in the store and its key in the domain."""

from __future__ import annotations

from pipeline.codec.dimensions import dimensions_bytes, dimensions_of
from pipeline.domain.events import TallyKey
from pipeline.domain.tally import Tally
from pipeline.worker import layout


class Cell:
    """A tally in memory, with its newest entries packed and the full pages that have not been written yet.

    Its numbers are packed as the store has them until somebody has to compute with them: most tallies are made in one
    batch, written, and never touched again. This is the hot loop.
    """

    __slots__ = ("cut", "dirty", "packed", "pages", "stale", "tail", "tally")

    def __init__(self, packed: bytes = b"", tail: bytes = b"") -> None:
        self.packed = packed
        """``layout.pack_tally``, or empty for a new tally; out of date once ``tally`` is there."""
        self.cut = packed
        """``packed`` as it was cut last, which is what the partition's digest knows of it."""
        self.tally: Tally | None = None
        self.tail = tail
        self.pages: list[tuple[int, bytes]] = []
        self.dirty = False
        self.stale = False
        """Whether min, max, last and latest must be found anew before anyone reads them."""

    def numbers(self) -> Tally:
        """The tally, to compute with."""
        if self.tally is None:
            self.tally = layout.unpack_tally(self.packed) if self.packed else Tally()
        return self.tally

    def append(self, packed: bytes) -> None:
        """Add packed entries in offset order."""
        tail = self.tail + packed
        while len(tail) >= layout.ENTRY_PAGE_BYTES:
            page, tail = tail[: layout.ENTRY_PAGE_BYTES], tail[layout.ENTRY_PAGE_BYTES :]
            self.pages.append((int.from_bytes(page[:8], "big"), page))
        self.tail = tail


ChangedTally = tuple[bytes, bytes]
"""(store key, ``layout.pack_tally``) as it was when it was cut: later folding does not touch these bytes."""


def store_key(key: TallyKey) -> bytes:
    return layout.store_tally_key(
        key.livemode, key.event_name, key.customer, key.window_start_ms, dimensions_bytes(key.dimensions)
    )


def domain_key(key: bytes) -> TallyKey:
    """The tally key of a store key."""
    livemode, event_name, customer, window_start_ms, dimensions = layout.tally_key_parts(key)
    return TallyKey(livemode, event_name, customer, window_start_ms, dimensions_of(dimensions))
