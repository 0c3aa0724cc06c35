"""Taking usage back: one event by its identifier (v1, v2), or a range of events (ours).

An adjustment is accepted and then pending, whatever it names. What becomes of it is decided by the fold, from the
times at which the broker appended event and cancellation (domain/fold.py): not here, where a clock of a gateway would
decide. ``GET /v2/billing/meter_event_adjustments/{id}`` tells it.

The id follows from the Idempotency-Key, so a repeat is the same adjustment on every gateway, and changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pipeline.domain.events import Adjustment, CancellationRange
from pipeline.domain.limits import CUSTOMER_CHARS_MAX, EVENT_NAME_CHARS_MAX, IDENTIFIER_CHARS_MAX
from pipeline.gateway.calls import Call
from pipeline.gateway.ids import object_id
from pipeline.gateway.moments import rfc_3339
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Choice, Field, Moment, Object, Text, read
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, invalid, mismatched_repeat, missing
from pipeline.gateway.shapes import expanded
from pipeline.gateway.strict_json import read_json
from pipeline.gateway.writing import digest_of, written
from pipeline.kafka.acknowledged import Outgoing

SCOPE: Final = "adjustments:write"
KEPT: Final = 20_000

_EVENT_NAME = Field(Text(EVENT_NAME_CHARS_MAX), required=True, description="The event name of what is taken back.")
_TYPE = Field(Choice("cancel"), required=True, description="cancel.")
_IDENTIFIER = Text(IDENTIFIER_CHARS_MAX)

V1_FIELDS: Final[Mapping[str, Field]] = {
    "cancel": Field(Object({"identifier": Field(_IDENTIFIER)}), description="Which event."),
    "event_name": _EVENT_NAME,
    "type": _TYPE,
}
V2_FIELDS: Final[Mapping[str, Field]] = {
    "cancel": Field(
        Object({"identifier": Field(_IDENTIFIER, required=True)}), required=True, description="Which event."
    ),
    "event_name": _EVENT_NAME,
    "type": _TYPE,
}
RANGE_FIELDS: Final[Mapping[str, Field]] = {
    "cancel_range": Field(
        Object(
            {
                "customer": Field(
                    Text(CUSTOMER_CHARS_MAX), description="Only this customer's; all customers', if absent."
                ),
                "start_time": Field(Moment(), required=True, description="First timestamp that is taken back."),
                "end_time": Field(Moment(), required=True, description="First timestamp that is not."),
            }
        ),
        required=True,
        description="Which events: those with start_time <= timestamp < end_time that were appended before this.",
    ),
    "event_name": _EVENT_NAME,
    "type": _TYPE,
}


class RecentAdjustment(NamedTuple):
    """An adjustment as this gateway has written it."""

    adjustment: Adjustment
    created_ms: int
    asked: bytes
    """Digest of what the request asked for."""


class RecentAdjustments:
    """What this gateway wrote itself: it can be shown before ClickHouse has it. Bounded; nothing depends on it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._by_id: OrderedDict[tuple[bool, str], RecentAdjustment] = OrderedDict()

    def add(self, one: RecentAdjustment) -> None:
        self._by_id[one.adjustment.livemode, one.adjustment.id] = one
        if len(self._by_id) > self._kept:
            self._by_id.popitem(last=False)

    def get(self, livemode: bool, id_: str) -> RecentAdjustment | None:
        return self._by_id.get((livemode, id_))

    def all(self, livemode: bool) -> list[RecentAdjustment]:
        """The newest first."""
        return [one for (mode, _), one in reversed(self._by_id.items()) if mode is livemode]


async def create_v1(parts: Parts, call: Call) -> Answer:
    """Stripe's v1: an object without an id."""
    expanded(call, ())
    identifier = call.given.get("cancel", {}).get("identifier")
    if identifier is None:
        raise missing("cancel[identifier]")
    adjustment, _, replayed = await _accepted(parts, call, call.given["event_name"], identifier, None)
    body = {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": adjustment.identifier},
        "event_name": adjustment.event_name,
        "livemode": adjustment.livemode,
        "status": "pending",
        "type": "cancel",
    }
    return Answer(body, replayed=replayed)


async def create_v2(parts: Parts, call: Call) -> Answer:
    """Stripe's v2. Reads its body itself: whatever is wrong with ``cancel`` has a code of its own."""
    raw = read_json(call.body) if call.body else {}
    if not isinstance(raw, dict):
        raise invalid(None, "The request's body is a JSON object.", "invalid_json")
    try:
        given = read(V2_FIELDS, raw, typed=True)
    except Problem as problem:
        if (problem.param or "").startswith("cancel"):
            problem.code = "invalid_cancel_configuration"
        raise
    whole = dataclasses.replace(call, given=given)
    adjustment, created_ms, replayed = await _accepted(
        parts, whole, given["event_name"], given["cancel"]["identifier"], None
    )
    return Answer(adjustment_body(adjustment, created_ms, "pending"), replayed=replayed)


