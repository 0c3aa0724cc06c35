"""FAULTS E13: gateways whose clocks are minutes off, beside one that is right: what is answered 200 counts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import stripe

from tests.answers import Client
from tests.conftest import Stack
from tests.gateways import GatewayHome, GatewayProcess
from tests.oracle import read_topic, specified

V2, STREAM = "/v2/billing/meter_events", "/v2/billing/meter_event_stream"
NAME, PARTITIONS = "miles", 2
REPOSITORY = Path(__file__).parents[2]


def started(home: GatewayHome, minutes: int) -> GatewayProcess:
    """A gateway whose clock is that far ahead, for all that runs in it."""
    directory = home.home / f"clock-{minutes}"
    directory.mkdir()
    code = f"import time\nright = time.time_ns\ntime.time_ns = lambda: right() + {minutes} * 60 * 10**9\n"
    (directory / "sitecustomize.py").write_text(code)
    return home.start(("env", f"PYTHONPATH={directory}{os.pathsep}{REPOSITORY}"))


def event(identifier: str, timestamp: int | None = None) -> dict[str, object]:
    made = {"event_name": NAME, "payload": {"stripe_customer_id": "c", "value": "1"}, "identifier": identifier}
    return made if timestamp is None else {**made, "timestamp": timestamp}


def sent(client: Client, path: str, body: dict[str, object]) -> list[int]:
    """The statuses of one request, sent again after a 503 as every SDK does."""
    statuses = [client.json(path, body).status]
    return [*statuses, client.json(path, body).status] if statuses == [503] else statuses


@pytest.mark.parametrize("minutes", [-10, -6, 6, 10])
def test_e13_a_gateway_with_a_wrong_clock_takes_what_counts(
    stack: Stack, namespace: str, tmp_path: Path, minutes: int
) -> None:
    """The first request comes before it has heard of the brokers' clock."""
    with GatewayHome(stack, namespace, tmp_path / "gateways", partitions=PARTITIONS) as home:
        home.start()
        key = home.new_key()
        right: stripe.StripeClient = home.stripe_client(key)
        meter = {"display_name": "Some", "event_name": NAME, "default_aggregation": {"formula": "sum"}}
        right.v1.billing.meters.create(meter)  # type: ignore[arg-type]
        gateway = started(home, minutes)
        token = home.stripe_client(key, gateway).v2.billing.meter_event_session.create().authentication_token
        now = int(time.time())
        with home.client(key, gateway) as single, home.client(token, gateway) as stream:
            first = sent(single, V2, event("first", now + 240 if minutes < 0 else None))
            assert first == ([503, 200] if minutes > 0 else [200])
            assert sent(single, V2, event("no timestamp")) == [200], "it knows by now"
            assert sent(stream, STREAM, {"events": [event("in a stream"), event("of now", now)]}) == [200]
            refused = single.json(V2, event("too far ahead", int(time.time()) + 400))
            assert (refused.status, refused.error["code"]) == (400, "timestamp_in_future")
        records = list(read_topic(stack.kafka, home.topics.journal))
        world, _ = specified(records, home.settings.rules, PARTITIONS)
        assert sum(shard.count for shard in world.shards.values()) == 4
        assert [one.identifier for one in world.dispositions.values()] == ["first"] * first.count(503)
        (said,) = [
            line for line in gateway.metrics().splitlines() if line.startswith("meterline_gateway_brokers_ahead")
        ]
        assert float(said.split()[1]) == pytest.approx(-60 * minutes, abs=30)
