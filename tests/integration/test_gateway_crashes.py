"""kill -9 of a gateway at any moment: what was answered with success is in the journal, and a retry never counts twice.

The only oracle is the client's own ledger of answers, beside the journal folded by the specification.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import stripe

from pipeline.domain.limits import VALUE_UNIT
from pipeline.local import ports
from tests.conftest import Stack
from tests.gateways import PATIENCE_S, GatewayHome, GatewayProcess
from tests.oracle import expected, read_topic

CUSTOMER = "stripe_customer_id"
PARTITIONS = 2
V2 = "/v2/billing/meter_events"
ROUNDS_MAX = 60
APPENDED_WITHIN_S = 0.4
"""What a frozen gateway has sent reaches the journal long before this."""


@pytest.fixture
def home(stack: Stack, namespace: str, tmp_path) -> Iterator[GatewayHome]:
    with GatewayHome(stack, namespace, tmp_path / "gateway", partitions=PARTITIONS) as home:
        yield home


class Restarted:
    """A gateway that always comes back at the same address."""

    def __init__(self, home: GatewayHome) -> None:
        self._home = home
        (self._port,) = ports.choose([0])
        self.now: GatewayProcess = self.start()

    def start(self, *, ready: bool = True) -> GatewayProcess:
        self.now = self._home.start(ready=ready, GATEWAY_LISTEN=f"127.0.0.1:{self._port}")
        return self.now


def new_meter(client: stripe.StripeClient) -> str:
    name = f"n_{uuid.uuid4().hex}"
    client.v1.billing.meters.create(
        {"display_name": "x", "event_name": name, "default_aggregation": {"formula": "sum"}}
    )
    return name


def copies_of(home: GatewayHome, identifier: str) -> int:
    topic = home.topics.journal
    return sum(record.key == identifier.encode() for record in read_topic(home.settings.kafka, topic))


def counted(home: GatewayHome) -> dict[tuple[str, str], int]:
    """Sum by (event name, customer), of the journal as it stands, folded by the specification."""
    world, _ = expected(home.settings.kafka, home.settings.namespace, home.settings.rules, PARTITIONS)
    return {key: units for key, units in world.totals().items() if units}


def raw_request(port: int, key: str, idempotency_key: str, body: str) -> bytes:
    head = f"POST {V2} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nIdempotency-Key: {idempotency_key}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a1_a2_killed_between_a_request_and_its_answer(home):
    """FAULTS A1, A2: frozen at a random moment after the request, looked at, then killed.

    Goes on until the two cases that matter have been hit: the record was in the journal and the client had no answer,
    and it was not. In both the client's retry ends in success, and the event counts once.
    """
    gateway = Restarted(home)
    key = home.new_key()
    name = new_meter(home.stripe_client(key))
    seen = {"appended, not answered": 0, "not appended": 0, "answered": 0}
    identifiers: list[str] = []
    for _ in range(ROUNDS_MAX):
        if min(seen["appended, not answered"], seen["not appended"]) >= 2:
            break
        identifier = uuid.uuid4().hex
        body = f'{{"event_name": "{name}", "identifier": "{identifier}", '
        body += f'"payload": {{"{CUSTOMER}": "c", "value": "1"}}}}'
        port = gateway.now.port
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(raw_request(port, key, identifier, body))
            time.sleep(random.uniform(0, 0.012))
            gateway.now.freeze()
            time.sleep(APPENDED_WITHIN_S)
            copies = copies_of(home, identifier)
            connection.settimeout(0.01)
            try:
                answered = connection.recv(12).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                answered = False
        assert copies == 1 or not answered, "no success without the record"
        case = "answered" if answered else "appended, not answered" if copies else "not appended"
        seen[case] += 1
        identifiers.append(identifier)
        if answered:
            gateway.now.thaw()
        else:
            gateway.now.kill()
            gateway.start()
        again = requests.post(
            gateway.now.url + V2,
            data=body,
            headers={
                "Authorization": f"Bearer {key}",
                "Content-Type": "application/json",
                "Idempotency-Key": identifier,
            },
            timeout=30,
        )
        assert again.status_code == 200, again.text
    assert min(seen["appended, not answered"], seen["not appended"]) >= 2, seen
    assert all(1 <= copies_of(home, identifier) <= 2 for identifier in identifiers)
    assert counted(home) == {(name, "c"): len(identifiers) * VALUE_UNIT}


def test_a3_the_sdks_own_retries_across_kills_end_in_exactly_one_event_each(home):
    """FAULTS A3: eight clients of the official SDK under load, while the gateway is killed -9 and comes back."""
    gateway = Restarted(home)
    key = home.new_key()
    name = new_meter(home.stripe_client(key))
    over = threading.Event()
    kills = 0

    def use(number: int) -> int:
        client = home.stripe_client(key, gateway.now, max_network_retries=20)
        sent = 0
        while not over.is_set():
            event = {"event_name": name, "payload": {CUSTOMER: f"cus_{number}", "value": "1"}}
            once = {"idempotency_key": uuid.uuid4().hex}
            made = None
            while made is None:
                # The SDK does not try again by itself when an answer breaks off in its middle.
                with contextlib.suppress(stripe.APIConnectionError):
                    made = client.v1.billing.meter_events.create(event, options=once)
            assert made.identifier
            sent += 1
        return sent

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(use, number) for number in range(8)]
        try:
            for _ in range(6):
                time.sleep(random.uniform(0.3, 1.2))
                gateway.now.kill()
                kills += 1
                gateway.start(ready=random.random() < 0.5)
        finally:
            over.set()
        sent = [one.result(PATIENCE_S) for one in running]
    assert kills == 6
    assert min(sent) > 0
    assert counted(home) == {(name, f"cus_{number}"): count * VALUE_UNIT for number, count in enumerate(sent)}


def test_a3_of_streams_under_load_no_answered_one_is_lost(home):
    """FAULTS A3: streams of fifty events on many connections; the client's ledger says which were answered."""
    gateway = Restarted(home)
    key = home.new_key()
    client = home.stripe_client(key)
    name = new_meter(client)
    token = client.v2.billing.meter_event_session.create().authentication_token
    ledger: list[tuple[str, bool]] = []
    killed = threading.Event()

    def stream(number: int) -> None:
        with requests.Session() as session:
            for call in range(10_000):
                mark = f"{number}-{call}"
                payload = {CUSTOMER: mark, "value": "1"}
                events = [{"event_name": name, "payload": payload, "identifier": f"{mark}-{n}"} for n in range(50)]
                try:
                    answer = session.post(
                        f"{gateway.now.url}/v2/billing/meter_event_stream",
                        json={"events": events},
                        headers={"Authorization": f"Bearer {token}"},
                        timeout=30,
                    )
                    ledger.append((mark, answer.status_code == 200))
                except requests.RequestException:
                    ledger.append((mark, False))
                    return

    with ThreadPoolExecutor(24) as pool:
        running = [pool.submit(stream, number) for number in range(24)]
        time.sleep(2.0)
        gateway.now.kill()
        killed.set()
        for one in running:
            one.result(PATIENCE_S)
    answered = {mark for mark, ok in ledger if ok}
    unknown = {mark for mark, ok in ledger if not ok}
    assert len(answered) > 100
    assert len(unknown) == 24, "every client was cut off in the middle of a call, or before one"
    totals = {customer: units // VALUE_UNIT for (_, customer), units in counted(home).items()}
    assert {mark: totals.get(mark) for mark in answered} == dict.fromkeys(answered, 50)
    assert set(totals) <= answered | unknown


def test_h6_a_client_that_goes_away_leaves_all_of_its_request_or_nothing(home):
    """FAULTS H6: connections that end at any moment of a stream call."""
    gateway = home.start()
    key = home.new_key()
    client = home.stripe_client(key)
    name = new_meter(client)
    token = client.v2.billing.meter_event_session.create().authentication_token
    for call in range(60):
        events = ",".join(
            f'{{"event_name":"{name}","payload":{{"{CUSTOMER}":"c{call:02}","value":"1"}},"identifier":"{call}-{n}"}}'
            for n in range(100)
        )
        body = f'{{"events":[{events}]}}'.encode()
        head = f"POST /v2/billing/meter_event_stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            cut = len(body) if call % 2 else random.randrange(len(body))
            connection.sendall(head.encode() + body[:cut])
            if call % 2:
                time.sleep(random.uniform(0, 0.006))
    assert client.v1.billing.meters.list()
    time.sleep(APPENDED_WITHIN_S)
    found = {customer: units // VALUE_UNIT for (_, customer), units in counted(home).items()}
    assert set(found.values()) == {100}
    assert set(found) <= {f"c{call:02}" for call in range(60) if call % 2}, "half a body is nothing"
    assert len(found) > 5
