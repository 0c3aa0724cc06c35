"""Charges and billing cycles, held to slow computations that share nothing with them.

The oracle of charges walks through a quantity piece by piece in fractions; that of cycles walks through the days.
"""

from __future__ import annotations

import calendar
import datetime
import itertools
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.currencies import CURRENCIES
from pipeline.domain.cycles import cycles
from pipeline.domain.pricing import Price, Tier, Transform, charge

TRILLION = 10**12


def nearest(exact: Fraction, step: int) -> int:
    """Half up, by looking at both neighbours."""
    low = exact // step * step
    high = low + step
    return int(low if exact - low < high - exact else high)


def oracle(price: Price, usage: int) -> int:
    """The minor units of ``usage``."""
    quantity = max(Fraction(0), Fraction(usage, TRILLION))
    if price.transform is not None:
        parts = quantity / price.transform.divide_by
        quantity = Fraction(parts.numerator // parts.denominator)
        if price.transform.round == "up" and quantity != parts:
            quantity += 1
    if price.unit_amount is not None:
        amounts = [quantity * Fraction(price.unit_amount, TRILLION)]
    else:
        amounts = list(tier_amounts(price, quantity))
    step = CURRENCIES[price.currency].step
    return sum(nearest(amount, step) for amount in amounts)


def tier_amounts(price: Price, quantity: Fraction):
    bounds = [Fraction(0), *(Fraction(t.up_to) for t in price.tiers[:-1])]
    reached = [t for t, low in zip(price.tiers, bounds, strict=True) if quantity > low] or [price.tiers[0]]
    if price.tiers_mode == "volume":
        reached, shares = reached[-1:], [quantity]
    else:
        shares = [
            (quantity if t.up_to is None else min(quantity, Fraction(t.up_to))) - low
            for t, low in zip(reached, bounds, strict=False)
        ]
    for of, share in zip(reached, shares, strict=True):
        yield share * Fraction(of.unit_amount or 0, TRILLION)
        yield Fraction(of.flat_amount or 0, TRILLION)


amounts = st.one_of(st.integers(0, 3 * TRILLION), st.integers(0, 1000).map(lambda cents: cents * TRILLION))
usages = st.one_of(
    st.integers(-5, 40).map(lambda whole: whole * TRILLION),
    st.integers(-5 * TRILLION, 40 * TRILLION),
    st.integers(-(10**50), 10**50),
)
currencies = st.sampled_from(["usd", "jpy", "kwd", "isk"])


@st.composite
def tiers(draw) -> tuple[Tier, ...]:
    bounds = sorted(draw(st.sets(st.integers(1, 30), max_size=4)))
    some = st.one_of(st.none(), amounts)
    return tuple(Tier(bound, draw(some), draw(some)) for bound in [*bounds, None])


transforms = st.builds(Transform, st.one_of(st.integers(1, 7), st.integers(1, 10**12)), st.sampled_from(["up", "down"]))
prices = st.one_of(
    st.builds(Price, currencies, amounts, transform=st.one_of(st.none(), transforms)),
    st.builds(Price, currencies, tiers=tiers(), tiers_mode=st.sampled_from(["graduated", "volume"])),
)


@settings(max_examples=500, deadline=None)
@given(prices, usages)
def test_charges_are_what_a_slow_computation_says(price: Price, usage: int) -> None:
    found = charge(price, usage)
    assert found.amount == oracle(price, usage)
    assert found.amount == sum(line.amount for line in found.lines)
    for line in found.lines:
        quantity = Fraction(1) if line.quantity is None else Fraction(line.quantity, TRILLION)
        assert Fraction(line.exact, TRILLION**2) == quantity * Fraction(line.unit_amount, TRILLION)


@settings(max_examples=300, deadline=None)
@given(prices, usages, usages)
def test_more_usage_never_costs_less_but_by_volume(price: Price, one: int, other: int) -> None:
    if price.tiers_mode != "volume":
        low, high = sorted((one, other))
        assert charge(price, low).amount <= charge(price, high).amount


def begins(day: datetime.date, interval: str, count: int, anchor: datetime.date) -> bool:
    """Whether a cycle begins on this day."""
    if interval in ("day", "week"):
        return (day - anchor).days % (count * (7 if interval == "week" else 1)) == 0
    months = (day.year - anchor.year) * 12 + day.month - anchor.month
    last = calendar.monthrange(day.year, day.month)[1]
    return day.day == min(anchor.day, last) and months % (count * (12 if interval == "year" else 1)) == 0


def ms(day: datetime.date) -> int:
    return (day - datetime.date(1970, 1, 1)).days * 86_400_000


dates = st.dates(datetime.date(2019, 1, 1), datetime.date(2033, 12, 31))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([("day", 9), ("week", 3), ("month", 1), ("month", 5), ("year", 1), ("year", 3)]),
    dates,
    dates,
    st.integers(1, 900),
    st.integers(0, 86_399_999),
)
def test_cycles_begin_where_a_walk_through_the_days_finds_them(plan, anchor, start, length, time_of_day) -> None:
    interval, count = plan
    end = start + datetime.timedelta(days=length)
    found = cycles(interval, count, ms(anchor) + time_of_day, ms(start) + time_of_day, ms(end) + time_of_day)
    walked = [start + datetime.timedelta(days=n) for n in range(-1200, length + 1200)]
    starts = [day for day in walked if begins(day, interval, count, anchor)]
    expected = [(low, high) for low, high in itertools.pairwise(starts) if low < end and high > start]
    assert [(c.start_ms - time_of_day, c.end_ms - time_of_day) for c in found] == [
        (ms(low), ms(high)) for low, high in expected
    ]
    assert found[0].from_ms == ms(start) + time_of_day
    assert found[-1].until_ms == ms(end) + time_of_day
    assert all(before.until_ms == after.from_ms for before, after in itertools.pairwise(found))
