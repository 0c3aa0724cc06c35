"""What became of adjustments: Stripe's v2 object, with the outcome that Stripe never tells.

The fold decides, and what it decided stands in ClickHouse within two seconds. An adjustment that was accepted here a
moment ago, and is not in ClickHouse yet, is found in this gateway's memory; another gateway finds it a moment later.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.adjustments import LAST, Decided, Sent, decisions, sent_adjustment, sent_adjustments
from pipeline.domain import outcomes
from pipeline.domain.limits import EVENT_NAME_CHARS_MAX, SECOND_MS
from pipeline.gateway.adjustments import RecentAdjustments, adjustment_body
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Text
from pipeline.gateway.lists import LIMIT_DEFAULT, V2_PAGE, page_token, position_of, v2_envelope
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import invalid, missing_object

SCOPES: Final = "adjustments:write|summaries:read"
PATH: Final = "/v2/billing/meter_event_adjustments"
RECENT_MS: Final = 60 * SECOND_MS
"""What this gateway accepted so long ago is in ClickHouse, or ClickHouse is behind and the freshness says so."""
RECENT_MAX: Final = 1_000
"""So many of these a question names; what is older is shown when ClickHouse has it."""

FIELDS: Final = {
    **V2_PAGE,
    "event_name": Field(Text(EVENT_NAME_CHARS_MAX), description="Only those of this event name."),
}


async def retrieve_adjustment(parts: Parts, call: Call) -> Answer:
    id_, livemode = call.path["id"], call.key.livemode

    def ask(client: Client) -> tuple[Sent | None, list[Decided]]:
        return (
            sent_adjustment(client, id_, livemode=livemode),
            decisions(client, [id_], livemode=livemode).get(id_, []),
        )

    sent, decided = await parts.questions.ask(ask)
    recent: RecentAdjustments = parts.recent_adjustments
    own = recent.get(livemode, id_)
    if own is not None:  # it keeps the time that the client was told
        sent = Sent(own.adjustment, own.created_ms)
    if sent is None:
        raise missing_object("meter event adjustment", id_)
    return Answer(_body(parts, sent, decided))


async def list_adjustments(parts: Parts, call: Call) -> Answer:
    """What this gateway took within the last minute stands where its client was told that it was made, whether
    ClickHouse has it by now or not: so it stays where it is while somebody turns pages.
    """
    given, livemode = call.given, call.key.livemode
    limit: int = given.get("limit") or LIMIT_DEFAULT
    event_name: str = given.get("event_name", "")
    before = _position(given["page"]) if "page" in given else LAST
    own = _taken_here(parts, call)

    def ask(client: Client) -> tuple[list[Sent], dict[str, list[Decided]]]:
        others = sent_adjustments(
            client,
            livemode=livemode,
            limit=limit + 1,
            event_name=event_name,
            before=before,
            without=[one.adjustment.id for one in own],
        )
        found = sorted((*others, *(one for one in own if _place(one) < before)), key=_place, reverse=True)
        return found, decisions(client, [one.adjustment.id for one in found[:limit]], livemode=livemode)

    found, decided = await parts.questions.ask(ask)
    shown = found[:limit]
    next_url = None
    if len(found) > limit:
        named = {"event_name": event_name} if event_name else {}
        next_url = f"{PATH}?" + urlencode({"limit": limit, **named, "page": _token(shown[-1])})
    bodies = [_body(parts, one, decided.get(one.adjustment.id, [])) for one in shown]
    return Answer(v2_envelope(bodies, next_url=next_url))


def _taken_here(parts: Parts, call: Call) -> list[Sent]:
    """What this gateway has just accepted, the newest RECENT_MAX of it."""
    recent: RecentAdjustments = parts.recent_adjustments
    wanted = (
        Sent(one.adjustment, one.created_ms)
        for one in recent.all(call.key.livemode)
        if one.created_ms > call.now_ms - RECENT_MS
        and call.given.get("event_name") in (None, one.adjustment.event_name)
    )
    return list(islice(wanted, RECENT_MAX))


def _place(one: Sent) -> tuple[int, str]:
    """By which a list is ordered, the highest first."""
    return one.appended_at_ms, one.adjustment.id


def _token(one: Sent) -> str:
    return page_token(f"{one.appended_at_ms}:{one.adjustment.id}")


def _position(token: str) -> tuple[int, str]:
    ms, colon, id_ = position_of(token).partition(":")
    if not colon or not ms.isascii() or not ms.isdigit() or len(ms) > 15:
        raise invalid("page", "page is the token of an answer's next page, as it was given.")
    return int(ms), id_


def _body(parts: Parts, sent: Sent, decided: Sequence[Decided]) -> dict[str, Any]:
    outcome = _outcome(sent, decided, parts.freshness.partitions)
    body = adjustment_body(sent.adjustment, sent.appended_at_ms, "pending" if outcome is None else "complete")
    cancelled = None if outcome is None else sum(one.events_cancelled for one in decided)
    return body | {"outcome": outcome, "events_cancelled": cancelled}


def _outcome(sent: Sent, decided: Sequence[Decided], partitions: int | None) -> str | None:
    """What became of it; None while it is pending. A range is decided when each partition has decided."""
    if sent.adjustment.range is None:
        final = [one.disposition for one in decided if one.disposition != outcomes.PENDING]
        return final[0] if final else None
    if partitions is None or len(decided) < partitions:
        return None
    cancelled = any(one.disposition == outcomes.CANCELLED for one in decided)
    return outcomes.CANCELLED if cancelled else decided[0].disposition


_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": "string", "nullable": True}
_MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}

DECIDED_ADJUSTMENT: Final[Schema] = {
    "type": "object",
    "properties": {
        "object": {"type": "string", "enum": ["v2.billing.meter_event_adjustment"]},
        "id": _TEXT,
        "cancel": {"type": "object", "properties": {"identifier": _TEXT}, "required": ["identifier"]},
        "cancel_range": {
            "type": "object",
            "properties": {"customer": _TEXT_OR_NULL, "start_time": _MOMENT, "end_time": _MOMENT},
            "required": ["customer", "end_time", "start_time"],
        },
        "created": _MOMENT,
        "event_name": _TEXT,
        "events_cancelled": {"type": "integer", "nullable": True},
        "livemode": {"type": "boolean"},
        "outcome": _TEXT_OR_NULL,
        "status": {"type": "string", "enum": ["complete", "pending"]},
        "type": {"type": "string", "enum": ["cancel"]},
    },
    "required": ["created", "event_name", "events_cancelled", "id", "livemode", "object", "outcome", "status", "type"],
}

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="list_meter_event_adjustments",
        method="GET",
        path=PATH,
        face="v2",
        scope=SCOPES,
        fields=FIELDS,
        handler=list_adjustments,
        summary="Adjustments and what became of them, newest first",
        answer={
            "type": "object",
            "properties": {
                "data": {"type": "array", "items": {"$ref": "#/components/schemas/meterline.adjustment"}},
                "next_page_url": _TEXT_OR_NULL,
                "previous_page_url": _TEXT_OR_NULL,
            },
            "required": ["data", "next_page_url", "previous_page_url"],
        },
    ),
    Operation(
        name="retrieve_meter_event_adjustment",
        method="GET",
        path=PATH + "/{id}",
        face="v2",
        scope=SCOPES,
        handler=retrieve_adjustment,
        summary="What became of an adjustment",
        answer="meterline.adjustment",
    ),
)

SHAPES: Final[dict[str, Schema]] = {"meterline.adjustment": DECIDED_ADJUSTMENT}
