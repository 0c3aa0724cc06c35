"""Meter events, the stream and adjustments through a real gateway: what is answered is what stands in the topics."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
import stripe
from confluent_kafka.cimpl import NewTopic

from pipeline import wiring
from pipeline.codec.records import Codec
from pipeline.domain.events import CancellationRange, MeterEvent
from pipeline.domain.limits import VALUE_UNIT, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.gateway.keys import KeyRing
from pipeline.gateway.reports import ERROR_REPORT, NO_METER_FOUND
from pipeline.gateway.tokens import LIFE_MS, Tokens
from pipeline.kafka.asking import admin_client
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.reading import read
from pipeline.kafka.topics import topics_of_generation
from tests.conftest import Stack
from tests.gateways import GatewayHome, until

CODEC = Codec()
CUSTOMER = "stripe_customer_id"
V1, V2, STREAM = "/v1/billing/meter_events", "/v2/billing/meter_events", "/v2/billing/meter_event_stream"
DAY_S = 86_400


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("events")
    with GatewayHome(stack, f"t_ev_{uuid.uuid4().hex[:12]}", directory) as home:
        home.start()
        yield home


@pytest.fixture(scope="module")
def key(home: GatewayHome) -> str:
    return home.new_key()


@pytest.fixture(scope="module")
def client(home: GatewayHome, key: str) -> stripe.StripeClient:
    return home.stripe_client(key)


@pytest.fixture(scope="module")
def http(home: GatewayHome, key: str):
    with home.client(key) as client:
        yield client


@pytest.fixture(scope="module")
def token(client: stripe.StripeClient) -> str:
    return client.v2.billing.meter_event_session.create().authentication_token


@pytest.fixture(scope="module")
def stream(home: GatewayHome, token: str):
    with home.client(token) as client:
        yield client


@pytest.fixture
def name(client: stripe.StripeClient) -> str:
    """The event name of a new meter."""
    return new_meter(client)


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


# --- one by one


def test_an_event_of_v1_is_answered_as_it_was_sent_and_stands_in_the_journal(home, client, name):
    at = int(time.time()) - 1000
    sent = {CUSTOMER: "cus_7", "value": "-12.345678901234", "colour": "red"}
    made = client.v1.billing.meter_events.create(
        {"event_name": name, "payload": sent, "identifier": "first", "timestamp": at}
    )
    assert made.object == "billing.meter_event"
    assert (made.event_name, made.identifier, made.livemode, made.timestamp) == (name, "first", False, at)
    assert made.payload.to_dict() == sent if hasattr(made.payload, "to_dict") else dict(made.payload) == sent
    assert abs(made.created - time.time()) < 30
    assert in_journal(home, name) == [MeterEvent("first", name, "cus_7", -12_345678901234, at * 1000, (), False)]


def test_an_event_of_v2_may_have_numbers_with_all_their_digits(home, http, name):
    body = f'{{"event_name": "{name}", "payload": {{"{CUSTOMER}": "c", "value": 12345678901234567890.123456789012}}, '
    body += '"identifier": "i", "timestamp": "2099-01-01T00:00:00.000Z"}'
    late = http.json(V2, body.encode())
    assert (late.status, late.error["code"]) == (400, "timestamp_in_future")
    now = time.strftime("%Y-%m-%dT%H:%M:%S.250Z", time.gmtime(time.time() - 60))
    made = http.json(V2, body.replace("2099-01-01T00:00:00.000Z", now).encode())
    assert made.status == 200
    assert made.body["object"] == "v2.billing.meter_event"
    assert made.body["payload"]["value"] == "12345678901234567890.123456789012"
    assert made.body["timestamp"] == now
    (one,) = in_journal(home, name)
    assert one.value == 12345678901234567890_123456789012
    assert one.timestamp_ms % 1000 == 250


def test_a_record_is_keyed_by_its_identifier_so_that_it_comes_to_its_partition(home, client, name):
    for number in range(20):
        client.v1.billing.meter_events.create(
            {"event_name": name, "payload": {CUSTOMER: "c", "value": "1"}, "identifier": f"{name}-{number}"}
        )
    records = list(read(wiring.quiet_kafka(home.settings), home.topics.journal, "beginning"))
    mine = [record for record in records if (record.key or b"").startswith(name.encode())]
    assert len(mine) == 20
    assert all(record.partition == partition_of((record.key or b"").decode(), 2) for record in mine)


def test_customer_value_and_dimensions_are_found_under_the_meters_own_keys(home, client):
    name = new_meter(
        client,
        customer_mapping={"type": "by_id", "event_payload_key": "who"},
        value_settings={"event_payload_key": "seats"},
        dimension_payload_keys=["zone", "area"],
    )
    payload = {"who": "acct_1", "seats": "3", "zone": "z", "area": "a", "value": "not this", CUSTOMER: "nor this"}
    client.v1.billing.meter_events.create({"event_name": name, "payload": payload, "identifier": "i"})
    (one,) = in_journal(home, name)
    assert (one.customer, one.value, one.dimensions) == ("acct_1", 3 * VALUE_UNIT, (("area", "a"), ("zone", "z")))
    with pytest.raises(stripe.InvalidRequestError, match="Dimension keys not found in payload: area") as refused:
        client.v1.billing.meter_events.create({"event_name": name, "payload": {**payload, "area": None}})
    assert refused.value.param == "payload[area]"


def test_a_meter_that_counts_needs_no_value(home, client):
    name = new_meter(client, default_aggregation={"formula": "count"})
    client.v1.billing.meter_events.create({"event_name": name, "payload": {CUSTOMER: "c"}})
    assert [one.value for one in in_journal(home, name)] == [VALUE_UNIT]


WRONG = [
    ("payload[stripe_customer_id]", {"value": "1"}, "parameter_missing", "payload_no_customer_defined"),
    ("payload[stripe_customer_id]", {"value": "1", CUSTOMER: ""}, "parameter_missing", "payload_no_customer_defined"),
    ("payload[value]", {CUSTOMER: "c"}, "parameter_missing", "payload_no_value_defined"),
    ("payload[value]", {CUSTOMER: "c", "value": ""}, None, "payload_invalid_value"),
    ("payload[value]", {CUSTOMER: "c", "value": "1e5"}, None, "payload_invalid_value"),
    ("payload[value]", {CUSTOMER: "c", "value": "1" * 27}, None, "payload_invalid_value"),
]


@pytest.mark.parametrize(("param", "payload", "v1_code", "v2_code"), WRONG)
def test_what_a_meter_cannot_take_is_said_at_once_in_the_words_of_each_version(
    home, client, name, param, payload, v1_code, v2_code
):
    with pytest.raises(stripe.InvalidRequestError) as first:
        client.v1.billing.meter_events.create({"event_name": name, "payload": payload})
    with pytest.raises(stripe.InvalidRequestError) as second:
        client.v2.billing.meter_events.create({"event_name": name, "payload": payload})
    assert (first.value.http_status, first.value.code, first.value.param) == (400, v1_code, param)
    assert (second.value.http_status, second.value.code) == (400, v2_code)
    assert in_journal(home, name) == []


def test_no_meter_and_an_inactive_one(client, name):
    sent = {"event_name": "nobody_reads_this", "payload": {CUSTOMER: "c", "value": "1"}}
    message = "No meter was found matching event_name nobody_reads_this."
    for create, code in ((client.v1, "resource_missing"), (client.v2, "no_meter")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            create.billing.meter_events.create(sent)
        assert (refused.value.http_status, refused.value.code) == (400, code)
        assert message in str(refused.value)
    meter = meter_of(client, name)
    client.v1.billing.meters.deactivate(meter.id)
    for create, code in ((client.v1, None), (client.v2, "archived_meter")):
        with pytest.raises(stripe.InvalidRequestError, match="inactive") as refused:
            create.billing.meter_events.create({**sent, "event_name": name})
        assert (refused.value.http_status, refused.value.code) == (400, code)
    client.v1.billing.meters.reactivate(meter.id)
    client.v1.billing.meter_events.create({**sent, "event_name": name})


GOOD_VALUES = ["0", "-0", "0.1", "9" * 26, "-" + "9" * 26 + "." + "9" * 12, "0.000000000001", "10", "-1.50"]
BAD_VALUES = [
    *("NaN", "nan", "Inf", "-Infinity", "1e308", "1e400", "1e-500", "1E5", "1_000", "１２", " 5 ", " 5", "5 ", "+1"),
    *(
        "1.",
        ".5",
        "0x1",
        "01",
        "-01",
        "--1",
        "1,5",
        "true",
        "null",
        "9" * 27,
        "0." + "1" * 13,
        "9" * 77,
        "١",
        "−1",
        "1\t",
    ),
]
GOOD_NUMBERS = ["0", "-0", "1", "-12.50", "9" * 26, "0.000000000001"]
BAD_NUMBERS = ["1e5", "1E-5", "1e400", "9" * 27, "0.0000000000001", "9" * 5000, "true", "null", "[1]", '{"a":1}']


def test_g1_a_value_is_an_exact_decimal_or_refused(home, http, name):
    """FAULTS G1: as form, as JSON text and as JSON number; what is taken is stored digit for digit."""
    for number, text in enumerate(GOOD_VALUES):
        assert http.form(V1, **form_event(name, text, identifier=f"form-{number:03}")).status == 200, text
        assert http.json(V2, event(name, text, identifier=f"json-{number:03}")).status == 200, text
    for text in BAD_VALUES:
        assert http.form(V1, **form_event(name, text)).status == 400, text
        assert http.json(V2, event(name, text)).status == 400, text
    body = json.dumps(event(name, "VALUE", identifier="ID"))
    for number, text in enumerate(GOOD_NUMBERS):
        sent = body.replace('"VALUE"', text).replace("ID", f"number-{number:03}")
        assert http.json(V2, sent.encode()).status == 200, text
    for text in (*BAD_NUMBERS, "NaN", "Infinity", "-Infinity", "01", "+1", "1.", ".1", "0x1"):
        assert http.json(V2, body.replace('"VALUE"', text).encode()).status == 400, text
    found = [one.value for one in in_journal(home, name)]
    expected = [int(Fraction(text) * VALUE_UNIT) for text in (*GOOD_VALUES, *GOOD_VALUES, *GOOD_NUMBERS)]
    assert sorted(found) == sorted(expected)


GOOD_IDENTIFIERS = [
    "a",
    "x" * 100,
    "é",
    "e\u0301",
    "👩‍🚀"[0],
    "日本語" * 33,
    " a",
    "a ",
    "../../",
    "'; DROP TABLE x",
    "<b>",
]
BAD_IDENTIFIERS = ["x" * 101, "a\0b", "a\u200bb", "a\u202eb", "a\nb", "\ufeff", "👩\u200d🚀", ""]


def test_g4_identifiers_are_kept_byte_for_byte_or_refused(home, http, name):
    """FAULTS G4: control and format characters are refused, nothing is normalised, length is in code points."""
    for identifier in GOOD_IDENTIFIERS:
        assert http.json(V2, event(name, identifier=identifier)).body["identifier"] == identifier
        again = http.form(V1, **form_event(name, identifier=identifier))
        assert again.error["message"] == f"An event already exists with identifier {identifier}."
    for identifier in BAD_IDENTIFIERS:
        assert http.json(V2, event(name, identifier=identifier)).status == 400, identifier
        assert http.form(V1, **form_event(name, identifier=identifier)).status == 400, identifier
    assert http.json(V2, json.dumps(event(name, identifier="LONE")).replace("LONE", "\\ud800").encode()).status == 400
    assert {one.identifier for one in in_journal(home, name)} == set(GOOD_IDENTIFIERS)


def test_g5_timestamps_at_their_borders(home, http, name):
    """FAULTS G5: 35 days and 5 minutes, seconds and RFC 3339; nothing saturates or is guessed."""
    now = int(time.time())
    for good in (now - 35 * DAY_S + 30, now + 300 - 30, now):
        assert http.form(V1, **form_event(name, timestamp=str(good))).status == 200
        assert http.json(V2, event(name, timestamp=good)).status == 200
    old = http.form(V1, **form_event(name, timestamp=str(now - 35 * DAY_S - 30)))
    assert old.status == 400
    assert old.error["message"].startswith("The event timestamp cannot be more than 35 days in past. Expected a ")
    assert abs(int(old.error["message"].rpartition(" ")[2].rstrip(".")) - (now - 35 * DAY_S)) < 30
    ahead = http.form(V1, **form_event(name, timestamp=str(now + 330)))
    assert (ahead.status, ahead.error["message"][:43]) == (400, "The event timestamp cannot be in future. At")
    for bad in ("-1", "0", str(now * 1000), str(2**31 * 10), str(2**63), "1.5", "now", " 5"):
        assert http.form(V1, **form_event(name, timestamp=bad)).status == 400, bad
    for bad_json in (-1, 0, now * 1000, 2**63, 1.5, "now", "2024-01-01", "2024-13-01T00:00:00Z", True, {}):
        assert http.json(V2, event(name, timestamp=bad_json)).status == 400, bad_json
    assert len(in_journal(home, name)) == 6


def test_g6_payloads(home, http, client):
    """FAULTS G6: at most 50 keys of 1 to 100 characters with text of at most 100; no key twice, nothing nested."""
    name = new_meter(client, dimension_payload_keys=["__proto__"])
    plain = {CUSTOMER: "c", "value": "1", "__proto__": "p"}
    assert http.json(V2, {"event_name": name, "payload": plain, "identifier": "i"}).status == 200
    assert http.json(V2, {"event_name": name, "payload": {**plain, **{f"k{n}": "" for n in range(47)}}}).status == 200
    for bad in (
        {**plain, **{f"k{n}": "x" for n in range(48)}},
        {**plain, "k" * 101: "x"},
        {**plain, "": "x"},
        {**plain, "k": "x" * 101},
        {**plain, "k": {"a": "b"}},
        {**plain, "k": ["a"]},
        {**plain, "k": None},
        {**plain, "k": True},
        [],
        "text",
        None,
    ):
        assert http.json(V2, {"event_name": name, "payload": bad}).status == 400, bad
    twice = json.dumps({"event_name": name, "payload": plain}).replace('"value"', f'"{CUSTOMER}": "d", "value"')
    assert "twice" in http.json(V2, twice.encode()).error["message"]
    assert {one.dimensions for one in in_journal(home, name)} == {(("__proto__", "p"),)}


def test_s5_fields_of_the_server_cannot_be_written(home, http, stream, name):
    """FAULTS S5: refused by name, and without any effect."""
    for field in ("livemode", "created", "object", "tenant", "appended_at", "customer"):
        for answer in (
            http.form(V1, **form_event(name), **{field: "1"}),
            http.json(V2, event(name, **{field: "1"})),
            stream.json(STREAM, {"events": [event(name), event(name, **{field: "1"})]}),
            stream.json(STREAM, {"events": [event(name)], field: "1"}),
        ):
            assert answer.status == 400
            assert field in answer.error["message"]
    assert in_journal(home, name) == []


# --- once


def test_e1_the_same_identifier_twice(home, client, http, name):
    """FAULTS E1: the first wins; Stripe's words, no code in v1, and the SDK is told not to try again."""
    sent = {"event_name": name, "payload": {CUSTOMER: "c", "value": "1"}, "identifier": "once"}
    client.v1.billing.meter_events.create(sent)
    for other in (sent, {**sent, "payload": {CUSTOMER: "d", "value": "2"}}):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.billing.meter_events.create(other)
        assert (refused.value.http_status, refused.value.code) == (400, None)
        assert str(refused.value).endswith("An event already exists with identifier once.")
        assert refused.value.headers["stripe-should-retry"] == "false"
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v2.billing.meter_events.create(other)
        assert refused.value.code == "duplicate_meter_event"
    assert [one.customer for one in in_journal(home, name)] == ["c"]


