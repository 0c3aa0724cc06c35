"""Meter events that tests post to a gateway, and what came of them in the topics."""

from __future__ import annotations

import json
import uuid

import stripe

from pipeline import wiring
from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.kafka.reading import read
from tests.gateways import GatewayHome

CODEC = Codec()
CUSTOMER = "stripe_customer_id"
V1, V2, STREAM = "/v1/billing/meter_events", "/v2/billing/meter_events", "/v2/billing/meter_event_stream"


def new_meter(client: stripe.StripeClient, **more: object) -> str:
    name = f"n_{uuid.uuid4().hex}"
    asked = {"display_name": "Some", "event_name": name, "default_aggregation": {"formula": "sum"}, **more}
    client.v1.billing.meters.create(asked)  # type: ignore[arg-type]
    return name


def meter_of(client: stripe.StripeClient, name: str) -> stripe.billing.Meter:
    return next(
        one for one in client.v1.billing.meters.list({"limit": 100}).auto_paging_iter() if one.event_name == name
    )


def in_journal(home: GatewayHome, name: str) -> list[MeterEvent]:
    """The events of one event name, as they stand in the journal, by identifier."""
    records = read(wiring.quiet_kafka(home.settings), home.topics.journal, "beginning")
    events = [CODEC.decode_journal(record.value) for record in records]
    return sorted(event for event in events if isinstance(event, MeterEvent) and event.event_name == name)


def letters(home: GatewayHome, request_id: str) -> list[tuple[str | None, str, object]]:
    """(key, reason, value) of the dead letters of one request."""
    found = []
    for record in read(wiring.quiet_kafka(home.settings), home.topics.dead_letters, "beginning"):
        headers = {name: bytes(said or b"").decode() for name, said in record.headers}  # type: ignore[arg-type]
        if headers["request"] == request_id:
            key = None if record.key is None else record.key.decode()
            found.append((key, headers["reason"], json.loads(record.value or b"")))
    return found


def event(name: str, value: object = "1", **more: object) -> dict:
    return {"event_name": name, "payload": {CUSTOMER: "cus_1", "value": value}, **more}


def form_event(name: str, value: str = "1", **more: str) -> dict[str, str]:
    return {"event_name": name, f"payload[{CUSTOMER}]": "cus_1", "payload[value]": value, **more}
