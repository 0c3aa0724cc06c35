"""Which counted events a range cancellation means, by way of the tallies that they stand in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.domain.events import CancellationRange, Identity
from pipeline.domain.ledger import Counted
from pipeline.domain.limits import MINUTE_MS
from pipeline.worker import layout

if TYPE_CHECKING:
    from pipeline.worker.state import StoredState


def matching(
    state: StoredState, livemode: bool, event_name: str, wanted: CancellationRange
) -> Iterator[tuple[Identity, Counted]]:
    """The events of a range that the ledger still knows, in any order."""
    prefix = layout.tally_prefix(livemode, event_name, wanted.customer)
    # A tally that was dropped stands in the store until the cut is written; its bodies may be gone before it is read.
    stored = {key for key, _ in state._store.scan(prefix) if not state.is_dropped(key)}
    for key in sorted(stored | {key for key in state.cells if key.startswith(prefix)}):
        window_start_ms = layout.tally_key_parts(key)[3]
        if window_start_ms < wanted.end_ms and window_start_ms + MINUTE_MS > wanted.start_ms:
            for offset, _, timestamp_ms, _ in state._entries(key, state.cell(key)):
                if wanted.start_ms <= timestamp_ms < wanted.end_ms:
                    identity = state.decode(state.body(offset)).identity
                    packed = state.ledger_value(layout.ledger_key(identity))
                    # Else its window has passed: it is forgotten, or the identity is another event's by now.
                    if packed is not None and layout.is_counted_at(packed, offset):
                        yield identity, state._counted(packed)
