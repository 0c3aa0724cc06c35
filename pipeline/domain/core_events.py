"""What happened and should be heard of, beside the changes of the catalog: those are told by its own log."""

from __future__ import annotations

from typing import NamedTuple


class RelatedObject(NamedTuple):
    """What an event is about."""

    id: str
    type: str
    """For example billing.meter."""
    url: str
    """Path at which the gateway shows it."""


class CoreEvent(NamedTuple):
    """One event, as GET /v2/core/events/{id} shows it."""

    id: str
    """evt_... or evt_test_...; saying the same again under the same id is harmless."""
    type: str
    """For example v1.billing.meter.error_report_triggered."""
    created_ms: int
    livemode: bool
    related: RelatedObject | None
    data: str
    """What happened: a JSON object as text; its fields follow from the type."""
