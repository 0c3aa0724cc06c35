"""Events: what happened and should be heard of. Two kinds stand in the topic `core-events`, told apart by their type:

    thin       v1.…, v2.…   error reports: shown by GET /v2/core/events, their data only there
    snapshot   all others   changes of the catalog, with the object as it was then: sent to webhooks, and in the topic

Each gateway keeps the newest ones in memory. An event that was written twice is one: its id says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from pipeline.codec.records import Codec
from pipeline.domain.core_events import CoreEvent
from pipeline.errors import UndecodableRecord
from pipeline.gateway.calls import Call
from pipeline.gateway.listing import COMPARE
from pipeline.gateway.lists import LIMIT_DEFAULT, V2_PAGE, page_token, position_of, v2_envelope
from pipeline.gateway.meters import READ_SCOPES
from pipeline.gateway.moments import moment_ms, rfc_3339
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field, ListOf, Object, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import Problem, invalid, shown
from pipeline.gateway.strict_json import read_json
from pipeline.kafka.acknowledged import Acknowledged, Outgoing
from pipeline.kafka.following import Follower
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics

KEPT: Final = 50_000
"""How many of the newest a gateway shows; the topic has those of 30 days."""
TYPES_MAX: Final = 20

_THIN = ("v1.", "v2.")


def is_thin(event: CoreEvent) -> bool:
    """Whether its data is only to be fetched."""
    return event.type.startswith(_THIN)


class CoreEvents:
    """A Service (parts.py). ``config`` is librdkafka's: how to connect."""

    name = "core events"

    def __init__(self, config: Mapping[str, Any], topics: Topics, codec: Codec, journal: Acknowledged) -> None:
        self._topic = topics.core_events
        self._codec = codec
        self._journal = journal
        self._events: OrderedDict[str, CoreEvent] = OrderedDict()
        self._lock = threading.Lock()
        self._follower = Follower(config, topics.core_events, self._take, newest=KEPT)

    async def start(self) -> None:
        self._follower.start()

    async def stop(self) -> None:
        await asyncio.to_thread(self._follower.stop)

    def not_ready(self) -> str | None:
        return self._follower.not_ready()

    async def announce(self, event: CoreEvent) -> None:
        """Return when the event is durable: it will be shown, and sent to webhooks.

        Raises Unavailable or Overloaded; announcing it again is harmless.
        """
        await self._journal.publish([Outgoing(self._topic, event.id.encode(), self._codec.encode_core_event(event))])

    def get(self, livemode: bool, id_: str) -> CoreEvent | None:
        """The event, unless it is forgotten or of the other mode."""
        found = self._events.get(id_)
        return found if found is not None and found.livemode == livemode else None

    def newest_first(self) -> list[CoreEvent]:
        with self._lock:  # a dict cannot be walked while it grows
            return list(reversed(self._events.values()))

    def _take(self, record: Record) -> None:
        try:
            event = self._codec.decode_core_event(record.value)
        except UndecodableRecord:
            return  # whoever writes into this topic by hand is not shown
        with self._lock:
            self._events.setdefault(event.id, event)
            if len(self._events) > KEPT:
                self._events.popitem(last=False)


def thin_body(event: CoreEvent) -> dict[str, Any]:
    """As webhooks are sent it; its data is to be fetched."""
    related = event.related
    return {
        "id": event.id,
        "object": "v2.core.event",
        "context": None,
        "created": rfc_3339(event.created_ms),
        "livemode": event.livemode,
        "reason": None,
        **({} if related is None else {"related_object": related._asdict()}),
        "type": event.type,
    }


def full_body(event: CoreEvent) -> dict[str, Any]:
    """As GET answers it."""
    return {**thin_body(event), "data": msgspec.Raw(_json_object(event.data))}


def _json_object(text: str) -> bytes:
    """The text as it is, if it is a JSON object: anybody may write to a topic, so it is read as strictly as a body."""
    try:
        fine = isinstance(read_json(text.encode()), dict)
    except Problem:
        fine = False
    return text.encode() if fine else b"{}"


_BOUNDS = {name: Field(Text(40)) for name in COMPARE}
LIST: dict[str, Field] = {
    "created": Field(Object(_BOUNDS), description="RFC 3339 bounds: gt, gte, lt, lte."),
    "object_id": Field(Text(), description="Only events about this object."),
    "types": Field(ListOf(Text(), TYPES_MAX), description="Only these types."),
    **V2_PAGE,
}


