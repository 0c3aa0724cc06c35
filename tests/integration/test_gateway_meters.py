"""Meters through the official SDK, against a real gateway."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
import stripe

from tests.conftest import Stack
from tests.gateways import GatewayHome

SUM = {"formula": "sum"}


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("meters")
    with GatewayHome(stack, f"t{secrets.token_hex(6)}", directory) as home:
        home.start()
        yield home


@pytest.fixture(scope="module")
def client(home: GatewayHome) -> stripe.StripeClient:
    return home.stripe_client(home.new_key())


def meter(client: stripe.StripeClient, event_name: str, **more: object) -> stripe.billing.Meter:
    asked = {"display_name": "Some", "event_name": event_name, "default_aggregation": SUM, **more}
    return client.v1.billing.meters.create(asked)  # type: ignore[arg-type]


def test_a_meter_has_stripes_defaults(client):
    made = meter(client, "defaults")
    assert made.id.startswith("mtr_test_")
    assert (made.object, made.livemode, made.status) == ("billing.meter", False, "active")
    assert (made.display_name, made.event_name, made.default_aggregation.formula) == ("Some", "defaults", "sum")
    assert (made.customer_mapping.type, made.customer_mapping.event_payload_key) == ("by_id", "stripe_customer_id")
    assert made.value_settings.event_payload_key == "value"
    assert made.event_time_window is None
    assert made.status_transitions.deactivated_at is None
    assert made.created == made.updated
    assert client.v1.billing.meters.retrieve(made.id).to_dict() == made.to_dict()


def test_a_meter_keeps_what_it_was_made_with(client):
    made = meter(
        client,
        "all",
        default_aggregation={"formula": "last"},
        customer_mapping={"type": "by_id", "event_payload_key": "who"},
        value_settings={"event_payload_key": "seats"},
        event_time_window="day",
        dimension_payload_keys=["region", "tier"],
    )
    assert (made.customer_mapping.event_payload_key, made.value_settings.event_payload_key) == ("who", "seats")
    assert (made.event_time_window, made.default_aggregation.formula) == ("day", "last")
    assert made.to_dict()["dimension_payload_keys"] == ["region", "tier"]


def test_only_the_name_for_people_changes(client):
    made = meter(client, "renamed")
    renamed = client.v1.billing.meters.update(made.id, {"display_name": "Other"})
    assert renamed.to_dict() == {**made.to_dict(), "display_name": "Other", "updated": renamed.updated}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.update(made.id, {"event_name": "other"})
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "event_name")


def test_deactivated_and_reactivated_and_neither_twice(client):
    made = meter(client, "on_and_off")
    off = client.v1.billing.meters.deactivate(made.id)
    assert off.status == "inactive"
    assert off.status_transitions.deactivated_at >= made.created
    with pytest.raises(stripe.InvalidRequestError, match="inactive already") as refused:
        client.v1.billing.meters.deactivate(made.id)
    assert (refused.value.http_status, refused.value.param) == (400, "id")
    on = client.v1.billing.meters.reactivate(made.id)
    assert (on.status, on.status_transitions.deactivated_at) == ("active", None)
    with pytest.raises(stripe.InvalidRequestError, match="active already"):
        client.v1.billing.meters.reactivate(made.id)


def test_one_active_meter_reads_an_event_name(client):
    first = meter(client, "shared")
    with pytest.raises(stripe.InvalidRequestError, match=first.id) as refused:
        meter(client, "shared")
    assert (refused.value.http_status, refused.value.param) == (400, "event_name")
    client.v1.billing.meters.deactivate(first.id)
    second = meter(client, "shared")
    with pytest.raises(stripe.InvalidRequestError, match=second.id):
        client.v1.billing.meters.reactivate(first.id)
    client.v1.billing.meters.deactivate(second.id)
    assert client.v1.billing.meters.reactivate(first.id).status == "active"


def test_the_other_modes_meter_is_absent(home, client):
    """FAULTS S2: the answer is the same as for one that never was."""
    made = meter(client, "both_modes")
    live = home.stripe_client(home.new_key(livemode=True))
    said = []
    for id_ in (made.id, "mtr_test_none"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            live.v1.billing.meters.retrieve(id_)
        assert (refused.value.http_status, refused.value.code, refused.value.param) == (404, "resource_missing", "id")
        said.append(refused.value.user_message.replace(id_, "ID"))
    assert said[0] == said[1]
    assert meter(live, "both_modes").id.startswith("mtr_")


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"display_name": None}, "display_name", "parameter_missing"),
        ({"display_name": "x" * 251}, "display_name", None),
        ({"display_name": ""}, "display_name", "parameter_invalid_empty"),
        ({"event_name": None}, "event_name", "parameter_missing"),
        ({"event_name": "x" * 101}, "event_name", None),
        ({"event_name": "a\u200bb"}, "event_name", None),
        ({"default_aggregation": None}, "default_aggregation", "parameter_missing"),
        ({"default_aggregation": {"formula": "max"}}, "default_aggregation[formula]", None),
        ({"default_aggregation": {"formula": "sum", "x": "1"}}, "default_aggregation[x]", "parameter_unknown"),
        ({"customer_mapping": {"type": "by_id"}}, "customer_mapping[event_payload_key]", "parameter_missing"),
        ({"customer_mapping": {"event_payload_key": "a"}}, "customer_mapping[type]", "parameter_missing"),
        ({"customer_mapping": {"type": "by", "event_payload_key": "a"}}, "customer_mapping[type]", None),
        ({"value_settings": {"event_payload_key": "stripe_customer_id"}}, "value_settings[event_payload_key]", None),
        ({"dimension_payload_keys": ["value"]}, "dimension_payload_keys[0]", None),
        ({"dimension_payload_keys": ["a", "a"]}, "dimension_payload_keys[1]", None),
        ({"event_time_window": "week"}, "event_time_window", None),
        ({"livemode": "true"}, "livemode", "parameter_unknown"),
        ({"metadata": {"a": "b"}}, "metadata", "parameter_unknown"),
        ({"expand": ["x"]}, "expand[0]", None),
    ],
)
def test_what_is_wrong_is_named(client, change, param, code):
    asked = {"display_name": "Some", "event_name": "wrong", "default_aggregation": SUM, **change}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.create({name: value for name, value in asked.items() if value is not None})
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)
    assert param.partition("[")[0] in refused.value.user_message


def test_a_repeat_finds_what_it_made_and_other_parameters_are_refused(client):
    options = {"idempotency_key": "make-repeated"}
    asked = {"display_name": "Some", "event_name": "repeated", "default_aggregation": SUM}
    made = client.v1.billing.meters.create(asked, options)
    client.v1.billing.meters.update(made.id, {"display_name": "Later"})
    again = client.v1.billing.meters.create(asked, options)
    assert again.to_dict() == made.to_dict()
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.billing.meters.create({**asked, "display_name": "Other"}, options)
    assert refused.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        client.v1.billing.meters.deactivate(made.id, None, options)
    off = {"idempotency_key": "deactivate-repeated"}
    assert client.v1.billing.meters.deactivate(made.id, None, off).status == "inactive"
    assert client.v1.billing.meters.deactivate(made.id, None, off).status == "inactive"


def test_lists_are_paged_both_ways_newest_first(home):
    client = home.stripe_client(home.new_key(livemode=True))
    before = [one.id for one in client.v1.billing.meters.list({"limit": 100}).data]
    made = [meter(client, f"paged_{number}").id for number in range(7)]
    expected = [*reversed(made), *before]
    assert [one.id for one in client.v1.billing.meters.list({"limit": 2}).auto_paging_iter()] == expected
    upwards = client.v1.billing.meters.list({"limit": 2, "ending_before": expected[-1]})
    assert [one.id for one in upwards.auto_paging_iter()] == expected[:-1][::-1]
    client.v1.billing.meters.deactivate(made[3])
    page = client.v1.billing.meters.list({"limit": 3, "status": "inactive"})
    assert ([one.id for one in page.data], page.has_more, page.url) == ([made[3]], False, "/v1/billing/meters")
    active = client.v1.billing.meters.list({"limit": 2, "status": "active", "starting_after": made[3]})
    assert [one.id for one in active.data] == [made[2], made[1]]


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"limit": 0}, "limit", None),
        ({"limit": 101}, "limit", None),
        ({"limit": "x"}, "limit", "parameter_invalid_integer"),
        ({"status": "gone"}, "status", None),
        ({"starting_after": "mtr_none"}, "starting_after", "resource_missing"),
        ({"starting_after": "mtr_1", "ending_before": "mtr_2"}, "starting_after", "parameters_exclusive"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(client, asked, param, code):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meters.list(asked)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


def test_scopes_open_what_they_name(home, client):
    """FAULTS S4."""
    made = meter(client, "scoped")
    reader = home.stripe_client(home.new_key(scopes=["summaries:read"]))
    assert reader.v1.billing.meters.retrieve(made.id).id == made.id
    with pytest.raises(stripe.PermissionError, match="meters:write"):
        reader.v1.billing.meters.deactivate(made.id)
    sender = home.stripe_client(home.new_key(scopes=["events:write"]))
    with pytest.raises(stripe.PermissionError):
        sender.v1.billing.meters.list()
    writer = home.stripe_client(home.new_key(scopes=["meters:write"]))
    assert meter(writer, "scoped_2").status == "active"
    with pytest.raises(stripe.PermissionError, match="catalog:write"):
        writer.v1.products.create({"name": "x"})