def test_e2_one_identifier_in_both_modes_and_under_two_names_is_several_events(home, client, name):
    """FAULTS E2: an identity is mode, event name and identifier."""
    live = home.stripe_client(home.new_key(livemode=True))
    with pytest.raises(stripe.InvalidRequestError, match="No meter was found"):
        live.v1.billing.meter_events.create({"event_name": name, "payload": {CUSTOMER: "c", "value": "1"}})
    live.v1.billing.meters.create({"display_name": "x", "event_name": name, "default_aggregation": {"formula": "sum"}})
    other = new_meter(client)
    for api, event_name in ((client, name), (live, name), (client, other)):
        made = api.v1.billing.meter_events.create(
            {"event_name": event_name, "payload": {CUSTOMER: "c", "value": "1"}, "identifier": "same"}
        )
        assert made.livemode is (api is live)
    assert sorted(one.livemode for one in in_journal(home, name)) == [False, True]
    assert len(in_journal(home, other)) == 1


@pytest.mark.parametrize("face", ["v1", "v2"])
def test_a_repeated_request_gets_the_first_ones_answer_and_other_parameters_an_error(home, http, name, face):
    key = {"Idempotency-Key": uuid.uuid4().hex}

    def send(value: str):
        if face == "v1":
            return http.form(V1, headers=key, **form_event(name, value))
        return http.json(V2, event(name, value), headers=key)

    first, again, other = send("1"), send("1"), send("2")
    assert (first.status, again.status) == (200, 200)
    assert first.body == again.body
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status, other.error["type"]) == (400 if face == "v1" else 409, "idempotency_error")
    assert len(in_journal(home, name)) == 1


