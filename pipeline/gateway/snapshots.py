"""Changes of the catalog as events, with the object as it was then.

An event follows from the record that stands in the catalog's log and nothing else, its id included: whoever makes it,
however often, makes the same one. So a change and its event are one promise: the record that was acknowledged is both.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final

from pipeline.domain.catalog import CatalogObject, Meter, Plan, Product
from pipeline.domain.catalog_log import Applied
from pipeline.domain.core_events import CoreEvent, RelatedObject
from pipeline.gateway.answers import encode
from pipeline.gateway.bodies import meter_body, plan_body, product_body, seconds
from pipeline.gateway.ids import object_id

API_VERSION: Final = "2026-10-28.endive"
"""In whose shapes objects are shown."""

DATA_BYTES_MAX: Final = 950_000
"""A record has a megabyte: the greatest object fits, with what it was before it may not. That is left out then."""

PlansOf = Callable[[bool, str], Container[str]]
"""(livemode, product) -> ids of its plans."""

_WORDS: dict[type[CatalogObject], tuple[str, str, str]] = {
    Meter: ("billing.meter", "billing.meter", "/v1/billing/meters/"),
    Product: ("product", "product", "/v1/products/"),
    Plan: ("plan", "plan", "/v1/plans/"),
}
"""How its events are called, what it is, and where it is shown. API keys have no events."""


def event_of(applied: Applied, plans_of: PlansOf) -> CoreEvent | None:
    """The event that tells of a change; None for one that nobody is told of."""
    before, after = applied.before, applied.after
    words = _WORDS.get(type(after))
    if words is None:
        return None
    about, kind, path = words
    made = before is None or before.deleted
    body = _body(after, plans_of)
    said: dict[str, Any] = {"object": body}
    if before is not None and not made and not after.deleted:
        earlier = _body(before, plans_of)
        said["previous_attributes"] = {name: earlier[name] for name in body if earlier[name] != body[name]}
    if after.deleted:
        body["deleted"] = True
    data = encode(said)
    if len(data) > DATA_BYTES_MAX:
        data = encode({"object": body})
    return CoreEvent(
        id=object_id(
            "event",
            livemode=after.livemode,
            operation=kind,
            idempotency_key=f"{after.id} {after.version}",
            secret=b"catalog",
        ),
        type=f"{about}.{_verb(before, after, made=made)}",
        created_ms=after.updated_ms,
        livemode=after.livemode,
        related=RelatedObject(after.id, kind, path + after.id),
        data=data.decode(),
    )


def snapshot_body(event: CoreEvent, said: Any) -> dict[str, Any]:
    """As v1's webhooks are sent it. ``said``: the event's data."""
    return {
        "id": event.id,
        "object": "event",
        "api_version": API_VERSION,
        "created": seconds(event.created_ms),
        "data": said,
        "livemode": event.livemode,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": event.type,
    }


def _verb(before: CatalogObject | None, after: CatalogObject, *, made: bool) -> str:
    if made:
        return "created"
    if after.deleted:
        return "deleted"
    if isinstance(before, Meter) and isinstance(after, Meter) and before.active != after.active:
        return "reactivated" if after.active else "deactivated"
    return "updated"


def _body(one: CatalogObject, plans_of: PlansOf) -> dict[str, Any]:
    if isinstance(one, Meter):
        return meter_body(one)
    if isinstance(one, Product):
        return product_body(one, plans_of(one.livemode, one.id))
    assert isinstance(one, Plan), type(one)
    return plan_body(one, tiers=True)
