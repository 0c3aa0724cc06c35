"""Dropping what no rule can reach any more, so that a worker's state is bounded by its windows and not by history.

Two marks move along the partition's bodies, which lie in the order of the journal. Below the first one, identities
whose window has passed have left the ledger. Below the second, tallies that nothing can change any more have left,
and the bodies with them. Every rule of the fold compares times itself, so how far the marks are changes no answer.
"""

from __future__ import annotations

from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import FoldRules
from pipeline.domain.state import tally_is_garbage
from pipeline.domain.tally import tally_key
from pipeline.worker import layout
from pipeline.worker.cell import store_key
from pipeline.worker.state import StoredState


class Sweep:
    """The two marks, as offsets; both are part of what is written with the cursor."""

    def __init__(self, state: StoredState, rules: FoldRules, ledger_mark: int, tally_mark: int) -> None:
        self.ledger_mark = ledger_mark
        self.tally_mark = tally_mark
        self._state = state
        self._rules = rules
        self._ranges_swept_ms = 0

    def advance(self, pages_max: int, cursor: int) -> None:
        """Drop garbage of up to ``pages_max`` full pages of bodies below the written ``cursor``. Only between cuts."""
        for page_start, bodies in self._state.body_pages(self.ledger_mark, pages_max):
            if page_start + layout.BODIES_PER_PAGE > cursor or not self._forget_page(
                [(offset, self._state.decode(body)) for offset, body in bodies]
            ):
                break
            self.ledger_mark = page_start + layout.BODIES_PER_PAGE
        for page_start, bodies in self._state.body_pages(self.tally_mark, pages_max):
            if page_start >= self.ledger_mark or not self._drop_page([self._state.decode(body) for _, body in bodies]):
                break
            self._state.drop_bodies(page_start)
            self.tally_mark = page_start + layout.BODIES_PER_PAGE
        if self._state.clock_ms - self._ranges_swept_ms > self._rules.cancellation_window_ms // 8:
            self._ranges_swept_ms = self._state.clock_ms
            self._state.drop_ranges(self._state.clock_ms - self._rules.cancellation_window_ms)

    def _forget_page(self, events: list[tuple[int, MeterEvent]]) -> bool:
        """Forget the identities of a page if the windows of all have passed."""
        past = []
        for offset, event in events:
            key = layout.ledger_key(event.identity)
            packed = self._state.ledger_value(key)
            if packed is None or packed[0] == layout.AWAITED:
                continue
            first_offset, _, clock_ms, _ = layout.unpack_counted(packed)
            if first_offset != offset:
                continue  # the identity was used again after its window
            if self._state.clock_ms - clock_ms <= self._rules.dedup_window_ms:
                return False
            past.append(key)
        for key in past:
            self._state.ledger[key] = None
        return True

    def _drop_page(self, events: list[MeterEvent]) -> bool:
        """Drop the tallies of a page's events if no rule can reach any of them."""
        keys = [tally_key(event) for event in events]
        if not all(tally_is_garbage(key.window_start_ms, self._state.clock_ms, self._rules) for key in keys):
            return False
        stored = {store_key(key) for key in keys}
        if any(self._state.is_dirty(key) for key in stored):
            return False
        for key in stored:
            self._state.drop_tally(key)
        return True
