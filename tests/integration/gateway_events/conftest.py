"""One gateway for all tests of events: its clients, and a new meter for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import stripe

from tests.conftest import Stack
from tests.gateways import GatewayHome
from tests.posted import new_meter


@pytest.fixture(scope="package")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("events")
    with GatewayHome(stack, f"t_ev_{uuid.uuid4().hex[:12]}", directory) as home:
        home.start()
        yield home


@pytest.fixture(scope="package")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="package")
def client(home: GatewayHome, key: str) -> stripe.StripeClient:
    return home.stripe_client(key)


@pytest.fixture(scope="package")
def http(home: GatewayHome, key: str):
    with home.client(key) as client:
        yield client


@pytest.fixture(scope="package")
def token(client: stripe.StripeClient) -> str:
    return client.v2.billing.meter_event_session.create().authentication_token


@pytest.fixture(scope="package")
def stream(home: GatewayHome, token: str):
    with home.client(token) as client:
        yield client


@pytest.fixture
def name(client: stripe.StripeClient) -> str:
    """The event name of a new meter."""
    return new_meter(client)
