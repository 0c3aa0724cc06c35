"""Products and their search through the official SDK, against a real gateway."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from decimal import Decimal

import pytest
import stripe

from tests.conftest import Stack
from tests.gateways import GatewayHome


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHome]:
    with GatewayHome(stack, f"t{secrets.token_hex(6)}", tmp_path_factory.mktemp("products")) as home:
        home.start()
        yield home


@pytest.fixture(scope="module")
def client(home: GatewayHome) -> stripe.StripeClient:
    return home.stripe_client(home.new_key())


EVERYTHING = {
    "name": "Headset",
    "active": False,
    "description": "Two lines,\nas people write them.",
    "id": "headset",
    "images": ["https://example.com/1.png", "https://example.com/2.png"],
    "marketing_features": [{"name": "Warm"}, {"name": "Light"}],
    "metadata": {"team": "tower"},
    "package_dimensions": {"height": 4.5, "length": 8, "weight": 12.25, "width": 7},
    "shippable": True,
    "statement_descriptor": "METERLINE",
    "tax_code": "txcd_99999999",
    "unit_label": "headset",
    "url": "https://example.com/headset",
}


def test_a_product_needs_a_name_and_no_more(client):
    made = client.v1.products.create({"name": "Gold"})
    assert made.id.startswith("prod_")
    assert (made.object, made.active, made.livemode, made.name) == ("product", True, False, "Gold")
    assert (made.description, made.default_price, made.package_dimensions, made.shippable, made.url) == (None,) * 5
    assert (made.images, made.marketing_features, made.metadata.to_dict()) == ([], [], {})
    assert client.v1.products.retrieve(made.id).to_dict() == made.to_dict()


def test_a_product_keeps_all_that_it_was_made_with_and_each_part_can_be_cleared(client):
    made = client.v1.products.create(EVERYTHING)
    for name, value in EVERYTHING.items():
        shown = made.to_dict()[name]
        assert shown == (value if name != "package_dimensions" else {key: float(size) for key, size in value.items()})
    clearable = (
        *("description", "images", "marketing_features", "metadata", "package_dimensions", "tax_code", "unit_label"),
        "url",
    )
    for name in clearable:
        cleared = client.v1.products.update("headset", {name: ""}).to_dict()
        assert not cleared[name]
    left = client.v1.products.update("headset", {"name": "Earphones", "active": True, "shippable": False})
    assert (left.name, left.active, left.shippable, left.statement_descriptor) == (
        "Earphones", True, False, "METERLINE",
    )  # fmt: skip


def test_sizes_keep_their_digits(home, client):
    sizes = {"height": "0.1", "length": "1000000000.000000000001", "weight": "3", "width": "2.50"}
    made = client.v1.products.create({"name": "Exact", "package_dimensions": sizes})
    with home.client(home.new_key()) as http:
        shown = http.get(f"/v1/products/{made.id}").body["package_dimensions"]
    assert shown["length"] == Decimal("1000000000.000000000001")
    assert str(shown["width"]) == "2.5"
    assert Decimal("0.1") == Decimal(str(made.package_dimensions.height))


def test_the_default_price_is_one_of_its_plans(client):
    asked = {
        "name": "Lounge",
        "default_price_data": {"currency": "eur", "unit_amount": 900, "recurring": {"interval": "month"}},
    }
    options = {"idempotency_key": "lounge"}
    made = client.v1.products.create(asked, options)
    plan = client.v1.plans.retrieve(made.default_price)
    assert (plan.product, plan.amount, plan.currency, plan.interval) == (made.id, 900, "eur", "month")
    assert client.v1.products.create(asked, options).to_dict() == made.to_dict()
    assert len(client.v1.plans.list({"product": made.id}).data) == 1
    other = client.v1.plans.create({"product": made.id, "currency": "usd", "interval": "year", "amount": 1}).id
    assert client.v1.products.update(made.id, {"default_price": other}).default_price == other
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.products.update(made.id, {"default_price": "plan_none"})
    assert (refused.value.http_status, refused.value.param) == (400, "default_price")
    client.v1.plans.delete(other)
    assert client.v1.products.retrieve(made.id).default_price is None


def test_a_product_with_plans_stays(client):
    made = client.v1.products.create({"name": "Kept"})
    plan = client.v1.plans.create({"product": made.id, "currency": "usd", "interval": "day", "amount": 1}).id
    with pytest.raises(stripe.InvalidRequestError, match=plan) as refused:
        client.v1.products.delete(made.id)
    assert (refused.value.http_status, refused.value.param) == (400, "id")
    client.v1.plans.delete(plan)
    assert client.v1.products.delete(made.id).to_dict() == {"id": made.id, "object": "product", "deleted": True}
    for ask in (client.v1.products.delete, client.v1.products.retrieve, client.v1.products.update):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            ask(made.id)
        assert (refused.value.http_status, refused.value.code, refused.value.param) == (404, "resource_missing", "id")


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({}, "name", "parameter_missing"),
        ({"name": ""}, "name", "parameter_invalid_empty"),
        ({"name": "x", "description": "x" * 40_001}, "description", None),
        ({"name": "x", "images": ["x"] * 9}, "images", None),
        ({"name": "x", "marketing_features": [{"name": "x"}] * 16}, "marketing_features", None),
        ({"name": "x", "marketing_features": [{"title": "x"}]}, "marketing_features[0][title]", "parameter_unknown"),
        ({"name": "x", "package_dimensions": {"height": 1}}, "package_dimensions[length]", "parameter_missing"),
        (
            {"name": "x", "package_dimensions": {"height": -1, "length": 1, "weight": 1, "width": 1}},
            "package_dimensions[height]",
            None,
        ),
        ({"name": "x", "shippable": "yes"}, "shippable", None),
        ({"name": "x", "statement_descriptor": "x" * 23}, "statement_descriptor", None),
        ({"name": "x", "unit_label": "x" * 13}, "unit_label", None),
        ({"name": "x", "url": "javascript:alert(1)"}, "url", "url_invalid"),
        ({"name": "x", "url": "https://example.com/" + "x" * 2040}, "url", "url_invalid"),
        ({"name": "x", "id": "search"}, "id", None),
        ({"name": "x", "id": "../x"}, "id", None),
        ({"name": "x", "metadata": {str(number): "v" for number in range(51)}}, "metadata", None),
        (
            {"name": "x", "default_price_data": {"currency": "usd"}},
            "default_price_data[recurring]",
            "parameter_missing",
        ),
        (
            {"name": "x", "default_price_data": {"currency": "usd", "recurring": {"interval": "day"}}},
            "default_price_data[unit_amount]",
            "parameter_missing",
        ),
        ({"name": "x", "created": 1}, "created", "parameter_unknown"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(client, asked, param, code):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.products.create(asked)
    assert (refused.value.http_status, refused.value.param, refused.value.code) == (400, param, code)


def test_lists_are_filtered_and_paged_both_ways(home):
    client = home.stripe_client(home.new_key(livemode=True))
    made = [
        client.v1.products.create(
            {"name": f"P{n}", "active": n < 5, "shippable": n == 2, "url": f"https://example.com/{n % 2}"}
        ).id
        for n in range(7)
    ]
    assert [one.id for one in client.v1.products.list({"limit": 3}).auto_paging_iter()] == made[::-1]
    back = client.v1.products.list({"limit": 3, "ending_before": made[0]})
    assert [one.id for one in back.auto_paging_iter()] == made[1:]
    assert [one.id for one in client.v1.products.list({"active": False})] == [made[6], made[5]]
    assert [one.id for one in client.v1.products.list({"shippable": True})] == [made[2]]
    assert [one.id for one in client.v1.products.list({"url": "https://example.com/1"})] == [made[5], made[3], made[1]]
    assert [one.id for one in client.v1.products.list({"ids": [made[1], made[4], "none"]})] == [made[4], made[1]]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.products.list({"ids": [made[1]], "starting_after": made[2]})
    assert (refused.value.param, refused.value.code) == ("ids", "parameters_exclusive")


@pytest.fixture(scope="module")
def shop(home: GatewayHome) -> stripe.StripeClient:
    client = home.stripe_client(home.new_key(livemode=True))
    client.v1.products.create({"name": "Gold Plan", "description": "Everything", "metadata": {"Tier one": "1"}})
    client.v1.products.create({"name": "silver plan", "active": False, "metadata": {"tier": "2", 'Quote"d': "x"}})
    client.v1.products.create({"name": "Bronze", "shippable": True, "url": "https://example.com/bronze"})
    return client


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('name:"gold plan"', ["Gold Plan"]),
        ("name~'PLAN'", ["silver plan", "Gold Plan"]),
        ('name~"plan" AND active:"true"', ["Gold Plan"]),
        ('name~"plan" -active:"true"', ["silver plan"]),
        ("active:'false' OR shippable:'true'", ["Bronze", "silver plan"]),
        ('metadata["Tier one"]:"1"', ["Gold Plan"]),
        ('metadata["Quote\\"d"]:"X"', ["silver plan"]),
        ('-metadata["tier"]:null name~"plan"', ["silver plan"]),
        ('url:null name~"plan"', ["silver plan", "Gold Plan"]),
        ('created>1000000000 AND name:"Bronze"', ["Bronze"]),
        ('created<1000000000 name:"Bronze"', []),
        ('description:"everything"', ["Gold Plan"]),
    ],
)
def test_a_search_finds(shop, query, names):
    found = shop.v1.products.search({"query": query})
    assert (found.object, found.url, found.has_more, found.next_page) == (
        "search_result", "/v1/products/search", False, None,
    )  # fmt: skip
    assert [one.name for one in found.data if not one.name.startswith("P")] == names


def test_a_search_goes_on_page_by_page_and_counts(shop):
    for number in range(5):
        shop.v1.products.create({"name": f"Paged {number}"})
    asked = {"query": 'name~"paged"', "limit": 2}
    first = shop.v1.products.search({**asked, "expand": ["total_count"]})
    assert (len(first.data), first.has_more, first.total_count) == (2, True, 5)
    assert "total_count" not in shop.v1.products.search(asked)
    names = [one.name for one in shop.v1.products.search(asked).auto_paging_iter()]
    assert names == [f"Paged {number}" for number in range(5)][::-1]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.products.search({**asked, "page": "x"})
    assert refused.value.param == "page"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "empty"),
        ("   ", "fields are"),
        ("gold", "fields are"),
        ('colour:"red"', "no field"),
        ('name:"a" AND active:"true" OR shippable:"true"', "not with both"),
        ('name:"a"active:"true"', "between clauses"),
        ('name~"go"', "3 characters"),
        ('active~"true"', "compared with"),
        ('name>"a"', "compared with"),
        ('created:"x"', "whole number"),
        ('metadata:"x"', "written wrongly"),
        ('name["x"]:"x"', "written wrongly"),
        (" AND ".join(['name:"a"'] * 11), "at most 10"),
        ('name:"a" AND', "fields are"),
        ('name:"open', "fields are"),
    ],
)
def test_a_query_that_cannot_be_read_is_explained(shop, query, said):
    with pytest.raises(stripe.InvalidRequestError, match=said) as refused:
        shop.v1.products.search({"query": query})
    assert (refused.value.http_status, refused.value.param) == (400, "query")
