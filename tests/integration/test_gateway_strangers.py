"""What strangers try: objects of the other mode under every path, and SQL in every word that can be sent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest

from pipeline import wiring
from pipeline.clickhouse.connection import connect
from pipeline.clickhouse.migrations import migrate
from pipeline.gateway.routes import OPERATIONS
from tests.answers import Answer, Client
from tests.conftest import Stack
from tests.gateways import GatewayHome, until

BY_ID = [operation for operation in OPERATIONS if "{" in operation.path]
SAMPLES = {"customer": "c", "start_time": "1700000040", "end_time": "1700003640", "display_name": "x", "name": "x"}
"""Of parameters that have to be there."""


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("strangers")
    with GatewayHome(stack, f"t_str_{uuid.uuid4().hex[:12]}", directory) as home:
        list(migrate(wiring.clickhouse(home.settings)))
        home.start()
        yield home


@pytest.fixture(scope="module")
def live(home: GatewayHome) -> Iterator[Client]:
    with home.client(home.new_key(livemode=True)) as client:
        yield client


@pytest.fixture(scope="module")
def objects(home: GatewayHome, live: Client) -> dict[str, str]:
    """An object of live mode of each kind, by what the paths of its kind have in common."""
    client = live
    token = client.json("/v2/billing/meter_event_session", {}).body["authentication_token"]
    with home.client(token) as stream:
        nobodys = {"event_name": "nobody_reads_this", "payload": {}}
        assert stream.json("/v2/billing/meter_event_stream", {"events": [nobodys]}).status == 200
    meter = client.form("/v1/billing/meters", **meter_form(f"n_{uuid.uuid4().hex}")).body["id"]
    product = client.form("/v1/products", name="Gold").body["id"]
    plan = {"currency": "usd", "interval": "month", "amount": "1000", "product": product}
    cancel = {"event_name": "e", "type": "cancel", "cancel": {"identifier": "i"}}
    until(lambda: client.get("/v1/events").body["data"], "the meter's making is told")
    until(lambda: client.get("/v2/core/events").body["data"], "the event without a meter is reported")
    return {
        "/core/events/": client.get("/v2/core/events").body["data"][0]["id"],
        "/meters/": meter,
        "/products/": product,
        "/plans/": client.form("/v1/plans", **plan).body["id"],
        "/meter_event_adjustments/": client.json("/v2/billing/meter_event_adjustments", cancel).body["id"],
        "/events/": client.get("/v1/events").body["data"][0]["id"],
    }


def meter_form(event_name: str) -> dict[str, str]:
    return {"display_name": "x", "event_name": event_name, "default_aggregation[formula]": "sum"}


def asked(client: Client, operation, id_: str) -> Answer:
    path = re.sub(r"\{\w+\}", id_, operation.path)
    fields = {name: SAMPLES[name] for name, field in operation.fields.items() if field.required}
    if operation.method == "POST":
        return client.form(path, **fields)
    return client.get(path, **fields) if operation.method == "GET" else client.delete(path, **fields)


@pytest.mark.parametrize("operation", BY_ID, ids=lambda operation: operation.name)
def test_s2_s3_an_object_of_the_other_mode_is_answered_as_one_that_is_not_there(home, live, objects, operation):
    """FAULTS S2, S3: made from the table of operations, so that a new path with an id is asked as well."""
    id_ = next(objects[part] for part in objects if part in operation.path)
    absent = re.sub(r"[0-9A-Za-z]{12}$", "nothingthere", id_)
    with home.client(home.new_key()) as test:
        other, none = asked(test, operation, id_), asked(test, operation, absent)
    assert (other.status, none.status) == (404, 404), other.content
    assert other.content.replace(id_.encode(), b"ID") == none.content.replace(absent.encode(), b"ID")
    if operation.method == "GET":
        assert asked(live, operation, id_).status != 404


HOSTILE = ["'; DROP TABLE summary_shards_g1; --", "{x:Identifier}", "{customer:String}", "`x`", '"x"', "\\", "\\'"]
HOSTILE += ["/* x */ -- ", "%s%n", "$1", "x' OR 1=1", "') UNION ALL SELECT * FROM system.users --", "\U0001f642'"]


def test_s14_sql_in_any_word_is_a_word(home):
    """FAULTS S14: event names, customers, dimensions, filters, groups, zones, pages and identifiers."""
    server = wiring.clickhouse(home.settings)
    with connect(server) as engine:
        before = engine.query("SHOW TABLES").result_rows
    span = {"start_time": "1700000040", "end_time": "1700003640"}
    with home.client(home.new_key()) as client:
        for number, word in enumerate(HOSTILE):
            made = client.form(
                "/v1/billing/meters",
                **meter_form(word),
                **{"dimension_payload_keys[0]": word, "value_settings[event_payload_key]": f"v{number}"},
            )
            assert made.status == 200, made.content
            meter = made.body["id"]
            usage = f"/meterline/v1/meters/{meter}/usage"
            for path, query in (
                (f"/v1/billing/meters/{meter}/event_summaries", {**span, "customer": word}),
                (usage, {**span, "customers[0]": word}),
                (usage, {**span, f"filter[{word}]": word, "group_by[0]": word, "per_customer": "true"}),
                (usage, {**span, "group_by[0]": word}),
                (f"/meterline/v1/meters/{meter}/explanation", {"identifier": word}),
                (f"/meterline/v1/meters/{meter}/explanation", {**span, "customer": word}),
            ):
                answer = client.get(path, **query)
                assert answer.status == 200 or "[" in word or "]" in word, (path, query, answer.content)
            for query in ({"zone": word}, {"page": word}, {"aggregations[0]": word}, {"window": word}):
                assert client.get(usage, **span, **query).status == 400, query
            assert client.get("/v1/products/search", query=f"name:'{word}'").status in (200, 400)
    with connect(server) as engine:
        assert engine.query("SHOW TABLES").result_rows == before