def test_without_an_identifier_it_follows_from_the_idempotency_key_on_any_gateway(home, key, name):
    other = home.start()
    idempotency = {"Idempotency-Key": uuid.uuid4().hex}
    with home.client(key) as first, home.client(key, other) as second:
        answers = [one.json(V2, event(name), headers=idempotency) for one in (first, second)]
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].body["identifier"] == answers[1].body["identifier"]
        assert first.json(V2, event(name)).body["identifier"] != answers[0].body["identifier"]
    copies = in_journal(home, name)
    assert len({one.identifier for one in copies}) == 2, "the copy has the first one's identity: the fold counts once"


def test_e1_many_at_once_with_one_identifier_have_one_winner(home, key, name):
    """FAULTS E1: concurrent requests wait for the first one's outcome."""

    def send(_: int):
        with home.client(key) as http:
            return http.form(V1, **form_event(name, identifier="contested"))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(32)))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 31
    assert len(in_journal(home, name)) == 1


def test_many_at_once_with_one_idempotency_key_are_one_request(home, key, name):
    def send(_: int):
        with home.client(key) as http:
            return http.form(V1, headers={"Idempotency-Key": f"same-{name}"}, **form_event(name))

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(32)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(in_journal(home, name)) == 1


# --- the stream


def test_a_stream_of_a_hundred_events_is_answered_with_an_empty_object(home, client, token, name):
    session = home.stripe_client(token)
    sent = [event(name, str(number), identifier=f"{number:03}") for number in range(100)]
    assert session.v2.billing.meter_event_stream.create({"events": sent}) is None
    found = in_journal(home, name)
    assert [(one.identifier, one.value) for one in found] == [(f"{n:03}", n * VALUE_UNIT) for n in range(100)]


