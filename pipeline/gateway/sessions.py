"""Meter event sessions: a token for the stream, good for fifteen minutes on any gateway. Nothing is stored."""

from __future__ import annotations

from pipeline.gateway.calls import Call
from pipeline.gateway.ids import object_id
from pipeline.gateway.moments import rfc_3339
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parts import Parts
from pipeline.gateway.tokens import SCOPE, Tokens

_MOMENT: Schema = {"type": "string", "format": "date-time"}


async def create_session(parts: Parts, call: Call) -> Answer:
    """A repeat makes another session: there is nothing in one that could be counted twice."""
    tokens = parts.tokens
    assert isinstance(tokens, Tokens)
    secrets = parts.settings.secrets
    session = tokens.issue(
        call.key,
        object_id(
            "session",
            livemode=call.key.livemode,
            operation=call.operation.name,
            idempotency_key=call.idempotency_key,
            secret=secrets.by_kid[secrets.signing_kid],
        ),
    )
    return Answer(
        {
            "id": session.id,
            "object": "v2.billing.meter_event_session",
            "authentication_token": session.token,
            "created": rfc_3339(session.created_ms),
            "expires_at": rfc_3339(session.expires_at_ms),
            "livemode": session.livemode,
        },
        headers={"cache-control": "no-store"},
    )


SHAPES: dict[str, Schema] = {
    "v2.billing.meter_event_session": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "object": {"type": "string", "enum": ["v2.billing.meter_event_session"]},
            "authentication_token": {"type": "string"},
            "created": _MOMENT,
            "expires_at": _MOMENT,
            "livemode": {"type": "boolean"},
        },
        "required": ["authentication_token", "created", "expires_at", "id", "livemode", "object"],
        "additionalProperties": False,
    }
}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="create_meter_event_session",
        method="POST",
        path="/v2/billing/meter_event_session",
        face="v2",
        scope=SCOPE,
        handler=create_session,
        summary="Get a token for the stream.",
        answer="v2.billing.meter_event_session",
    ),
)
