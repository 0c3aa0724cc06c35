"""The catalog's tables say what stands in its log, whatever happens to the sink that writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, CatalogObject, Meter, PackageDimensions, Plan, Product, Tier, TransformUsage
from pipeline.kafka import admin
from pipeline.kafka.producer import Publisher
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.sinks import SinkGroup, SinkProcess
from tests.workers import until

TIMES = {"livemode": True, "created_ms": 1_763_820_000_000, "updated_ms": 1_763_820_000_500, "version": 1}
METER = Meter(
    id="mtr_1", **TIMES, display_name="Miles", event_name="miles", formula="last", customer_key="who", value_key="much",
    event_time_window="day", dimension_payload_keys=("a", "b"),
)  # fmt: skip
PRODUCT = Product(
    id="gold", **TIMES, name="Gold", description="d", default_price="p1", images=("i",), marketing_features=("warm",),
    metadata={"k": "v"}, package_dimensions=PackageDimensions("1", "2.5", "3", "4"), shippable=True,
    statement_descriptor="S", tax_code="t", unit_label="u", url="https://example.com",
)  # fmt: skip
PLAN = Plan(
    id="p1", **TIMES, product="gold", currency="usd", interval="month", interval_count=2, amount=125 * 10**8,
    usage_type="metered", meter="mtr_1", transform_usage=TransformUsage(100, "up"), trial_period_days=14, nickname="n",
)  # fmt: skip
TIERED = Plan(
    id="p2", **TIMES, product="gold", currency="eur", interval="year", billing_scheme="tiered", tiers_mode="volume",
    tiers=(Tier(10, 5 * 10**12, None), Tier(None, None, 10**11)), metadata={"k": "v"},
)  # fmt: skip
KEY = ApiKey(
    id="k", **TIMES, name="n", kind="secret", scopes=(), hash="secrethash", hash_key="kid", hint="sk_"
)  # fmt: skip


def changed(one: CatalogObject, **changes: Any) -> Any:
    return dataclasses.replace(one, version=one.version + 1, **changes)


class Stand:
    def __init__(self, stack: Stack, namespace: str, client: Client, home: Path) -> None:
        self.topics = Topics(namespace)
        self.client = client
        self.group = SinkGroup(stack.kafka, namespace)
        self._publisher = Publisher({"bootstrap.servers": stack.kafka})
        self._start: Callable[[], SinkProcess] = lambda: SinkProcess(home, stack.kafka, stack.clickhouse, namespace)
        self.sinks: list[SinkProcess] = []

    def sink(self) -> SinkProcess:
        self.sinks.append(self._start())
        return self.sinks[-1]

    def write(self, *records: CatalogObject | bytes) -> None:
        for one in records:
            value = one if isinstance(one, bytes) else Codec().encode_catalog(one)
            self._publisher.publish(self.topics.catalog, b"x", value)
        self._publisher.flush(30)

    def settle(self) -> None:
        until(lambda: self.group.behind(self.topics.catalog) == 0, "the sink has done everything")

    def rows(self, table: str) -> dict[tuple[bool, str], dict[str, Any]]:
        found = self.client.query(f"SELECT * FROM {table} FINAL WHERE NOT deleted").named_results()
        return {(row["livemode"], row["id"]): row for row in found}


@pytest.fixture
def stand(stack: Stack, namespace: str, home: Path) -> Iterator[Stand]:
    home.mkdir()
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    admin.create({"bootstrap.servers": stack.kafka}, namespace, 2, 1)
    with connect(server) as client:
        found = Stand(stack, namespace, client, home)
        try:
            yield found
        finally:
            for one in found.sinks:
                one.end()
                print(f"--- the end of the sink's log:\n{one.log[-3000:]}")
            found.group.close()


def test_every_field_arrives(stand: Stand) -> None:
    stand.write(METER, PRODUCT, PLAN, TIERED, KEY, dataclasses.replace(PRODUCT, livemode=False))
    stand.sink()
    until(lambda: len(stand.rows("plans")) == 2, "the rows are there")
    (meter,), product = stand.rows("meters").values(), stand.rows("products")[True, "gold"]
    assert set(stand.rows("products")) == {(True, "gold"), (False, "gold")}
    assert (meter["event_name"], meter["status"], meter["formula"]) == ("miles", "active", "last")
    assert (meter["customer_payload_key"], meter["value_payload_key"]) == ("who", "much")
    assert (meter["event_time_window"], meter["dimension_payload_keys"]) == ("day", ["a", "b"])
    assert meter["updated"].replace(tzinfo=UTC).timestamp() == 1_763_820_000.5
    assert (product["images"], product["marketing_features"], product["metadata"]) == (["i"], ["warm"], {"k": "v"})
    assert product["package_dimensions"] == {"height": "1", "length": "2.5", "weight": "3", "width": "4"}
    assert (product["shippable"], product["url"], product["default_price"]) == (True, "https://example.com", "p1")
    plan, tiered = stand.rows("plans")[True, "p1"], stand.rows("plans")[True, "p2"]
    assert (plan["amount_decimal"], plan["interval"], plan["interval_count"]) == (Decimal("0.0125"), "month", 2)
    assert (plan["transform_divide_by"], plan["transform_round"], plan["trial_period_days"]) == (100, "up", 14)
    assert (plan["meter"], plan["usage_type"], plan["nickname"]) == ("mtr_1", "metered", "n")
    assert (tiered["tiers_mode"], tiered["tiers_up_to"], tiered["amount_decimal"]) == ("volume", [10, None], None)
    assert tiered["tiers_unit_amount_decimal"] == [Decimal(5), None]
    assert tiered["tiers_flat_amount_decimal"] == [None, Decimal("0.1")]


def test_what_the_logs_order_refused_is_in_no_table(stand: Stand) -> None:
    rival = dataclasses.replace(METER, id="mtr_2")
    renamed, lost = changed(METER, display_name="First"), changed(METER, display_name="Second")
    orphan = dataclasses.replace(PLAN, id="orphan", product="none")
    stand.sink()
    stand.write(METER, b"nonsense", rival, renamed, lost, orphan, PRODUCT, PLAN, changed(PRODUCT, deleted=True))
    stand.settle()
    assert {id_: row["display_name"] for (_, id_), row in stand.rows("meters").items()} == {"mtr_1": "First"}
    assert set(stand.rows("products")) == {(True, "gold")}
    assert set(stand.rows("plans")) == {(True, "p1")}


def test_a_sink_that_was_killed_knows_what_stands_when_it_comes_back(stand: Stand) -> None:
    first = stand.sink()
    stand.write(METER, PRODUCT, PLAN)
    stand.settle()
    first.kill()
    stand.write(
        changed(METER, deactivated_at_ms=1_763_820_001_000),
        dataclasses.replace(METER, display_name="too late"),
        changed(PLAN, deleted=True),
        changed(PRODUCT, deleted=True),
    )
    second = stand.sink()
    stand.settle()
    (meter,) = stand.rows("meters").values()
    assert (meter["status"], meter["display_name"], meter["version"]) == ("inactive", "Miles", 2)
    assert stand.rows("plans") == stand.rows("products") == {}
    third = stand.sink()
    stand.write(changed(changed(PRODUCT, deleted=True), deleted=False, name="Gold again"))
    stand.settle()
    second.stop()
    stand.write(changed(changed(METER, deactivated_at_ms=1_763_820_001_000), deactivated_at_ms=None))
    stand.settle()
    assert stand.rows("products")[True, "gold"]["name"] == "Gold again"
    assert stand.rows("meters")[True, "mtr_1"]["status"] == "active"
    assert third.alive()