def test_a_stream_of_none_or_more_than_a_hundred_appends_nothing(home, stream, name):
    for count in (0, 101, 1000):
        answer = stream.json(STREAM, {"events": [event(name) for _ in range(count)]})
        assert answer.status == 400
        assert "1 to 100 events" in answer.error["message"]
    for bad in ({}, {"events": None}, {"events": {}}, {"events": "x"}, [], "x", {"events": [event(name)], "more": 1}):
        assert stream.json(STREAM, bad).status == 400, bad
    assert stream.json(STREAM, b"").status == 400
    assert in_journal(home, name) == []


def test_an_event_of_a_wrong_shape_refuses_the_call_by_its_place(home, stream, name):
    for bad, param in (
        (7, "events[1]"),
        ({"event_name": name}, "events[1][payload]"),
        (event(name, {"a": 1}), "events[1][payload][value]"),
        (event(name, identifier="x" * 101), "events[1][identifier]"),
        (event(name, timestamp="soon"), "events[1][timestamp]"),
        (event(name, extra=1), "events[1][extra]"),
    ):
        answer = stream.json(STREAM, {"events": [event(name), bad]})
        assert (answer.status, answer.error["param"]) == (400, param)
    assert in_journal(home, name) == []


def test_e3_a_stream_with_copies_and_invalid_events_takes_the_rest(home, stream, client, name):
    """FAULTS E3: all that is well-formed is written, the bad ones as dead letters."""
    good = [event(name, "2", identifier=f"{number:02}") for number in range(94)]
    copies = good[:2]
    bad = [
        event(name, "1e5", identifier="bad-value"),
        event("nobody_reads_this", identifier="no-meter"),
        {"event_name": name, "payload": {"value": "1"}, "identifier": "no-customer"},
        event(name, identifier="old", timestamp=int(time.time()) - 36 * DAY_S),
    ]
    answer = stream.json(STREAM, {"events": [*bad[:2], *good, *copies, *bad[2:]]}, headers={"Idempotency-Key": "e3"})
    assert (answer.status, answer.content) == (200, b"{}")
    found = in_journal(home, name)
    assert len(found) == 96
    assert {one.identifier for one in found} == {one["identifier"] for one in good}
    kept = letters(home, answer.headers["request-id"])
    assert kept == [
        ("bad-value", "meter_event_invalid_value", bad[0]),
        ("no-meter", "no_meter", bad[1]),
        ("no-customer", "meter_event_no_customer_defined", bad[2]),
        ("old", "timestamp_too_far_in_past", bad[3]),
    ]


