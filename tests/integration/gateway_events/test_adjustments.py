"""Adjustments through a real gateway: what is answered is what stands in their topic."""

from __future__ import annotations

import uuid

import pytest
import stripe

from pipeline import wiring
from pipeline.domain.events import CancellationRange
from pipeline.kafka.reading import read
from tests.gateways import GatewayHome
from tests.posted import CODEC


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
