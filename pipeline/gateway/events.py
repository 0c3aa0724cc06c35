"""Meter events one by one, v1 and v2. Held to their meter at once, answered when they are durable.

The answer repeats what was sent. Of the payload only customer, value and the meter's dimensions are kept. A value is
exact, with up to 26 digits before and 12 after the point: Stripe's limit of 15 digits does not apply. Nor does its
limit of one call at a time per customer and meter (409): events do not get in each other's way here.
"""

from __future__ import annotations

from typing import Any

from pipeline.gateway.calls import Call
from pipeline.gateway.moments import rfc_3339
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import INVALID_REQUEST, Problem, mismatched_repeat
from pipeline.gateway.recent import AlreadyExists, OtherRequest
from pipeline.gateway.shapes import expanded
from pipeline.gateway.usage import EVENT_FIELDS, Fault, Rulebook, Said, said_in
from pipeline.gateway.writing import digest_of, identifier_of, request_key, written
from pipeline.kafka.acknowledged import Outgoing

SCOPE = "events:write"


async def create_event(parts: Parts, call: Call) -> Answer:
    """One event, in either version."""
    expanded(call, ())
    key, asked = request_key(call), digest_of(call)
    try:
        known = await parts.recent.repeated(key, asked)
    except OtherRequest:
        raise mismatched_repeat(409 if call.operation.face == "v2" else 400) from None
    if known is not None:
        return Answer(known, replayed=True)
    said = said_in(call.given)
    doubt_ms = parts.journal.clock.doubt_ms
    rulebook = Rulebook(
        parts.catalog, parts.live.rules, livemode=call.key.livemode, now_ms=call.now_ms, doubt_ms=doubt_ms
    )
    event = rulebook.event_of(said, said.identifier or identifier_of(call))
    if isinstance(event, Fault):
        raise event.problem(call.operation.face)
    record = Outgoing(parts.live.journal, event.identifier.encode(), parts.codec.encode_event(event))
    body = _body(call, said, event.identifier, event.timestamp_ms)
    try:
        answer, again = await parts.recent.write(
            event.identity, key, asked, lambda: written(parts, [record], [event.timestamp_ms]), body
        )
    except AlreadyExists:
        raise _exists(call, event.identifier) from None
    except Problem as problem:
        if problem.status == 429:
            parts.recent.forget(event.identity)
        raise
    return Answer(answer, replayed=again)


def _exists(call: Call, identifier: str) -> Problem:
    """Stripe's words, which clients look for: v1 has no code."""
    return Problem(
        400,
        INVALID_REQUEST,
        f"An event already exists with identifier {identifier}.",
        "duplicate_meter_event" if call.operation.face == "v2" else None,
        headers={"stripe-should-retry": "false"},
    )


def _body(call: Call, said: Said, identifier: str, timestamp_ms: int) -> dict[str, Any]:
    v1 = call.operation.face == "v1"
    return {
        "object": "billing.meter_event" if v1 else "v2.billing.meter_event",
        "created": call.now_ms // 1000 if v1 else rfc_3339(call.now_ms),
        "event_name": said.event_name,
        "identifier": identifier,
        "livemode": call.key.livemode,
        "payload": dict(said.payload),
        "timestamp": timestamp_ms // 1000 if v1 else rfc_3339(timestamp_ms),
    }


def _shape(name: str, moment: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {
            "object": {"type": "string", "enum": [name]},
            "created": moment,
            "event_name": {"type": "string", "maxLength": 100},
            "identifier": {"type": "string", "maxLength": 100},
            "livemode": {"type": "boolean"},
            "payload": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 100}},
            "timestamp": moment,
        },
        "required": ["created", "event_name", "identifier", "livemode", "object", "payload", "timestamp"],
        "additionalProperties": False,
    }


SHAPES: dict[str, Schema] = {
    "billing.meter_event": _shape("billing.meter_event", {"type": "integer", "format": "unix-time"}),
    "v2.billing.meter_event": _shape("v2.billing.meter_event", {"type": "string", "format": "date-time"}),
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_meter_event",
        method="POST",
        path="/v1/billing/meter_events",
        face="v1",
        scope=SCOPE,
        handler=create_event,
        summary="Report usage: one event.",
        answer="billing.meter_event",
        fields=EVENT_FIELDS,
        writes=True,
    ),
    Operation(
        name="create_meter_event_v2",
        method="POST",
        path="/v2/billing/meter_events",
        face="v2",
        scope=SCOPE,
        handler=create_event,
        summary="Report usage: one event.",
        answer="v2.billing.meter_event",
        fields=EVENT_FIELDS,
        writes=True,
    ),
)
