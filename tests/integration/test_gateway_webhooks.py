"""Webhooks from real gateways to a real endpoint, verified by the official SDK; events read back."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import stripe

from pipeline import wiring
from pipeline.domain.core_events import CoreEvent, RelatedObject
from pipeline.kafka.producer import Publisher
from tests.conftest import Stack
from tests.gateways import GatewayHome, until
from tests.receivers import Delivery, Receiver

SECRET = "whsec_0123456789abcdef"
REPORT = "v1.billing.meter.error_report_triggered"
SAID = {
    "developer_message_summary": "There is 1 invalid event",
    "reason": {
        "error_count": 1,
        "error_types": [
            {
                "code": "meter_event_no_customer_defined",
                "error_count": 1,
                "sample_errors": [{"error_message": "No customer.", "request": {"identifier": "key"}}],
            }
        ],
    },
    "validation_start": "2026-01-31T12:00:00.000Z",
    "validation_end": "2026-01-31T12:00:10.000Z",
}


def snapshot(delivery: Delivery) -> stripe.Event:
    return stripe.Webhook.construct_event(delivery.body, delivery.headers["Stripe-Signature"], SECRET)


def types(receiver: Receiver) -> list[str]:
    return [json.loads(delivery.body)["type"] for delivery in receiver.deliveries]


def announce(home: GatewayHome, number: int = 0, *, meter: str | None = "mtr_test_1", created_ms: int = 0) -> CoreEvent:
    """Put an error report into the topic, as a gateway does."""
    event = CoreEvent(
        id=f"evt_test_{number}",
        type=REPORT if meter else "v1.billing.meter.no_meter_found",
        created_ms=created_ms or time.time_ns() // 1_000_000,
        livemode=False,
        related=None if meter is None else RelatedObject(meter, "billing.meter", f"/v1/billing/meters/{meter}"),
        data=json.dumps(SAID),
    )
    publisher = Publisher(wiring.quiet_kafka(home.settings))
    publisher.publish(home.topics.core_events, event.id.encode(), wiring.codec(home.settings).encode_core_event(event))
    publisher.flush(30)
    return event


def test_every_change_of_the_catalog_is_told_with_the_object_as_it_was(stack: Stack, namespace: str, home: Path):
    with Receiver() as receiver, GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place:
        place.start()
        client = place.stripe_client(place.new_key())
        asked = {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
        meter = client.v1.billing.meters.create(asked)
        client.v1.billing.meters.update(meter.id, {"display_name": "N"})
        client.v1.billing.meters.update(meter.id, {"display_name": "N"})
        client.v1.billing.meters.deactivate(meter.id)
        client.v1.billing.meters.reactivate(meter.id)
        product = client.v1.products.create({"name": "P"})
        client.v1.products.update(product.id, {"metadata": {"a": "b"}})
        plan = client.v1.plans.create({"product": product.id, "currency": "usd", "interval": "month", "amount": 5})
        client.v1.plans.update(plan.id, {"nickname": "n"})
        client.v1.plans.delete(plan.id)
        client.v1.products.delete(product.id)
        expected = [
            *("billing.meter.created", "billing.meter.updated", "billing.meter.deactivated"),
            *("billing.meter.reactivated", "product.created", "product.updated", "plan.created", "plan.updated"),
            *("plan.deleted", "product.deleted"),
        ]
        until(lambda: len(receiver.deliveries) >= len(expected), "all of it is told")
        assert types(receiver) == expected
        events = [snapshot(delivery) for delivery in receiver.deliveries]
        assert len({event.id for event in events}) == len(events)
        assert {(event.object, event.livemode, event.id[:9]) for event in events} == {("event", False, "evt_test_")}
        assert events[0].data.object.to_dict() == meter.to_dict()
        assert isinstance(events[0].data.object, stripe.billing.Meter)
        assert events[1].data.object["display_name"] == "N"
        assert events[1].data.previous_attributes["display_name"] == "M"
        assert events[2].data.object["status"] == "inactive"
        assert events[2].data.previous_attributes["status"] == "active"
        assert events[5].data.previous_attributes["metadata"].to_dict() == {}
        assert events[8].data.object["deleted"] is True
        again = client.v1.events.retrieve(events[0].id)
        assert again.to_dict() == {**events[0].to_dict(), "pending_webhooks": 0}
        listed = client.v1.events.list({"limit": 3}).auto_paging_iter()
        assert [one.id for one in listed] == [event.id for event in events[::-1]]
        of_plans = client.v1.events.list({"type": "plan.*"}).data
        assert [one.type for one in of_plans] == ["plan.deleted", "plan.updated", "plan.created"]
        backwards = client.v1.events.list(
            {"types": ["product.created", "plan.created"], "ending_before": of_plans[2].id}
        )
        assert backwards.data == []
        with pytest.raises(stripe.InvalidRequestError) as refused:
            place.stripe_client(place.new_key(livemode=True)).v1.events.retrieve(events[0].id)
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(
                receiver.deliveries[0].body, receiver.deliveries[0].headers["Stripe-Signature"], SECRET + "x"
            )
        assert SECRET not in place._gateways[0].log


def test_error_reports_are_thin_and_their_data_is_fetched(stack: Stack, namespace: str, home: Path):
    with Receiver() as receiver, GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place:
        place.start()
        client = place.stripe_client(place.new_key())
        live = place.stripe_client(place.new_key(livemode=True))
        asked = {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
        meter = client.v1.billing.meters.create(asked)
        announce(place, 1, meter=meter.id)
        announce(place, 1, meter=meter.id)
        announce(place, 2, meter=None)
        until(lambda: len(receiver.deliveries) >= 4, "both are sent")
        thin = [one for one in receiver.deliveries if json.loads(one.body)["object"] == "v2.core.event"]
        assert "data" not in json.loads(thin[0].body)
        notes = [client.parse_event_notification(one.body, one.headers["Stripe-Signature"], SECRET) for one in thin]
        report, nothing = notes[0], notes[-1]
        assert (report.type, report.related_object.id, report.livemode) == (REPORT, meter.id, False)
        assert report.fetch_related_object().event_name == "m"
        fetched = report.fetch_event()
        assert fetched.data.reason.error_types[0].code == "meter_event_no_customer_defined"
        assert fetched.data.reason.error_types[0].sample_errors[0].request.identifier == "key"
        assert nothing.type == "v1.billing.meter.no_meter_found"
        assert nothing.fetch_event().data.developer_message_summary == "There is 1 invalid event"
        listed = client.v2.core.events.list({"limit": 1})
        assert [one.id for one in listed.auto_paging_iter()] == ["evt_test_2", "evt_test_1"]
        about = client.v2.core.events.list({"object_id": meter.id, "types": [REPORT]})
        assert [one.id for one in about.data] == ["evt_test_1"]
        assert client.v2.core.events.list({"created": {"gt": "2999-01-01T00:00:00Z"}}).data == []
        assert live.v2.core.events.list().data == []
        for asker, id_ in (
            (live, "evt_test_1"),
            (client, "evt_test_none"),
            (client, json.loads(receiver.deliveries[0].body)["id"]),
        ):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                asker.v2.core.events.retrieve(id_)
            assert (refused.value.http_status, refused.value.code) == (404, "not_found")
        for bad in ({"created": {"gt": "yesterday"}}, {"page": "x"}, {"limit": 0}):
            with pytest.raises(stripe.InvalidRequestError) as refused:
                client.v2.core.events.list(bad)
            assert refused.value.http_status == 400


def test_what_was_not_taken_is_sent_again_and_the_others_do_not_wait(stack: Stack, namespace: str, home: Path):
    """FAULTS S26: a dead endpoint, one that refuses at first, one that redirects, one that is well."""
    with (
        Receiver(lambda delivery: 500 if delivery.number < 2 else 204) as stubborn,
        Receiver(lambda delivery: 302) as redirecting,
        Receiver() as well,
    ):
        lines = [f"{one.url} {SECRET}" for one in (stubborn, redirecting, well)]
        webhooks = "; ".join([*lines, f"http://127.0.0.1:9/dead {SECRET}"])
        with GatewayHome(stack, namespace, home, WEBHOOKS=webhooks) as place:
            gateway = place.start()
            announce(place, 1)
            until(lambda: len(well.deliveries) == 1, "the endpoint that is well hears at once")
            until(lambda: len(stubborn.deliveries) >= 3, "the one that refuses hears again")
            announce(place, 2)
            until(lambda: len(well.deliveries) == 2, "the endpoint that is well hears at once")
            until(lambda: len(stubborn.deliveries) >= 4, "the one that refused hears the next")
            until(lambda: len(redirecting.deliveries) >= 3, "a redirect is no success")
            assert [json.loads(one.body)["id"] for one in stubborn.deliveries] == ["evt_test_1"] * 3 + ["evt_test_2"]
            assert {one.path for one in redirecting.deliveries} == {"/hook"}
            assert "HTTP 500" in gateway.log
            assert "ConnectionRefusedError" in gateway.log
            gateway.stop()
            assert "/dead" not in gateway.log


def test_a_gateway_that_is_killed_leaves_what_is_owed_to_the_next(stack: Stack, namespace: str, home: Path):
    with (
        Receiver(lambda delivery: 503) as receiver,
        GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place,
    ):
        first = place.start()
        client = place.stripe_client(place.new_key())
        product = client.v1.products.create({"name": "P"})
        until(lambda: receiver.deliveries, "the first attempt")
        first.kill()
        receiver.respond = lambda delivery: 200
        seen = len(receiver.deliveries)
        place.start()
        until(lambda: len(receiver.deliveries) > seen, "the next gateway sends it")
        events = [snapshot(delivery) for delivery in receiver.deliveries]
        assert {(event.type, event.data.object["id"]) for event in events} == {("product.created", product.id)}
        assert len({event.id for event in events}) == 1


def test_a_change_made_just_before_a_crash_is_told_by_the_next_gateway(stack: Stack, namespace: str, home: Path):
    """The record that was acknowledged is the promise: whatever died before it was told, it is told once it can be."""
    with Receiver() as receiver, GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place:
        gateway = place.start()
        key = place.new_key()
        for round_ in range(3):
            client = place.stripe_client(key, gateway)
            made = [client.v1.products.create({"name": f"P{round_}.{number}"}).id for number in range(5)]
            gateway.kill()
            gateway = place.start()
            told = lambda: [json.loads(one.body)["data"]["object"]["id"] for one in receiver.deliveries]  # noqa: E731
            until(lambda: set(made) <= set(told()), "all are told")  # noqa: B023
        ids = [json.loads(one.body)["id"] for one in receiver.deliveries]
        objects = [json.loads(one.body)["data"]["object"]["id"] for one in receiver.deliveries]
        assert len(set(ids)) == len(set(objects)) == 15, "an event that is told twice has the same id"


def test_endpoints_hear_what_they_asked_for(stack: Stack, namespace: str, home: Path):
    with Receiver() as meters, Receiver() as live, Receiver() as plans:
        webhooks = (
            f"# ours\n{meters.url} {SECRET} billing.meter.* v1.billing.meter.*\n"
            f"{live.url} {SECRET} live\n{plans.url} {SECRET} test plan.created plan.deleted"
        )
        with GatewayHome(stack, namespace, home, WEBHOOKS=webhooks) as place:
            place.start()
            test = place.stripe_client(place.new_key())
            product = test.v1.products.create({"name": "P"}).id
            plan = test.v1.plans.create({"product": product, "currency": "usd", "interval": "day", "amount": 1}).id
            test.v1.plans.update(plan, {"nickname": "n"})
            test.v1.plans.delete(plan)
            asked = {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
            test.v1.billing.meters.create(asked)
            place.stripe_client(place.new_key(livemode=True)).v1.products.create({"name": "L"})
            until(lambda: meters.deliveries and live.deliveries and len(plans.deliveries) == 2, "all hear")
            assert types(meters) == ["billing.meter.created"]
            assert types(live) == ["product.created"]
            assert types(plans) == ["plan.created", "plan.deleted"]


def test_what_is_three_days_old_is_given_up(stack: Stack, namespace: str, home: Path):
    with (
        Receiver(lambda delivery: 500) as receiver,
        GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place,
    ):
        gateway = place.start()
        announce(place, 1, created_ms=time.time_ns() // 1_000_000 - 3 * 24 * 3_600_000)
        until(lambda: "evt_test_1 given up: HTTP 500" in gateway.log, "it is given up")
        assert len(receiver.deliveries) == 1


def test_two_gateways_share_the_work(stack: Stack, namespace: str, home: Path):
    with Receiver() as receiver, GatewayHome(stack, namespace, home, WEBHOOKS=f"{receiver.url} {SECRET}") as place:
        gateways = [place.start(), place.start()]
        key = place.new_key()
        clients = [place.stripe_client(key, gateway) for gateway in gateways]
        for number in range(6):
            clients[number % 2].v1.products.create({"name": f"P{number}"})
        until(lambda: len(receiver.deliveries) >= 6, "all are told")
        gateways[0].stop()
        for number in range(6, 9):
            clients[1].v1.products.create({"name": f"P{number}"})
        named = lambda: {json.loads(one.body)["data"]["object"]["name"] for one in receiver.deliveries}  # noqa: E731
        until(lambda: len(named()) == 9, "the other goes on")


def test_a_bad_event_in_a_stream_comes_back_as_a_webhook(stack: Stack, namespace: str, home: Path):
    """The whole way: session, stream, report, webhook, and its data fetched, all with the official SDK."""
    with Receiver() as receiver:
        webhooks = f"{receiver.url} {SECRET} v1.billing.meter.*"
        with GatewayHome(stack, namespace, home, WEBHOOKS=webhooks) as place:
            place.start()
            client = place.stripe_client(place.new_key())
            asked = {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}}
            meter = client.v1.billing.meters.create(asked)
            token = client.v2.billing.meter_event_session.create().authentication_token
            stream = place.stripe_client(token)
            sent = [
                {"event_name": "m", "payload": {"stripe_customer_id": "cus_1", "value": "1"}},
                {"event_name": "m", "payload": {"value": "1"}},
                {"event_name": "nobody_reads_this", "payload": {"stripe_customer_id": "cus_1", "value": "1"}},
            ]
            assert stream.v2.billing.meter_event_stream.create({"events": sent}) is None
            until(lambda: len(receiver.deliveries) == 2, "both reports come")
            found = {}
            for one in receiver.deliveries:
                note = client.parse_event_notification(one.body, one.headers["Stripe-Signature"], SECRET)
                found[note.type] = note.fetch_event()
            report = found[REPORT]
            assert report.data.reason.error_count == 1
            assert [one.code for one in report.data.reason.error_types] == ["meter_event_no_customer_defined"]
            assert report.related_object.id == meter.id
            absent = found["v1.billing.meter.no_meter_found"]
            assert [one.code for one in absent.data.reason.error_types] == ["no_meter"]
