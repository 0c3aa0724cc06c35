"""Plans through the official SDK, against a real gateway."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import stripe

from tests.conftest import Stack
from tests.gateways import GatewayHome


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    directory = tmp_path_factory.mktemp("plans")
    with GatewayHome(stack, f"t{secrets.token_hex(6)}", directory) as home:
        home.start()
        yield home


@pytest.fixture(scope="module")
def client(home: GatewayHome) -> stripe.StripeClient:
    return home.stripe_client(home.new_key())


@pytest.fixture(scope="module")
def gold(client: stripe.StripeClient) -> str:
    return client.v1.products.create({"name": "Gold", "id": "gold"}).id


@pytest.fixture(scope="module")
def miles(client: stripe.StripeClient) -> str:
    asked = {"display_name": "Miles", "event_name": "miles", "default_aggregation": {"formula": "sum"}}
    return client.v1.billing.meters.create(asked).id


def monthly(product: Any, **more: Any) -> dict[str, Any]:
    asked = {"currency": "usd", "interval": "month", "product": product, **more}
    return {name: value for name, value in asked.items() if value is not None}


def test_gold_costs_ten_dollars_a_month_or_a_hundred_a_year_or_nine_and_ninety_euros(client):
    """The example of the first issue, as it is written there."""
    gold = client.v1.products.create({"name": "Gold"})
    offers = [("usd", "month", 1000), ("usd", "year", 10_000), ("eur", "month", 900), ("eur", "year", 9000)]
    for currency, interval, amount in offers:
        plan = client.v1.plans.create(
            {"product": gold.id, "currency": currency, "interval": interval, "amount": amount}
        )
        assert plan.id.startswith("plan_")
        assert (plan.object, plan.product, plan.currency, plan.interval) == ("plan", gold.id, currency, interval)
        assert (plan.amount, plan.amount_decimal, plan.active) == (amount, Decimal(amount), True)
        assert (plan.billing_scheme, plan.usage_type, plan.interval_count) == ("per_unit", "licensed", 1)
        assert plan.livemode is False
    listed = [(one.currency, one.interval, one.amount) for one in client.v1.plans.list({"product": gold.id})]
    assert listed == offers[::-1]


def test_amounts_have_twelve_digits_behind_the_point(client, gold):
    plan = client.v1.plans.create(monthly(gold, amount_decimal=Decimal("0.000000000125")))
    assert (plan.amount, plan.amount_decimal) == (None, Decimal("0.000000000125"))
    assert client.v1.plans.create(monthly(gold, amount_decimal="1250.00")).amount == 1250
    assert client.v1.plans.create(monthly(gold, amount=0)).amount == 0


def test_tiers_are_shown_when_they_are_expanded(client, gold, miles):
    tiers = [
        {"up_to": 1000, "unit_amount": 5, "flat_amount": 100},
        {"up_to": 5000, "unit_amount_decimal": "2.5"},
        {"up_to": "inf", "flat_amount_decimal": "0.5"},
    ]
    asked = monthly(gold, billing_scheme="tiered", tiers_mode="graduated", meter=miles, tiers=tiers)
    plan = client.v1.plans.create(asked)
    assert (plan.usage_type, plan.meter, plan.tiers_mode) == ("metered", miles, "graduated")
    assert (plan.amount, plan.amount_decimal) == (None, None)
    assert "tiers" not in plan
    shown = client.v1.plans.retrieve(plan.id, {"expand": ["tiers", "product"]})
    assert shown.product.name == "Gold"
    assert [tier.up_to for tier in shown.tiers] == [1000, 5000, None]
    assert [tier.unit_amount for tier in shown.tiers] == [5, None, None]
    assert [tier.unit_amount_decimal for tier in shown.tiers] == [Decimal(5), Decimal("2.5"), None]
    assert [tier.flat_amount_decimal for tier in shown.tiers] == [Decimal(100), None, Decimal("0.5")]
    listed = client.v1.plans.list({"limit": 1, "expand": ["data.product", "data.tiers"]}).data[0]
    assert (listed.product.id, len(listed.tiers)) == (gold, 3)


def test_usage_is_transformed(client, gold, miles):
    plan = client.v1.plans.create(
        monthly(gold, amount=3, meter=miles, transform_usage={"divide_by": 1000, "round": "up"})
    )
    assert (plan.transform_usage.divide_by, plan.transform_usage.round) == (1000, "up")


def test_a_product_can_be_made_with_its_plan(client):
    inline = {"name": "Silver", "unit_label": "seat", "metadata": {"a": "b"}}
    plan = client.v1.plans.create({**monthly(inline, amount=500), "expand": ["product"]})
    assert (plan.product.name, plan.product.unit_label, plan.product.metadata["a"]) == ("Silver", "seat", "b")
    assert plan.product.id.startswith("prod_")
    options = {"idempotency_key": "silver-again"}
    once = client.v1.plans.create(monthly({"name": "Bronze"}, amount=5), options)
    assert client.v1.plans.create(monthly({"name": "Bronze"}, amount=5), options).to_dict() == once.to_dict()
    assert len(client.v1.products.search({"query": 'name:"Bronze"'}).data) == 1


def test_what_can_change_changes(client, gold):
    other = client.v1.products.create({"name": "Platinum"}).id
    plan = client.v1.plans.create(monthly(gold, amount=1, metadata={"kept": "1", "gone": "2"}))
    changed = client.v1.plans.update(
        plan.id,
        {
            "active": False,
            "nickname": "n",
            "product": other,
            "trial_period_days": 14,
            "metadata": {"gone": "", "x": "3"},
        },
    )
    assert (changed.active, changed.nickname, changed.product, changed.trial_period_days) == (False, "n", other, 14)
    assert changed.metadata.to_dict() == {"kept": "1", "x": "3"}
    assert client.v1.plans.update(plan.id, {"metadata": ""}).metadata.to_dict() == {}
    for fixed in ("amount", "currency", "interval", "id", "tiers", "meter", "usage_type"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.plans.update(plan.id, {fixed: "x"})
        assert (refused.value.code, refused.value.param) == ("parameter_unknown", fixed)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.plans.update(plan.id, {"product": "prod_none"})
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, "resource_missing", "product")


def test_metadata_has_fifty_keys_at_most_also_when_they_come_in_two_requests(client, gold):
    plan = client.v1.plans.create(monthly(gold, amount=1, metadata={f"k{number}": "v" for number in range(49)}))
    assert len(client.v1.plans.update(plan.id, {"metadata": {"k49": "v"}}).metadata.to_dict()) == 50
    with pytest.raises(stripe.InvalidRequestError, match="at most 50") as refused:
        client.v1.plans.update(plan.id, {"metadata": {"k50": "v"}})
    assert refused.value.param == "metadata"
    assert len(client.v1.plans.update(plan.id, {"metadata": {"k0": "", "k50": "v"}}).metadata.to_dict()) == 50


def test_deleted_once(client, gold):
    plan = client.v1.plans.create(monthly(gold, amount=1, id="gold-once"))
    assert plan.id == "gold-once"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.plans.create(monthly(gold, amount=2, id="gold-once"))
    assert (refused.value.code, refused.value.param) == ("resource_already_exists", "id")
    gone = client.v1.plans.delete("gold-once")
    assert gone.to_dict() == {"id": "gold-once", "object": "plan", "deleted": True}
    for ask in (client.v1.plans.delete, client.v1.plans.retrieve, client.v1.plans.update):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            ask("gold-once")
        assert (refused.value.http_status, refused.value.code, refused.value.param) == (404, "resource_missing", "plan")
    assert client.v1.plans.create(monthly(gold, amount=2, id="gold-once")).amount == 2


def test_a_meter_under_plans_can_be_deactivated_but_no_new_plan_takes_it(client, gold):
    asked = {"display_name": "M", "event_name": "fading", "default_aggregation": {"formula": "count"}}
    meter = client.v1.billing.meters.create(asked).id
    plan = client.v1.plans.create(monthly(gold, amount=1, meter=meter))
    client.v1.billing.meters.deactivate(meter)
    assert client.v1.plans.update(plan.id, {"nickname": "still here"}).meter == meter
    with pytest.raises(stripe.InvalidRequestError, match="inactive") as refused:
        client.v1.plans.create(monthly(gold, amount=1, meter=meter))
    assert (refused.value.http_status, refused.value.param) == (400, "meter")


TIERED = {"billing_scheme": "tiered", "tiers_mode": "volume"}
ENDLESS = {"up_to": "inf", "unit_amount": 1}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"currency": None}, "currency", "parameter_missing"),
        ({"currency": "usdollar"}, "currency", None),
        ({"currency": "USD"}, "currency", None),
        ({"interval": None}, "interval", "parameter_missing"),
        ({"interval": "hour"}, "interval", None),
        ({"product": None}, "product", "parameter_missing"),
        ({"product": "prod_none"}, "product", "resource_missing"),
        ({"product": {"active": True}}, "product[name]", "parameter_missing"),
        ({"product": {"name": "x", "unit_label": "x" * 13}}, "product[unit_label]", None),
        ({"product": {"name": "x", "id": "gold"}}, "product[id]", "resource_already_exists"),
        ({"amount": None}, "amount", "parameter_missing"),
        ({"amount": -1}, "amount", None),
        ({"amount": "1.5"}, "amount", "parameter_invalid_integer"),
        ({"amount_decimal": "1"}, "amount", "parameters_exclusive"),
        ({"amount": None, "amount_decimal": "0.0000000000001"}, "amount_decimal", None),
        ({"amount": None, "amount_decimal": "1.5e-12"}, "amount_decimal", None),
        ({"amount": None, "amount_decimal": "-1"}, "amount_decimal", None),
        ({"interval_count": 0}, "interval_count", None),
        ({"interval_count": 37}, "interval_count", None),
        ({"interval": "year", "interval_count": 4}, "interval_count", None),
        ({"interval": "week", "interval_count": 157}, "interval_count", None),
        ({"interval": "day", "interval_count": 1096}, "interval_count", None),
        ({"id": "a/b"}, "id", None),
        ({"id": "a b"}, "id", None),
        ({"usage_type": "metered"}, "meter", "parameter_missing"),
        ({"meter": "mtr_none"}, "meter", "resource_missing"),
        ({"meter": "MILES", "usage_type": "licensed"}, "usage_type", None),
        ({"trial_period_days": -1}, "trial_period_days", None),
        ({"trial_period_days": 731}, "trial_period_days", None),
        ({"tiers": [ENDLESS]}, "tiers", None),
        ({"tiers_mode": "volume"}, "tiers_mode", None),
        (TIERED, "amount", None),
        ({"amount": None, **TIERED}, "tiers", "parameter_missing"),
        ({"amount": None, "billing_scheme": "tiered", "tiers": [ENDLESS]}, "tiers_mode", "parameter_missing"),
        ({"amount": None, **TIERED, "tiers": [{"unit_amount": 1}]}, "tiers[0][up_to]", "parameter_missing"),
        ({"amount": None, **TIERED, "tiers": [{"up_to": 10, "unit_amount": 1}]}, "tiers[0][up_to]", None),
        ({"amount": None, **TIERED, "tiers": [ENDLESS, ENDLESS]}, "tiers[0][up_to]", None),
        ({"amount": None, **TIERED, "tiers": [{"up_to": 0, "unit_amount": 1}, ENDLESS]}, "tiers[0][up_to]", None),
        (
            {
                "amount": None,
                **TIERED,
                "tiers": [{"up_to": 9, "unit_amount": 1}, {"up_to": 9, "unit_amount": 1}, ENDLESS],
            },
            "tiers[1][up_to]",
            None,
        ),
        ({"amount": None, **TIERED, "tiers": [{"up_to": "inf"}]}, "tiers[0][unit_amount]", "parameter_missing"),
        (
            {"amount": None, **TIERED, "tiers": [{**ENDLESS, "unit_amount_decimal": "1"}]},
            "tiers[0][unit_amount]",
            "parameters_exclusive",
        ),
        (
            {"amount": None, **TIERED, "tiers": [{**ENDLESS, "flat_amount": 1, "flat_amount_decimal": "1"}]},
            "tiers[0][flat_amount]",
            "parameters_exclusive",
        ),
        (
            {"amount": None, **TIERED, "tiers": [ENDLESS], "transform_usage": {"divide_by": 2, "round": "up"}},
            "transform_usage",
            None,
        ),
        ({"transform_usage": {"divide_by": 0, "round": "up"}}, "transform_usage[divide_by]", None),
        ({"transform_usage": {"divide_by": 2}}, "transform_usage[round]", "parameter_missing"),
        ({"transform_usage": {"divide_by": 2, "round": "near"}}, "transform_usage[round]", None),
        ({"aggregate_usage": "sum"}, "aggregate_usage", "parameter_unknown"),
        ({"metadata": {"k" * 41: "v"}}, f"metadata[{'k' * 40}]", None),
        ({"metadata": {"k": "v" * 501}}, "metadata[k]", None),
        ({"expand": ["meter"]}, "expand[0]", None),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(client, gold, miles, change, param, code):
    asked = {**monthly(gold, amount=100), **change}
    asked = {name: miles if value == "MILES" else value for name, value in asked.items() if value is not None}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.plans.create(asked)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


@pytest.mark.parametrize(("interval", "most"), [("day", 1095), ("week", 156), ("month", 36), ("year", 3)])
def test_a_cycle_has_three_years_at_most(client, gold, interval, most):
    plan = client.v1.plans.create(monthly(gold, amount=1) | {"interval": interval, "interval_count": most})
    assert (plan.interval, plan.interval_count) == (interval, most)


def test_lists_are_filtered_and_paged_both_ways(home):
    client = home.stripe_client(home.new_key(livemode=True))
    one, two = (client.v1.products.create({"name": name}).id for name in ("One", "Two"))
    made = [client.v1.plans.create(monthly(one if n % 2 else two, amount=n, active=n < 5)).id for n in range(9)]
    assert [plan.id for plan in client.v1.plans.list({"limit": 2}).auto_paging_iter()] == made[::-1]
    back = client.v1.plans.list({"limit": 2, "ending_before": made[0]})
    assert back.has_more
    assert [plan.id for plan in back.auto_paging_iter()] == made[1:]
    assert [plan.id for plan in client.v1.plans.list({"product": one, "active": True})] == [made[3], made[1]]
    created = client.v1.plans.retrieve(made[0]).created
    assert client.v1.plans.list({"created": {"gt": created + 1000}}).data == []
    assert len(client.v1.plans.list({"created": {"gte": created, "lte": created + 1000}}).data) == 9
    assert client.v1.plans.list({"created": created - 1}).data == []
    assert made[0] in [plan.id for plan in client.v1.plans.list({"created": created, "limit": 100})]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.plans.list({"created": {"after": 1}})
    assert refused.value.param == "created[after]"
    for plan in client.v1.plans.list({"limit": 2}).auto_paging_iter():
        client.v1.plans.delete(plan.id)
    assert client.v1.plans.list().data == []
