"""What quantities cost: the examples of Stripe's documentation, and every rule in one line each."""

from __future__ import annotations

import pytest

from pipeline.domain.currencies import CURRENCIES, money_text
from pipeline.domain.pricing import Price, Tier, Transform, charge, line_text, price_of, price_text, rounded
from pipeline.domain.values import value_of


def tier(up_to: int | None, unit: str | None, flat: str | None = None) -> Tier:
    return Tier(up_to, None if unit is None else price_of(unit), None if flat is None else price_of(flat))


FONTS = (tier(5, "700"), tier(10, "650"), tier(None, "600"))
"""$7, $6.50, $6 for each font."""
FONTS_AND_FEES = (
    tier(5, "500", "1000"), tier(10, "400", "2000"), tier(15, "300", "3000"), tier(20, "200", "4000"),
    tier(None, "100", "5000"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tiers", "mode", "quantity", "cents"),
    [
        *((FONTS, "volume", *row) for row in [(1, 700), (5, 3500), (6, 3900), (20, 12000), (25, 15000)]),
        *((FONTS, "graduated", *row) for row in [(1, 700), (5, 3500), (6, 4150), (20, 12750), (25, 15750)]),
        *((FONTS_AND_FEES, "volume", *row) for row in [(1, 1500), (5, 3500), (6, 4400), (20, 8000), (25, 7500)]),
        *((FONTS_AND_FEES, "graduated", *row) for row in [(1, 1500), (5, 3500), (6, 5900), (20, 17000), (25, 22500)]),
    ],
)
def test_the_examples_of_stripes_documentation(tiers, mode, quantity: int, cents: int) -> None:
    assert charge(Price("usd", tiers=tiers, tiers_mode=mode), value_of(str(quantity))).amount == cents


def test_every_line_can_be_followed_with_a_pencil() -> None:
    price = Price("usd", tiers=(tier(5, "700", "100"), tier(None, "0.000000000001")), tiers_mode="graduated")
    found = charge(price, value_of("12.5"))
    assert found.steps == ("usage: 12.5",)
    assert [(line.text, line_text("usd", line)) for line in found.lines] == [
        ("each unit up to 5", "5 x 7.00 USD = 35.00 USD"),
        ("flat amount for usage up to 5", "1.00 USD = 1.00 USD"),
        ("each unit above 5", "7.5 x 0.00000000000001 USD = 0.000000000000075 USD, charged as 0.00 USD"),
    ]
    assert (found.quantity, found.amount) == (value_of("12.5"), 3600)


@pytest.mark.parametrize(
    ("usage", "round_to", "quantity", "cents"),
    [("0", "up", "0", 0), ("1", "up", "1", 9), ("1000", "up", "1", 9), ("1000.5", "up", "2", 18),
     ("999", "down", "0", 0), ("2999.999", "down", "2", 18), ("-5", "up", "0", 0)],
)  # fmt: skip
def test_usage_is_divided_before_it_is_priced(usage: str, round_to, quantity: str, cents: int) -> None:
    found = charge(Price("usd", price_of("9"), transform=Transform(1000, round_to)), value_of(usage))
    assert (found.quantity, found.amount) == (value_of(quantity), cents)
    assert found.steps[-1] == f"divided by 1000 and rounded {round_to}: {quantity}"


def test_negative_usage_is_charged_as_none() -> None:
    found = charge(Price("usd", price_of("100")), value_of("-3"))
    assert (found.amount, found.steps) == (0, ("usage: -3", "negative usage is charged as 0"))


@pytest.mark.parametrize("mode", ["graduated", "volume"])
def test_a_tier_ends_with_its_bound_and_the_first_one_is_always_reached(mode) -> None:
    price = Price("eur", tiers=(tier(2, None, "10"), tier(None, None, "70")), tiers_mode=mode)
    amounts = [charge(price, value_of(usage)).amount for usage in ("0", "2", "2.000000000001", "3")]
    assert amounts == ([10, 10, 80, 80] if mode == "graduated" else [10, 10, 70, 70])


@pytest.mark.parametrize(
    ("exact", "step", "amount"),
    [("0.5", 1, 1), ("0.499999999999", 1, 0), ("1.5", 1, 2), ("2.5", 1, 3), ("149.999999999999", 100, 100),
     ("150", 100, 200), ("0", 100, 0)],
)  # fmt: skip
def test_lines_are_rounded_half_up_to_what_can_be_charged(exact: str, step: int, amount: int) -> None:
    assert rounded(value_of(exact) * 10**12, step) == amount


def test_lines_are_rounded_each_and_then_added() -> None:
    halves = Price("usd", tiers=(tier(1, "0.5", "0.5"), tier(None, "0.5")), tiers_mode="graduated")
    assert charge(halves, value_of("2")).amount == 3


@pytest.mark.parametrize(
    ("code", "amount", "shown"),
    [("usd", 12750, "127.50 USD"), ("jpy", 500, "500 JPY"), ("kwd", 1005, "1.005 KWD"), ("usd", 5, "0.05 USD"),
     ("isk", 500, "5.00 ISK"), ("mga", 500, "500 MGA"), ("eur", -5, "-0.05 EUR"), ("usd", 0, "0.00 USD")],
)  # fmt: skip
def test_amounts_are_shown_as_the_currency_is_written(code: str, amount: int, shown: str) -> None:
    assert money_text(code, amount) == shown


def test_a_yen_has_no_cents_and_a_krona_is_charged_whole() -> None:
    assert charge(Price("jpy", price_of("0.5")), value_of("3")).amount == 2
    assert charge(Price("kwd", price_of("1.5")), value_of("1")).amount == 2
    assert charge(Price("isk", price_of("149")), value_of("1")).amount == 100


def test_the_table_of_currencies() -> None:
    assert len(CURRENCIES) > 150
    assert all(len(code) == 3 and code.isalpha() and code.islower() for code in CURRENCIES)
    digits = {CURRENCIES[code].digits for code in ("usd", "jpy", "bhd")}
    assert digits == {0, 2, 3}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"currency": "xxx", "unit_amount": 1}, "is no currency"),
        ({"currency": "USD", "unit_amount": 1}, "is no currency"),
        ({}, "either an amount"),
        ({"unit_amount": 1, "tiers": FONTS, "tiers_mode": "volume"}, "either an amount"),
        ({"tiers": FONTS}, "either an amount"),
        ({"tiers": FONTS[:2], "tiers_mode": "volume"}, "the last tier"),
        ({"tiers": (FONTS[2], FONTS[2]), "tiers_mode": "volume"}, "the last tier"),
        ({"tiers": (FONTS[1], FONTS[0], FONTS[2]), "tiers_mode": "volume"}, "ascend"),
        ({"tiers": (tier(0, "1"), FONTS[2]), "tiers_mode": "volume"}, "positive"),
        ({"tiers": FONTS, "tiers_mode": "volume", "transform": Transform(2, "up")}, "not together with tiers"),
        ({"unit_amount": 1, "transform": Transform(0, "up")}, "at least 1"),
    ],
)
def test_prices_that_are_none_are_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Price(**({"currency": "usd"} | fields))


def test_prices_as_text() -> None:
    assert [price_text(price_of(text)) for text in ("0", "1", "0.5", "12.000000000001")] == [
        "0", "1", "0.5", "12.000000000001"
    ]  # fmt: skip
    for wrong in ("", "-1", "1e3", ".5", "5.", "1.0000000000001", "١", "1 "):
        with pytest.raises(ValueError, match="a price"):
            price_of(wrong)
