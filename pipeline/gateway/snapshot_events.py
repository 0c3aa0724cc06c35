"""Changes of the catalog as v1's events: what webhooks were sent can be read again."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from pipeline.domain.core_events import CoreEvent
from pipeline.gateway.calls import Call
from pipeline.gateway.core_events import TYPES_MAX, CoreEvents, is_thin
from pipeline.gateway.listing import CREATED, created_as
from pipeline.gateway.lists import CURSORS, list_envelope, list_shape, page_of
from pipeline.gateway.meters import READ_SCOPES
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field, ListOf, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, exclusive, missing_object
from pipeline.gateway.shapes import expanded
from pipeline.gateway.snapshots import snapshot_body
from pipeline.gateway.strict_json import read_json

LIST: dict[str, Field] = {
    "created": CREATED,
    "type": Field(Text(), description="Only this type; product.* means all that begin so."),
    "types": Field(ListOf(Text(), TYPES_MAX), description="Only these types."),
    **CURSORS,
}


def event_body(event: CoreEvent) -> dict[str, Any] | None:
    """As v1 shows it; None for one whose data nobody can read: anybody may write to a topic."""
    try:
        read_json(event.data.encode())  # refuses what no answer could hold, however deep or cut in half
    except Problem:
        return None
    said = json.loads(event.data, parse_float=Decimal)
    return snapshot_body(event, said) if isinstance(said, dict) else None


async def retrieve_event(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    events: CoreEvents = parts.core_events
    event = events.get(call.key.livemode, call.path["id"])
    body = None if event is None or is_thin(event) else event_body(event)
    if body is None:
        raise missing_object("event", call.path["id"])
    return Answer({**body, "pending_webhooks": 0})


async def list_events(parts: Parts, call: Call) -> Answer:
    expanded(call, (), within="data.")
    events: CoreEvents = parts.core_events
    given = call.given
    if "type" in given and "types" in given:
        raise exclusive("type", "types")
    types = given.get("types") or ([given["type"]] if "type" in given else ["*"])
    found = [
        event
        for event in events.newest_first()
        if not is_thin(event)
        and event.livemode == call.key.livemode
        and created_as(given, event)
        and any(event.type.startswith(kind[:-1]) if kind.endswith("*") else event.type == kind for kind in types)
    ]
    shown, has_more = page_of(found, given, kind="event", id_of=lambda event: event.id)
    bodies = [{**body, "pending_webhooks": 0} for body in map(event_body, shown) if body is not None]
    return Answer(list_envelope(bodies, "/v1/events", has_more=has_more))


_EVENT: Schema = {
    "type": "object",
    "properties": {
        "api_version": {"type": "string", "nullable": True},
        "created": {"type": "integer", "format": "unix-time"},
        "data": {
            "type": "object",
            "properties": {"object": {"type": "object"}, "previous_attributes": {"type": "object"}},
            "required": ["object"],
        },
        "id": {"type": "string"},
        "livemode": {"type": "boolean"},
        "object": {"type": "string", "enum": ["event"]},
        "pending_webhooks": {"type": "integer"},
        "request": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "nullable": True},
                "idempotency_key": {"type": "string", "nullable": True},
            },
            "nullable": True,
        },
        "type": {"type": "string"},
    },
    "required": ["created", "data", "id", "livemode", "object", "pending_webhooks", "type"],
}

SHAPES: dict[str, Schema] = {"event": _EVENT}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="list_events",
        method="GET",
        path="/v1/events",
        face="v1",
        scope=READ_SCOPES,
        handler=list_events,
        summary="List changes of meters, plans and products, newest first",
        fields=LIST,
        answer=list_shape("event", "^/v1/events"),
    ),
    Operation(
        name="retrieve_event",
        method="GET",
        path="/v1/events/{id}",
        face="v1",
        scope=READ_SCOPES,
        handler=retrieve_event,
        summary="Retrieve a change of a meter, a plan or a product",
        answer="event",
    ),
)
