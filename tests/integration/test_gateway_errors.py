"""Every operation of the table, asked wrongly; and what a gateway says whose neighbours are away.

Rows S5, S13, S23, S25.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

from pipeline.gateway.operations import Operation
from pipeline.gateway.routes import OPERATIONS
from tests.answers import Client, json_schema
from tests.conftest import Stack
from tests.gateways import GatewayHome, until

POSTS = [one for one in OPERATIONS if one.method == "POST"]
JSON_POSTS = [one for one in POSTS if one.face != "v1"]
INSIDE = re.compile(
    r"Traceback|\.py|SELECT |kafka|clickhouse|meter-events|/usr|/root|/home|librdkafka|:\d{4,5}\b", re.IGNORECASE
)
"""What belongs into our log alone."""


def named(operation: Operation) -> str:
    return operation.name


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    with GatewayHome(stack, f"errors{time.time_ns() % 10**9}", tmp_path_factory.mktemp("errors")) as one:
        one.start()
        yield one


@pytest.fixture(scope="module")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="module")
def client(home: GatewayHome, key: str) -> Iterator[Client]:
    with home.client(key) as one:
        yield one


@pytest.fixture(scope="module")
def token(client: Client) -> str:
    return client.json("/v2/billing/meter_event_session", {}).body["authentication_token"]


def path_of(operation: Operation) -> str:
    return re.sub(r"\{\w+\}", "none_1", operation.path)


def auth(operation: Operation, key: str, token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token if operation.session else key}"}


@pytest.mark.parametrize("field", ["livemode", "created", "object", "updated", "tenant"])
@pytest.mark.parametrize("operation", POSTS, ids=named)
def test_s5_what_only_the_server_writes_is_refused(
    operation: Operation, field: str, client: Client, key: str, token: str
) -> None:
    headers = auth(operation, key, token)
    if operation.face == "v1":
        answer = client.form(path_of(operation), headers=headers, **{field: "true"})
    else:
        answer = client.json(path_of(operation), {field: True}, headers=headers)
    assert answer.status == 400, answer.body
    assert answer.error["code"] == "parameter_unknown"
    assert answer.error["param"] == field


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"{} {}",
        b'{"a": 1',
        b"[" * 50_000,
        b"\xff",
        b"[]",
        b"1",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
@pytest.mark.parametrize("operation", JSON_POSTS, ids=named)
def test_s13_bad_json_is_a_400_everywhere(
    operation: Operation, body: bytes, client: Client, key: str, token: str
) -> None:
    answer = client.json(path_of(operation), body, headers=auth(operation, key, token))
    assert answer.status == 400
    assert answer.error["code"] == "invalid_json"
    assert len(answer.content) < 600


@pytest.mark.parametrize("operation", POSTS, ids=named)
def test_a_body_of_another_type_is_refused(operation: Operation, client: Client, key: str, token: str) -> None:
    for said in ("text/plain", "application/json" if operation.face == "v1" else "application/x-www-form-urlencoded"):
        headers = {**auth(operation, key, token), "Content-Type": said}
        answer = client.ask("POST", path_of(operation), data=b"a=1", headers=headers)
        assert answer.status == 415
        assert "Content-Type" in answer.error["message"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=named)
def test_other_methods_are_refused_by_name(operation: Operation, client: Client) -> None:
    allowed = {one.method for one in OPERATIONS if one.path == operation.path}
    for method in {"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"} - allowed:
        answer = client.ask(method, path_of(operation))
        assert answer.status == 405, (method, answer.content)
        assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.scope], ids=named)
def test_without_a_key_nothing_is_told(operation: Operation, home: GatewayHome) -> None:
    """Neither whether an object is there, nor what is wrong with the parameters."""
    with home.client() as nobody:
        answer = nobody.ask(operation.method, path_of(operation), params={"limit": "x"})
    assert answer.status == 401
    assert answer.headers["www-authenticate"]


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.scope is None], ids=named)
def test_what_needs_no_key_is_served_as_it_is_described(operation: Operation, home: GatewayHome) -> None:
    with home.client() as nobody:
        answer = nobody.get(operation.path)
        document = nobody.get("/meterline/v1/openapi.json").body
    assert answer.status == 200
    media_type = answer.headers["content-type"]
    described = document["paths"][operation.path]["get"]["responses"]["200"]["content"]
    assert media_type in described
    assert json_schema(document, described[media_type]["schema"])["type"] == (
        "object" if media_type == "application/json" else "string"
    )


def test_s25_the_document_that_is_served_names_what_is_served(client: Client, key: str, token: str) -> None:
    document = client.get("/meterline/v1/openapi.json").body
    for path, methods in document["paths"].items():
        for method in methods:
            answer = client.ask(method.upper(), re.sub(r"\{\w+\}", "none_1", path))
            assert answer.status not in (405, 415), f"{method} {path} is described and not served"
            assert answer.status != 404 or "request URL" not in answer.error["message"], f"{method} {path}"


def parts_of(url: str) -> dict[str, Any]:
    with urlopen(f"{url}/health/ready", timeout=5) as answer:
        return json.loads(answer.read())


def test_s23_without_clickhouse_usage_is_taken_and_questions_hear_503(home: GatewayHome, key: str) -> None:
    gateway = home.start(CLICKHOUSE="http://127.0.0.1:9")
    until(lambda: parts_of(gateway.url)["parts"]["clickhouse"] == "waiting", "it is noticed")
    assert parts_of(gateway.url)["status"] == "ready"
    with home.client(key, gateway) as client:
        fields = {"display_name": "Alone", "event_name": "alone", "default_aggregation[formula]": "sum"}
        meter = client.form("/v1/billing/meters", **fields).body["id"]
        event = {"event_name": "alone", "payload": {"stripe_customer_id": "cus_1", "value": "1"}}
        assert client.json("/v2/billing/meter_events", event).status == 200
        answer = client.get(
            f"/v1/billing/meters/{meter}/event_summaries", customer="cus_1", start_time=0, end_time=3_600
        )
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert not INSIDE.search(answer.content.decode()), answer.content


def test_s23_a_gateway_that_is_not_ready_says_so_and_no_more(home: GatewayHome, key: str) -> None:
    """Without Kafka nobody knows any key: 503, and not 401."""
    gateway = home.start(ready=False, KAFKA="127.0.0.1:9")
    with home.client(key, gateway) as client:
        assert client.get("/health/live").status == 200
        health = client.get("/health/ready")
        assert health.status == 503
        assert health.body["parts"]["kafka"] == "waiting"
        assert health.body["status"] == "not_ready"
        for operation in OPERATIONS:
            if operation.scope:
                answer = client.ask(operation.method, path_of(operation))
                assert answer.status == 503, operation.name
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["stripe-should-retry"] == "true"
                assert not INSIDE.search(answer.error["message"]), answer.content
    assert gateway.stop() < 10.0