def test_a_refused_identifier_is_free_so_that_the_event_can_be_corrected(home, stream, name):
    assert stream.json(STREAM, {"events": [event(name, "oops", identifier="i")]}).status == 200
    assert stream.json(STREAM, {"events": [event(name, "5", identifier="i")]}).status == 200
    assert [one.value for one in in_journal(home, name)] == [5 * VALUE_UNIT]


def test_invalid_events_of_a_stream_are_reported_per_meter_and_ten_seconds(home, stream, client, name):
    meter = meter_of(client, name)
    bad = [event(name, "oops")] * 12 + [{"event_name": name, "payload": {"value": "1"}}]
    nobody = f"nobody_{name}"
    headers = {"Idempotency-Key": f"reported-{name}"}
    assert stream.json(STREAM, {"events": [*bad, event(nobody)]}, headers=headers).status == 200

    def events() -> list:
        records = read(wiring.quiet_kafka(home.settings), home.topics.core_events, "beginning")
        return [CODEC.decode_core_event(record.value) for record in records]

    def mine() -> list:
        return [one for one in events() if one.type == ERROR_REPORT and one.related and one.related.id == meter.id]

    def nobodys() -> list:
        return [one for one in events() if one.type == NO_METER_FOUND and nobody in one.data]

    until(lambda: mine() and nobodys(), "both reports are written")
    ((report,), (unmetered,)) = mine(), nobodys()
    said = json.loads(report.data)
    assert (ERROR_REPORT, unmetered.related) == ("v1.billing.meter.error_report_triggered", None)
    assert (report.livemode, report.related.type) == (False, "billing.meter")
    assert said["developer_message_summary"] == "There are 13 invalid events"
    assert said["reason"]["error_count"] == 13
    first, second = said["reason"]["error_types"]
    assert (first["code"], first["error_count"], len(first["sample_errors"])) == ("meter_event_invalid_value", 12, 10)
    assert second == {
        "code": "meter_event_no_customer_defined",
        "error_count": 1,
        "sample_errors": [
            {
                "error_message": "Customer mapping key stripe_customer_id not found in payload.",
                "request": {"identifier": f"reported-{name}"},
            }
        ],
    }
    start, end = said["validation_start"], said["validation_end"]
    assert start[:17] == end[:17] or end > start
    assert start.endswith("0.000Z")
    assert end.endswith("0.000Z")
    assert NO_METER_FOUND == "v1.billing.meter.no_meter_found"
    assert f"No meter was found matching event_name {nobody}." in unmetered.data


