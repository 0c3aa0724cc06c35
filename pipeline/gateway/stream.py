"""The stream: up to a hundred events a call, with a session's token.

A call is refused as a whole for its shape (400: nothing of it is appended), never for an event's content. An event
that its meter cannot take is kept as it came in the dead letters, with the reason, and becomes part of the next error
report; it is not appended to the journal, so its identifier stays free and the event can be corrected and sent again.
That holds for an event without a meter too: it would count once a meter exists, beside the corrected copy of it.

200 means that all of it, events and dead letters, is acknowledged. Whether an identifier was sent before is the fold's
to say: it counts once.
"""

from __future__ import annotations

from typing import Any

from pipeline.gateway.answers import encode
from pipeline.gateway.calls import Call
from pipeline.gateway.operations import Answer, Operation
from pipeline.gateway.parameters import Field, ListOf, Object, read
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import invalid, missing
from pipeline.gateway.reports import Invalid
from pipeline.gateway.strict_json import Number, read_json
from pipeline.gateway.tokens import SCOPE
from pipeline.gateway.usage import EVENT_FIELDS, Fault, Rulebook, said_of
from pipeline.gateway.writing import identifier_of, written
from pipeline.kafka.acknowledged import Outgoing

EVENTS_MAX = 100
LETTER_BYTES_MAX = 64 * 1024

STREAM_FIELDS = {
    "events": Field(ListOf(Object(EVENT_FIELDS), EVENTS_MAX, 1), required=True, description="1 to 100 events.")
}


async def stream_events(parts: Parts, call: Call) -> Answer:
    """Everything is read and held to its meter before anything is handed over."""
    raw_events = _events_in(call.body)
    livemode = call.key.livemode
    doubt_ms = parts.journal.clock.doubt_ms
    rulebook = Rulebook(parts.catalog, parts.live.rules, livemode=livemode, now_ms=call.now_ms, doubt_ms=doubt_ms)
    encode_event, journal = parts.codec.encode_event, parts.live.journal
    records: list[Outgoing] = []
    timestamps_ms: list[int] = []
    invalid_ones: list[Invalid] = []
    for index, raw in enumerate(raw_events):  # the hot loop
        said = said_of(raw, f"events[{index}]")
        identifier = said.identifier or identifier_of(call, index)
        event = rulebook.event_of(said, identifier)
        if isinstance(event, Fault):
            records.append(_letter(parts, call, raw, said.identifier, event))
            invalid_ones.append(Invalid(livemode, event, call.idempotency_key or call.request_id))
        else:
            records.append(Outgoing(journal, identifier.encode(), encode_event(event)))
            timestamps_ms.append(event.timestamp_ms)
    await written(parts, records, timestamps_ms)
    if invalid_ones:
        parts.reports.add(invalid_ones, parts.clock())  # by now it may be known better than at first
    return Answer({})


def _events_in(body: bytes) -> list[Any]:
    """Raises Problem 400 for anything but 1 to 100 things that may be events."""
    raw = read_json(body) if body else {}
    if not isinstance(raw, dict):
        raise invalid(None, "The request's body is a JSON object.", "invalid_json")
    events = raw.get("events")
    if len(raw) > 1 or not isinstance(events, list):
        if events is None and not raw.keys() - {"events"}:
            raise missing("events")
        read(STREAM_FIELDS, raw, typed=True)  # says what is wrong
    assert isinstance(events, list)
    if not 1 <= len(events) <= EVENTS_MAX:
        raise invalid("events", f"A call has 1 to {EVENTS_MAX} events, and this has {len(events)}. None was taken.")
    return events


def _letter(parts: Parts, call: Call, raw: Any, identifier: str | None, fault: Fault) -> Outgoing:
    """The event as it came, for people."""
    headers = (
        ("topic", parts.live.journal.encode()),
        ("reason", fault.codes.report.encode()),
        ("source", b"meter_event_stream"),
        ("livemode", b"true" if call.key.livemode else b"false"),
        ("request", call.request_id.encode()),
    )
    key = None if identifier is None else identifier.encode()
    return Outgoing(parts.topics.dead_letters, key, encode(_as_it_came(raw))[:LETTER_BYTES_MAX], headers=headers)


def _as_it_came(raw: Any) -> Any:
    """Without our own kind of text for numbers: its digits, as text."""
    if isinstance(raw, dict):
        return {key: _as_it_came(part) for key, part in raw.items()}
    return str(raw) if isinstance(raw, Number) else raw


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_meter_event_stream",
        method="POST",
        path="/v2/billing/meter_event_stream",
        face="v2",
        scope=SCOPE,
        handler=stream_events,
        summary="Report usage: up to 100 events, with a meter event session's token.",
        answer={"type": "object", "properties": {}, "additionalProperties": False},
        fields=STREAM_FIELDS,
        session=True,
        own_body=True,
        writes=True,
    ),
)