async def create_range(parts: Parts, call: Call) -> Answer:
    """Ours: all events of a span of time, of one customer or of all."""
    said = call.given["cancel_range"]
    span = CancellationRange(said.get("customer"), said["start_time"], said["end_time"])
    if span.start_ms >= span.end_ms:
        raise invalid("cancel_range[end_time]", "cancel_range[end_time] is after cancel_range[start_time].")
    adjustment, created_ms, replayed = await _accepted(parts, call, call.given["event_name"], None, span)
    return Answer(adjustment_body(adjustment, created_ms, "pending"), replayed=replayed)


async def _accepted(
    parts: Parts, call: Call, event_name: str, identifier: str | None, span: CancellationRange | None
) -> tuple[Adjustment, int, bool]:
    """(the adjustment, when it was made, whether by an earlier copy of the request): durable."""
    secrets = parts.settings.secrets
    id_ = object_id(
        "adjustment",
        livemode=call.key.livemode,
        operation=call.operation.name,
        idempotency_key=call.idempotency_key,
        secret=secrets.by_kid[secrets.signing_kid],
    )
    asked = digest_of(call)
    known = parts.recent_adjustments.get(call.key.livemode, id_)
    if known is not None:
        if known.asked != asked:
            raise mismatched_repeat(409 if call.operation.face == "v2" else 400)
        return known.adjustment, known.created_ms, True
    adjustment = Adjustment(id_, event_name, call.key.livemode, identifier, span)
    await written(parts, [Outgoing(parts.topics.adjustments, id_.encode(), parts.codec.encode_adjustment(adjustment))])
    parts.recent_adjustments.add(RecentAdjustment(adjustment, call.now_ms, asked))
    return adjustment, call.now_ms, False


def adjustment_body(adjustment: Adjustment, created_ms: int, status: str, outcome: str | None = None) -> dict[str, Any]:
    """Stripe's v2 object. ``outcome`` is ours, and so is ``cancel_range``, which stands in the place of ``cancel``."""
    body: dict[str, Any] = {
        "object": "v2.billing.meter_event_adjustment",
        "id": adjustment.id,
        "created": rfc_3339(created_ms),
        "event_name": adjustment.event_name,
        "livemode": adjustment.livemode,
        "status": status,
        "type": "cancel",
    }
    if adjustment.range is None:
        body["cancel"] = {"identifier": adjustment.identifier}
    else:
        customer, start_ms, end_ms = adjustment.range
        body["cancel_range"] = {"customer": customer, "start_time": rfc_3339(start_ms), "end_time": rfc_3339(end_ms)}
    return body if outcome is None else {**body, "outcome": outcome}


_TEXT: Schema = {"type": "string"}
_MOMENT: Schema = {"type": "string", "format": "date-time"}
_COMMON: dict[str, Schema] = {
    "event_name": {"type": "string", "maxLength": 100},
    "livemode": {"type": "boolean"},
    "status": {"type": "string", "enum": ["complete", "pending"]},
    "type": {"type": "string", "enum": ["cancel"]},
}
_CANCEL: Schema = {"type": "object", "properties": {"identifier": _TEXT}, "required": ["identifier"]}
_CANCEL_RANGE: Schema = {
    "type": "object",
    "properties": {"customer": {**_TEXT, "nullable": True}, "start_time": _MOMENT, "end_time": _MOMENT},
    "required": ["customer", "end_time", "start_time"],
}


def _shape(name: str, own: dict[str, Schema]) -> Schema:
    properties = {"object": {"type": "string", "enum": [name]}, **_COMMON, **own}
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}


SHAPES: dict[str, Schema] = {
    "billing.meter_event_adjustment": _shape("billing.meter_event_adjustment", {"cancel": _CANCEL}),
    "v2.billing.meter_event_adjustment": _shape(
        "v2.billing.meter_event_adjustment", {"cancel": _CANCEL, "created": _MOMENT, "id": _TEXT}
    ),
    "meterline.range_adjustment": _shape(
        "v2.billing.meter_event_adjustment", {"cancel_range": _CANCEL_RANGE, "created": _MOMENT, "id": _TEXT}
    ),
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_meter_event_adjustment",
        method="POST",
        path="/v1/billing/meter_event_adjustments",
        face="v1",
        scope=SCOPE,
        handler=create_v1,
        summary="Take one event back.",
        answer="billing.meter_event_adjustment",
        fields=V1_FIELDS,
        writes=True,
    ),
    Operation(
        name="create_meter_event_adjustment_v2",
        method="POST",
        path="/v2/billing/meter_event_adjustments",
        face="v2",
        scope=SCOPE,
        handler=create_v2,
        summary="Take one event back.",
        answer="v2.billing.meter_event_adjustment",
        fields=V2_FIELDS,
        own_body=True,
        writes=True,
    ),
    Operation(
        name="create_range_adjustment",
        method="POST",
        path="/meterline/v1/meter_event_adjustments",
        face="meterline",
        scope=SCOPE,
        handler=create_range,
        summary="Take back the events of a span of time.",
        answer="meterline.range_adjustment",
        fields=RANGE_FIELDS,
        writes=True,
    ),
)
