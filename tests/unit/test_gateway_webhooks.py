"""Endpoints as the settings say them, signatures, pauses, and catalog events: all that needs no server."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import socket
import threading
import time
from typing import Self

import pytest
import stripe

from pipeline import wiring
from pipeline.codec.records import Codec
from pipeline.domain.catalog import ApiKey, Meter, PackageDimensions, Plan, Product
from pipeline.domain.catalog_log import Applied
from pipeline.domain.core_events import CoreEvent
from pipeline.errors import SettingsError
from pipeline.gateway import webhooks
from pipeline.gateway.core_events import full_body
from pipeline.gateway.snapshot_events import event_body
from pipeline.gateway.snapshots import event_of
from pipeline.gateway.webhook_endpoints import Endpoint, read_endpoints
from pipeline.gateway.webhooks import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_s, payload_of, send, signature
from pipeline.settings import Settings

SECRET = "whsec_0123456789abcdef"
MESSAGE_BYTES_MAX = 1_000_000 - 10_000
"""Of librdkafka, less what a record has beside its value."""


def test_endpoints_are_lines_of_url_secret_mode_and_types():
    read = read_endpoints(
        f"https://a.example/hook?x=1 {SECRET}; http://[::1]:8080/ {SECRET} live plan.*\n"
        f"# one that rests: https://b.example {SECRET}\n\nhttps://c.example {SECRET} test plan.created product.*"
    )
    assert read == (
        Endpoint("https://a.example/hook?x=1", SECRET),
        Endpoint("http://[::1]:8080/", SECRET, True, ("plan.*",)),
        Endpoint("https://c.example", SECRET, False, ("plan.created", "product.*")),
    )
    assert read_endpoints("") == ()


@pytest.mark.parametrize(
    "said",
    [
        "https://a.example",
        f"ftp://a.example {SECRET}",
        f"//a.example {SECRET}",
        f"https://user:word@a.example {SECRET}",
        f"https://a.example/\u00e9 {SECRET}",
        "https://a.example tooshort",
        f"https://a.example {SECRET} Plan",
        f"https://a.example {SECRET} plan.*.created",
        f"https://a.example {SECRET}; https://a.example {SECRET}",
        "; ".join(f"https://{number}.example {SECRET}" for number in range(17)),
    ],
)
def test_what_cannot_be_meant_is_refused_without_repeating_a_secret(said):
    settings = Settings.load({"METERLINE_WEBHOOKS": said})
    with pytest.raises(SettingsError, match="METERLINE_WEBHOOKS: expected") as refused:
        wiring.webhook_endpoints(settings)
    assert SECRET not in str(refused.value)
    assert "tooshort" not in str(refused.value)
    assert SECRET not in repr(settings)


def test_an_endpoint_never_shows_its_secret():
    endpoint = Endpoint("https://a.example", SECRET)
    assert SECRET not in repr(endpoint)
    assert "a.example" not in endpoint.name


def test_wants():
    event = CoreEvent("evt_1", "plan.created", 1, True, None, "{}")
    for types, wanted in (
        ((), True),
        (("plan.*",), True),
        (("plan.created",), True),
        (("plan.c",), False),
        (("*",), True),
    ):
        assert Endpoint("https://a.example", SECRET, None, types).wants(event) == wanted
    assert Endpoint("https://a.example", SECRET, True).wants(event)
    assert not Endpoint("https://a.example", SECRET, False).wants(event)


def test_a_signature_is_that_of_the_sdk():
    for body in (b"{}", '{"name":"Z\u00fcrich \U0001f6eb"}'.encode()):
        made = signature(SECRET, body, 1_700_000_000)
        assert made == stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET, 1_700_000_000)


def test_pauses_grow_to_six_hours():
    for attempts in range(1, 100):
        longest = min(FIRST_PAUSE_S * 4 ** (attempts - 1), LONGEST_PAUSE_S)
        assert longest / 2 <= pause_s(attempts) <= longest


METER = Meter(
    id="mtr_test_1", livemode=False, created_ms=1_000, updated_ms=1_000, version=1, display_name="M", event_name="m",
    formula="sum",
)  # fmt: skip


def test_the_same_change_is_the_same_event_whoever_makes_it():
    first, second = (event_of(Applied(None, METER), lambda livemode, product: ()) for _ in range(2))
    assert first == second
    assert first.id.startswith("evt_test_")
    later = event_of(Applied(METER, dataclasses.replace(METER, version=2, updated_ms=9_000)), lambda *_: ())
    assert later.id != first.id
    assert (later.type, later.created_ms) == ("billing.meter.updated", 9_000)


def test_an_event_has_what_was_before_and_nothing_of_what_stayed():
    after = dataclasses.replace(METER, version=2, updated_ms=9_000, deactivated_at_ms=9_000)
    event = event_of(Applied(METER, after), lambda *_: ())
    assert json.loads(event.data)["previous_attributes"] == {
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": 1,
    }


def test_sizes_keep_their_digits_on_the_way_out():
    sizes = PackageDimensions("0.1", "1000000000.000000000001", "3", "2.5")
    product = Product(id="p", livemode=True, created_ms=1, updated_ms=1, version=1, name="P", package_dimensions=sizes)
    event = event_of(Applied(None, product), lambda *_: ())
    assert b'"length":1000000000.000000000001' in payload_of(event)


@pytest.mark.parametrize("data", ['{"a":' * 2_000, '{"object":{"name":"\\ud800"}}', "[]", "none", ""])
def test_s13_an_event_that_nobody_can_read_is_in_nobodys_way(data):
    """Whoever may write to the topic may write this; lists leave it out, and webhooks go on behind it."""
    event = event_of(Applied(None, METER), lambda *_: ())._replace(data=data)
    assert event_body(event) is None
    with pytest.raises(ValueError, match="no JSON object"):
        payload_of(event)
    report = event._replace(type="v1.billing.meter.error_report_triggered")
    assert bytes(full_body(report)["data"]) == b"{}"


def test_the_greatest_product_fits_into_a_record_also_when_all_of_it_changes():
    wide = chr(0x1F6EB)
    greatest = Product(
        id=wide * 500, livemode=True, created_ms=1, updated_ms=1, version=1, name=wide * 5_000,
        description=wide * 40_000, images=(wide * 5_000,) * 8, marketing_features=(wide * 5_000,) * 15,
        metadata={f"{number:02}" + wide * 38: wide * 500 for number in range(50)}, tax_code=wide * 5_000,
        unit_label=wide * 12, statement_descriptor=wide * 22, url="https://" + "x" * 2_040,
    )  # fmt: skip
    later = dataclasses.replace(
        greatest, version=2, name="x", description="x", images=(), marketing_features=(), metadata={}, tax_code=None
    )
    codec = Codec()
    assert len(codec.encode_catalog(greatest)) < MESSAGE_BYTES_MAX
    for before, after in ((None, greatest), (greatest, later), (later, dataclasses.replace(greatest, version=3))):
        event = event_of(Applied(before, after), lambda *_: ())
        assert len(codec.encode_core_event(event)) < MESSAGE_BYTES_MAX
        assert json.loads(event.data)["object"]["name"] == after.name


def test_what_is_made_anew_is_created_and_a_key_has_no_event():
    gone = Plan(
        id="p", livemode=True, created_ms=1, updated_ms=2, version=2, product="x", currency="usd", interval="day",
        amount=1, deleted=True,
    )  # fmt: skip
    again = dataclasses.replace(gone, version=3, deleted=False)
    assert event_of(Applied(gone, again), lambda *_: ()).type == "plan.created"
    assert event_of(Applied(dataclasses.replace(gone, deleted=False), gone), lambda *_: ()).type == "plan.deleted"
    key = ApiKey(
        id="k", livemode=True, created_ms=1, updated_ms=1, version=1, name="", kind="secret", scopes=(), hash="",
        hash_key="", hint="",
    )  # fmt: skip
    assert event_of(Applied(None, key), lambda *_: ()) is None


class Raw:
    """A server of one connection that answers with what it is told, byte by byte."""

    def __init__(self, answer: bytes, pause_s: float = 0.0) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer, self._pause_s = answer, pause_s
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            for byte in itertools.cycle([self._answer[at : at + 1] for at in range(len(self._answer))]):
                connection.sendall(byte)
                time.sleep(self._pause_s)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._thread.join(5)


def test_an_answer_that_never_ends_is_not_read():
    """FAULTS S26: answers are capped."""
    with Raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000) as server:
        assert send(Endpoint(server.url, SECRET), b"{}") == 200


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX: 1\r\n", b"H", b"x"])
def test_an_answer_that_comes_byte_by_byte_is_cut(monkeypatch, answer):
    """FAULTS S26: every wait is bounded, and the whole of it."""
    monkeypatch.setattr(webhooks, "ANSWER_TIMEOUT_S", 0.6)
    began = time.monotonic()
    with Raw(answer, 0.05) as server, pytest.raises((OSError, http.client.HTTPException)):
        send(Endpoint(server.url, SECRET), b"{}")
    assert time.monotonic() - began < 5


def test_a_redirect_is_an_answer_and_no_way():
    """FAULTS S26: redirects are not followed."""
    with Raw(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n") as server:
        assert send(Endpoint(server.url, SECRET), b"{}") == 302
