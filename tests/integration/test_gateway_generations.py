"""A gateway while generations change: it answers by what is shown, not by what is decided."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import stripe

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.generations import create_tables, show
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.tables import derived
from pipeline.codec.records import Codec
from pipeline.domain.generations import BUILDING, LIVE
from pipeline.kafka.generations import GenerationLedger
from tests.conftest import Stack
from tests.gateways import GatewayHome, until
from tests.usage import Usage

RANGE = {"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-04-01T00:00:00Z"}
COPIED = f"INSERT INTO {derived('summary_shards', 2)} SELECT * FROM {derived('summary_shards')} WHERE shard = "


def test_sums_do_not_go_back_before_the_new_tables_are_at_the_head(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    """A switch by hand. The new generation takes events of tomorrow: that is how a gateway shows that it knows it."""
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    with connect(server) as client, GatewayHome(stack, namespace, tmp_path) as home:
        usage = Usage(client, "tokens", livemode=False)
        usage.add("cus_1", "2026-03-28T10:00", "2")
        usage.add("cus_1", "2026-03-28T10:00", "3", shard=1)
        home.start()
        key = home.new_key()
        sdk = home.stripe_client(key)
        meter = sdk.v1.billing.meters.create(
            {"display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
        )

        def total() -> str:
            with home.client(key) as http:
                found = http.ask("GET", f"/meterline/v1/meters/{meter.id}/usage", params=RANGE).body
            return found["data"][0]["values"]["sum"]

        def takes_tomorrow() -> bool:
            payload = {"stripe_customer_id": "cus_2", "value": "1"}
            tomorrow = int(time.time()) + 86_400
            try:
                sdk.v1.billing.meter_events.create({"event_name": "tokens", "payload": payload, "timestamp": tomorrow})
            except stripe.InvalidRequestError:
                return False
            return True

        assert (total(), takes_tomorrow()) == ("5", False)
        create_tables(client, 2, 1)
        client.command(COPIED + "0")
        ledger = GenerationLedger({"bootstrap.servers": stack.kafka}, namespace, Codec())
        rules = dataclasses.replace(home.settings.rules, max_ahead_ms=2 * 86_400_000)
        for state in (BUILDING, LIVE):
            ledger.append(2, state, 1, 2, rules.version)
        until(takes_tomorrow, "the gateway has read the decision")
        assert total() == "5", "the new table has 2 of them so far"
        client.command(COPIED + "1")
        show(client, 2, 1)
        usage.add("cus_1", "2026-03-28T10:01", "4", shard=2)
        client.command(COPIED + "2")
        until(lambda: total() == "9", "the new generation is read")
