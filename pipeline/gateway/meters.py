"""Meters: named views of usage, an event name and a formula. All but the name for people is fixed for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.domain.catalog import CatalogObject, Meter
from pipeline.domain.limits import DIMENSION_KEY_CHARS_MAX, DIMENSIONS_MAX, EVENT_NAME_CHARS_MAX
from pipeline.gateway.bodies import meter_body
from pipeline.gateway.calls import Call
from pipeline.gateway.catalog import CatalogMemory
from pipeline.gateway.changes import change, new_id, next_version, version_of_new
from pipeline.gateway.listing import page
from pipeline.gateway.lists import CURSORS, list_envelope, list_shape
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Choice, Field, ListOf, Object, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, invalid, missing_object
from pipeline.gateway.shapes import METER, expanded

READ_SCOPES = "meters:write|catalog:write|summaries:read"
"""Who may see meters, products and plans: whoever may change one of them, or ask for usage."""
WRITE_SCOPE = "meters:write"

PAYLOAD_KEY_CHARS_MAX = 100

_KEY = Field(Text(PAYLOAD_KEY_CHARS_MAX), required=True, description="A key of the events' payload.")
_DISPLAY_NAME = Text(250)

CREATE = {
    "customer_mapping": Field(
        Object({"event_payload_key": _KEY, "type": Field(Choice("by_id"), required=True)}),
        description="Where an event's payload has the customer; stripe_customer_id unless said.",
    ),
    "default_aggregation": Field(
        Object({"formula": Field(Choice("count", "last", "sum"), required=True)}),
        required=True,
        description="How a summary is made of the values.",
    ),
    "dimension_payload_keys": Field(
        ListOf(Text(DIMENSION_KEY_CHARS_MAX), DIMENSIONS_MAX),
        description="Keys of the payload that are kept as dimensions, to group and filter by.",
    ),
    "display_name": Field(_DISPLAY_NAME, required=True, description="For people."),
    "event_name": Field(
        Text(EVENT_NAME_CHARS_MAX), required=True, description="Whose usage it reads; one active meter per name."
    ),
    "event_time_window": Field(
        Choice("day", "hour"), description="Within each, only the event that arrived last counts."
    ),
    "value_settings": Field(
        Object({"event_payload_key": _KEY}), description="Where an event's payload has the value; value unless said."
    ),
}
UPDATE = {"display_name": Field(_DISPLAY_NAME, description="For people.")}
LIST = {"status": Field(Choice("active", "inactive"), description="Only these."), **CURSORS}


async def create_meter(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    given, catalog = call.given, parts.catalog
    customer_key = given.get("customer_mapping", {}).get("event_payload_key", "stripe_customer_id")
    value_key = given.get("value_settings", {}).get("event_payload_key", "value")
    dimensions = tuple(given.get("dimension_payload_keys", ()))
    _check_keys(customer_key, value_key, dimensions)
    id_ = new_id(parts, call, "meter")

    def make(request: str | None) -> Sequence[CatalogObject]:
        _check_name_is_free(catalog, call, given["event_name"], "event_name")
        one = Meter(
            id=id_,
            livemode=call.key.livemode,
            created_ms=call.now_ms,
            updated_ms=call.now_ms,
            version=version_of_new(catalog.present(Meter, call.key.livemode, id_)),
            request=request,
            display_name=given["display_name"],
            event_name=given["event_name"],
            formula=given["default_aggregation"]["formula"],
            customer_key=customer_key,
            value_key=value_key,
            event_time_window=given.get("event_time_window"),
            dimension_payload_keys=dimensions,
        )
        return [one]

    return await _changed(parts, call, f"meters/{given['event_name']}", make)


async def update_meter(parts: Parts, call: Call) -> Answer:
    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _meter(parts.catalog, call)
        changes: dict[str, Any] = {name: call.given[name] for name in UPDATE if name in call.given}
        return [next_version(before, call.now_ms, request, **changes)]

    return await _changed(parts, call, call.path["id"], make)


async def deactivate_meter(parts: Parts, call: Call) -> Answer:
    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _meter(parts.catalog, call)
        if not before.active:
            raise invalid("id", f"Meter {before.id} is inactive already: only an active meter can be deactivated.")
        return [next_version(before, call.now_ms, request, deactivated_at_ms=call.now_ms)]

    return await _changed(parts, call, call.path["id"], make)


async def reactivate_meter(parts: Parts, call: Call) -> Answer:
    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _meter(parts.catalog, call)
        if before.active:
            raise invalid("id", f"Meter {before.id} is active already: only an inactive meter can be reactivated.")
        _check_name_is_free(parts.catalog, call, before.event_name, "id")
        return [next_version(before, call.now_ms, request, deactivated_at_ms=None)]

    return await _changed(parts, call, call.path["id"], make)


async def retrieve_meter(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    return Answer(meter_body(_meter(parts.catalog, call)))


async def list_meters(parts: Parts, call: Call) -> Answer:
    expanded(call, (), within="data.")
    status = call.given.get("status")
    found, has_more = page(
        parts.catalog.shelf(Meter, call.key.livemode),
        Meter,
        call.given,
        lambda one: status is None or one.active == (status == "active"),
        "billing meter",
    )
    return Answer(list_envelope([meter_body(one) for one in found], "/v1/billing/meters", has_more=has_more))


async def _changed(parts: Parts, call: Call, about: str, make: Any) -> Answer:
    expanded(call, ())
    one, replayed = await change(parts, call, about, make)
    return Answer(meter_body(one), replayed=replayed)


def _meter(catalog: CatalogMemory, call: Call) -> Meter:
    found = catalog.meter(call.key.livemode, call.path["id"])
    if found is None:
        raise missing_object("billing meter", call.path["id"])
    return found


def _check_name_is_free(catalog: CatalogMemory, call: Call, event_name: str, param: str) -> None:
    other = catalog.active_meter(call.key.livemode, event_name)
    if other is not None:
        raise _name_is_taken(event_name, other.id, param)


def _name_is_taken(event_name: str, other: str, param: str) -> Problem:
    return invalid(
        param,
        f"The active meter {other} reads the event name {event_name} already, and only one active meter can: "
        "deactivate that one first, or choose another event_name.",
    )


def _check_keys(customer_key: str, value_key: str, dimensions: tuple[str, ...]) -> None:
    """One payload key has one meaning."""
    if customer_key == value_key:
        param = "value_settings[event_payload_key]"
        raise invalid(param, f"{param} and customer_mapping[event_payload_key] are two different payload keys.")
    for place, key in enumerate(dimensions):
        if key in (customer_key, value_key, *dimensions[:place]):
            param = f"dimension_payload_keys[{place}]"
            raise invalid(
                param, f"{param} is a payload key of its own: not the customer's, not the value's, not twice."
            )


def _operation(name: str, method: Any, path: str, handler: Any, summary: str, **more: Any) -> Operation:
    scope = READ_SCOPES if method == "GET" else WRITE_SCOPE
    row = {"answer": "billing.meter", **more}
    return Operation(
        name=name, method=method, path=path, face="v1", scope=scope, handler=handler, summary=summary, **row
    )


OPERATIONS: tuple[Operation, ...] = (
    _operation("create_meter", "POST", "/v1/billing/meters", create_meter, "Create a meter", fields=CREATE),
    _operation(
        "list_meters",
        "GET",
        "/v1/billing/meters",
        list_meters,
        "List meters, newest first",
        fields=LIST,
        answer=list_shape("billing.meter", "^/v1/billing/meters"),
    ),
    _operation("retrieve_meter", "GET", "/v1/billing/meters/{id}", retrieve_meter, "Retrieve a meter"),
    _operation("update_meter", "POST", "/v1/billing/meters/{id}", update_meter, "Rename a meter", fields=UPDATE),
    _operation(
        "deactivate_meter",
        "POST",
        "/v1/billing/meters/{id}/deactivate",
        deactivate_meter,
        "Accept no more events for a meter, and free its event name",
    ),
    _operation(
        "reactivate_meter",
        "POST",
        "/v1/billing/meters/{id}/reactivate",
        reactivate_meter,
        "Accept events for a meter again",
    ),
)

SHAPES: dict[str, Schema] = {"billing.meter": METER}
