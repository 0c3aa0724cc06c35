"""The meter event stream of a real gateway: up to a hundred events in a call, and reports of those refused."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import stripe
from confluent_kafka.cimpl import NewTopic

from pipeline import wiring
from pipeline.domain.limits import VALUE_UNIT, FoldRules
from pipeline.gateway.keys import KeyRing
from pipeline.gateway.reports import ERROR_REPORT, NO_METER_FOUND
from pipeline.gateway.tokens import LIFE_MS, Tokens
from pipeline.kafka.asking import admin_client
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.reading import read
from pipeline.kafka.topics import topics_of_generation
from tests.conftest import Stack
from tests.gateways import GatewayHome, until
from tests.posted import CODEC, STREAM, event, in_journal, letters, meter_of, new_meter

DAY_S = 86_400


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
