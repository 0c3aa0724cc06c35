"""The ledger: what a partition remembers of identities, so that none counts twice and cancellations find their events.

An identity is unknown, awaited (a cancellation came first), counted or cancelled. It is forgotten when the clock has
moved past its window; every rule compares times itself, so when exactly that happens changes no answer.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.domain.events import MeterEvent


class Waiting(NamedTuple):
    """A cancellation whose event has not come yet."""

    adjustment_id: str
    offset: int
    clock_ms: int


class Counted(NamedTuple):
    """An event that counts, or did until ``cancelled_by`` took it back."""

    event: MeterEvent
    offset: int
    appended_at_ms: int
    clock_ms: int
    cancelled_by: str | None

    @property
    def entry(self) -> tuple[int, int, int, int]:
        """As it stands in its tally."""
        return (self.offset, self.appended_at_ms, self.event.timestamp_ms, self.event.value)


class Awaited(NamedTuple):
    """Cancellations that wait for an event, oldest first."""

    waiting: tuple[Waiting, ...]


Remembered = Counted | Awaited
