"""Every operation with requests that are drawn from its own description, good ones and bad ones.

No answer is a server error, and each fits both our document and Stripe's. Some of the values are real ids, so that what
lies behind the first look-up is reached too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.gateway.document import openapi
from pipeline.gateway.operations import Operation
from pipeline.gateway.routes import OPERATIONS, SHAPES
from tests.answers import check_answer
from tests.conftest import Stack
from tests.gateways import GatewayHome

EXAMPLES = 8
"""Of each operation, good ones and as many bad ones: at most forty seconds for all."""
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
SCHEMA = schemathesis.openapi.from_dict(openapi(OPERATIONS, SHAPES))
MODES = {"good": GenerationMode.POSITIVE, "bad": GenerationMode.NEGATIVE}


class World:
    """A gateway with one object of each kind, and clients for it."""

    def __init__(self, home: GatewayHome) -> None:
        home.migrate()
        self.gateway = home.start()
        self.url = self.gateway.url
        key = home.new_key()
        with home.client(key) as client:
            aggregation = {"default_aggregation[formula]": "sum"}
            meter = client.form("/v1/billing/meters", display_name="Drawn", event_name="drawn", **aggregation).body
            product = client.form("/v1/products", name="Drawn").body
            plan = client.form("/v1/plans", currency="eur", interval="month", amount="1000", product=product["id"]).body
            session = client.json("/v2/billing/meter_event_session", {}).body
        self.known = {
            "meter": meter["id"],
            "product": product["id"],
            "plan": plan["id"],
            "event_name": "drawn",
            "customer": "cus_1",
            "payload": {"stripe_customer_id": "cus_1", "value": "1"},
        }
        self.ids = {"meters": meter["id"], "products": product["id"], "plans": plan["id"]}
        self.keys = {False: key, True: session["authentication_token"]}


@pytest.fixture(scope="module")
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with GatewayHome(stack, f"fuzz{time.time_ns() % 10**9}", tmp_path_factory.mktemp("fuzz")) as home:
        yield World(home)


def make_real(case: schemathesis.Case, world: World, draw: Any) -> None:
    """Real ids and names in the place of some of the drawn ones."""
    for name in case.path_parameters or {}:
        if draw(st.booleans()):
            kind = next((part for part in case.path.split("/") if part in world.ids), None)
            case.path_parameters[name] = world.ids.get(kind or "", "a")
    for given_ in (case.query, case.body):
        if isinstance(given_, dict):
            for name in given_.keys() & world.known.keys():
                if draw(st.integers(0, 3)):
                    given_[name] = world.known[name]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_drawn_request_is_worse_than_refused(operation: Operation, mode: str, world: World) -> None:
    described = SCHEMA[operation.path][operation.method]
    if mode == "bad" and not (described.query or described.body or described.path_parameters):
        return  # there is nothing that could be wrong with it

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(described.as_strategy(generation_mode=MODES[mode]))
        make_real(case, world, data.draw)
        key = world.keys[operation.session]
        headers = {**(case.headers or {}), "Authorization": f"Bearer {key}"}
        got = case.call(base_url=world.url, headers=headers)
        lower = {name.lower(): values[0] for name, values in got.headers.items()}
        assert got.status_code < 500, (case.as_curl_command(), world.gateway.log[-2_000:])
        check_answer(operation.method, got.request.url, got.status_code, lower, got.content)
        case.validate_response(got, checks=CHECKS)

    ask()