def test_s10_a_call_that_is_sent_again_and_again_is_one_identity_each_time(home, stream, name):
    """FAULTS S10: the fold counts an identity once, and that is what every copy has."""
    call = {"events": [event(name, identifier=f"{number}") for number in range(3)]}
    assert {stream.json(STREAM, call).status for _ in range(30)} == {200}
    found = in_journal(home, name)
    assert len(found) == 90
    assert len({one.identity for one in found}) == 3


def test_s8_an_expired_session_is_told_in_stripes_class(home, client, key, name):
    """FAULTS S8: made by the same secrets and a clock of fifteen minutes ago."""
    secrets = wiring.gateway_secrets(home.settings)

    async def parent():
        async with wiring.catalog_session(home.settings) as catalog:
            ring = KeyRing(secrets, catalog.api_key, lambda: time.time_ns() // 1_000_000)
            return ring.authenticate(f"Bearer {key}")

    caller = asyncio.run(parent())
    ring = KeyRing(secrets, lambda *_: None, lambda: 0)
    before = Tokens(secrets, ring, lambda: time.time_ns() // 1_000_000 - LIFE_MS)
    expired = home.stripe_client(before.issue(caller, "ses").token)
    with pytest.raises(stripe.TemporarySessionExpiredError) as refused:
        expired.v2.billing.meter_event_stream.create({"events": [event(name)]})
    assert (refused.value.http_status, refused.value.code) == (401, "billing_meter_event_session_expired")
    early = Tokens(secrets, ring, lambda: time.time_ns() // 1_000_000 - LIFE_MS + 5_000)
    home.stripe_client(early.issue(caller, "ses").token).v2.billing.meter_event_stream.create({"events": [event(name)]})
    assert len(in_journal(home, name)) == 1


def test_events_go_to_the_journal_of_the_live_generation(home):
    """A journal that was given another number of partitions has another name; within seconds events go there."""
    kafka = wiring.quiet_kafka(home.settings)
    stack = Stack(home.settings.kafka, home.settings.clickhouse)
    with GatewayHome(stack, f"{home.settings.namespace}_g", home.home / "moved") as own:
        own.start()
        sdk = own.stripe_client(own.new_key())
        moved = new_meter(sdk)
        ledger = GenerationLedger(kafka, own.settings.namespace, CODEC)
        new = ledger.append(2, "building", 2, 3, FoldRules(max_past_ms=2 * DAY_S * 1000).version).building
        topic = topics_of_generation(own.settings.namespace, new).journal
        admin_client(kafka).create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
        sdk.v1.billing.meter_events.create(event(moved, "1", identifier="before"))
        ledger.append(2, "live", 2, 3, new.fold)

        def arrives() -> bool:
            sdk.v1.billing.meter_events.create(event(moved, "1"))
            return any(True for _ in read(kafka, topic, "beginning"))

        until(arrives, "events come to the new journal")
        with pytest.raises(stripe.InvalidRequestError, match="more than 2 days in past"):
            sdk.v1.billing.meter_events.create(event(moved, "1", timestamp=int(time.time()) - 3 * DAY_S))
        assert "before" in {one.identifier for one in in_journal(own, moved)}


# --- adjustments


def adjustments(home: GatewayHome) -> dict:
    records = read(wiring.quiet_kafka(home.settings), home.topics.adjustments, "beginning")
    return {one.id: one for one in (CODEC.decode_adjustment(record.value) for record in records)}


def test_adjustments_of_both_versions_are_pending_and_stand_in_their_topic(home, client, name):
    first = client.v1.billing.meter_event_adjustments.create(
        {"event_name": name, "type": "cancel", "cancel": {"identifier": "a"}}
    )
    assert (first.object, first.status, first.type) == ("billing.meter_event_adjustment", "pending", "cancel")
    assert first.cancel is not None
    assert (first.cancel.identifier, first.event_name, first.livemode) == ("a", name, False)
    second = client.v2.billing.meter_event_adjustments.create(
        {"event_name": name, "type": "cancel", "cancel": {"identifier": "b"}}
    )
    assert second.id.startswith("mtr_event_adj_")
    assert (second.status, second.cancel.identifier) == ("pending", "b")
    found = {one.identifier: one for one in adjustments(home).values() if one.event_name == name}
    assert set(found) == {"a", "b"}
    assert found["b"].id == second.id
    assert not found["a"].livemode


def test_a_cancel_that_does_not_fit_is_invalid_cancel_configuration(client, http, name):
    path, asked = "/v2/billing/meter_event_adjustments", {"event_name": name, "type": "cancel"}
    for cancel in ({}, {"identifier": ""}, {"identifier": "x" * 101}, {"identifier": "a", "more": "b"}, "a", None):
        answer = http.json(path, {**asked, "cancel": cancel})
        assert (answer.status, answer.error["code"]) == (400, "invalid_cancel_configuration"), cancel
    assert http.json(path, {**asked, "type": "undo", "cancel": {"identifier": "a"}}).error["param"] == "type"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meter_event_adjustments.create({"event_name": name, "type": "cancel"})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "cancel[identifier]")


def test_a_repeated_adjustment_is_the_same_one_on_any_gateway(home, key, http, name):
    path, headers = "/v2/billing/meter_event_adjustments", {"Idempotency-Key": uuid.uuid4().hex}
    asked = {"event_name": name, "type": "cancel", "cancel": {"identifier": "a"}}
    first, again = http.json(path, asked, headers), http.json(path, asked, headers)
    with home.client(key, home.start()) as elsewhere:
        third = elsewhere.json(path, asked, headers)
    assert first.body == again.body
    assert first.body["id"] == third.body["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = http.json(path, {**asked, "cancel": {"identifier": "b"}}, headers)
    assert (other.status, other.error["type"]) == (409, "idempotency_error")
    assert [one.identifier for one in adjustments(home).values() if one.event_name == name] == ["a"]


def test_a_range_is_taken_back_by_our_own_path(home, http, name):
    path = "/meterline/v1/meter_event_adjustments"
    asked = {
        "event_name": name,
        "type": "cancel",
        "cancel_range": {"customer": "c", "start_time": "2026-01-01T00:00:00Z", "end_time": 1767312000},
    }
    made = http.json(path, asked)
    assert made.status == 200
    assert made.body["cancel_range"] == {
        "customer": "c",
        "start_time": "2026-01-01T00:00:00.000Z",
        "end_time": "2026-01-02T00:00:00.000Z",
    }
    assert adjustments(home)[made.body["id"]].range == CancellationRange("c", 1767225600000, 1767312000000)
    turned = {**asked, "cancel_range": {"start_time": 5, "end_time": 5}}
    assert http.json(path, turned).error["param"] == "cancel_range[end_time]"
