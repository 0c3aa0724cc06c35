"""Meter events one by one through a real gateway: what is answered is what stands in the journal, and once."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
import stripe

from pipeline import wiring
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import VALUE_UNIT
from pipeline.domain.partitioning import partition_of
from pipeline.kafka.reading import read
from tests.posted import CUSTOMER, STREAM, V1, V2, event, form_event, in_journal, meter_of, new_meter

DAY_S = 86_400


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