async def retrieve_event(parts: Parts, call: Call) -> Answer:
    events: CoreEvents = parts.core_events
    event = events.get(call.key.livemode, call.path["id"])
    if event is None or not is_thin(event):
        raise Problem(404, "invalid_request_error", f"No such event: {shown(call.path['id'])}", "not_found")
    return Answer(full_body(event))


async def list_events(parts: Parts, call: Call) -> Answer:
    events: CoreEvents = parts.core_events
    given = call.given
    bounds = {name: _moment(f"created[{name}]", text) for name, text in given.get("created", {}).items()}
    types, about = given.get("types"), given.get("object_id")
    wanted = [
        event
        for event in events.newest_first()
        if is_thin(event)
        and event.livemode == call.key.livemode
        and (types is None or event.type in types)
        and (about is None or (event.related is not None and event.related.id == about))
        and all(COMPARE[name](event.created_ms, bound) for name, bound in bounds.items())
    ]
    limit: int = given.get("limit") or LIMIT_DEFAULT
    start, back = _start(wanted, given, limit)
    shown_events = wanted[start : start + limit]
    following = _url(given, "after", shown_events[-1].id) if start + limit < len(wanted) else None
    previous = _url(given, "from", wanted[back].id) if start > 0 else None
    bodies = [full_body(event) for event in shown_events]
    return Answer(v2_envelope(bodies, next_url=following, previous_url=previous))


def _start(wanted: list[CoreEvent], given: Mapping[str, Any], limit: int) -> tuple[int, int]:
    """Where the page begins, and where the one before it does."""
    start = 0
    if "page" in given:
        side, _, id_ = position_of(given["page"]).partition(" ")
        places = list(islice((place for place, event in enumerate(wanted) if event.id == id_), 1))
        if not places or side not in ("after", "from"):
            raise invalid("page", "page is the token of an answer's next_page_url, as it was given.")
        start = places[0] + (side == "after")
    return start, max(0, start - limit)


def _url(given: Mapping[str, Any], side: str, id_: str) -> str:
    asked: dict[str, Any] = {name: given[name] for name in ("limit", "object_id") if name in given}
    asked |= {f"types[{place}]": kind for place, kind in enumerate(given.get("types", ()))}
    asked |= {f"created[{name}]": text for name, text in given.get("created", {}).items()}
    return "/v2/core/events?" + urlencode({**asked, "page": page_token(f"{side} {id_}")})


def _moment(param: str, text: str) -> int:
    moment = moment_ms(text)
    if moment is None:
        raise invalid(param, f"Invalid timestamp: {shown(text)}. {param} is as in 2026-01-31T12:00:00.000Z.")
    return moment


_TEXT = {"type": "string"}
_RELATED = {
    "type": "object",
    "properties": {"id": _TEXT, "type": _TEXT, "url": _TEXT},
    "required": ["id", "type", "url"],
}
_EVENT: Schema = {
    "type": "object",
    "properties": {
        "context": {"type": "string", "nullable": True},
        "created": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
        "id": _TEXT,
        "livemode": {"type": "boolean"},
        "object": {"type": "string", "enum": ["v2.core.event"]},
        "reason": {"type": "object", "nullable": True},
        "related_object": _RELATED,
        "type": _TEXT,
    },
    "required": ["created", "data", "id", "livemode", "object", "type"],
}
_PAGE: Schema = {
    "type": "object",
    "properties": {
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/v2.core.event"}},
        "next_page_url": {"type": "string", "nullable": True},
        "previous_page_url": {"type": "string", "nullable": True},
    },
    "required": ["data", "next_page_url", "previous_page_url"],
}

SHAPES: dict[str, Schema] = {"v2.core.event": _EVENT, "v2.core.event_page": _PAGE}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="list_core_events",
        method="GET",
        path="/v2/core/events",
        face="v2",
        scope=READ_SCOPES,
        handler=list_events,
        summary="List events, newest first",
        fields=LIST,
        answer="v2.core.event_page",
    ),
    Operation(
        name="retrieve_core_event",
        method="GET",
        path="/v2/core/events/{id}",
        face="v2",
        scope=READ_SCOPES,
        handler=retrieve_event,
        summary="Retrieve an event with its data",
        answer="v2.core.event",
    ),
)
