"""What a quantity costs, exactly, in lines that can be followed with a pencil.

Quantities are ints in units of 10^-12, prices are ints in units of 10^-12 of the currency's minor unit, so a product is
an int in units of 10^-24 of it: nothing is rounded on the way. Each line is rounded once, half up, to what can be
charged; the total is the sum of the lines as they are shown.

Order: negative usage counts as none; ``transform`` divides and rounds to whole units; then tiers or the price.
A tier reaches up to and including its bound, the next begins just above it, also for fractions of a unit. The first
tier begins at 0 and is always reached: its flat amount is owed without usage, too.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pipeline.domain.currencies import currency_of, decimal_text, money_text
from pipeline.domain.limits import VALUE_SCALE, VALUE_UNIT
from pipeline.domain.values import value_text

PRICE_PLACES = 12
"""Digits of a price behind the point, in the minor unit."""
PRICE_UNIT: int = 10**PRICE_PLACES
EXACT_PLACES = VALUE_SCALE + PRICE_PLACES


class Tier(NamedTuple):
    """Quantities above the bound of the tier before, up to and including ``up_to``."""

    up_to: int | None
    """Whole units; None in the last tier."""
    unit_amount: int | None = None
    """10^-12 minor units for each unit."""
    flat_amount: int | None = None
    """10^-12 minor units for reaching the tier."""


class Transform(NamedTuple):
    """Divides a quantity before it is priced; what results is whole."""

    divide_by: int
    round: Literal["up", "down"]


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """How a quantity is priced: one amount for each unit, or tiers."""

    currency: str
    """ISO 4217, small letters. Raises ValueError for another."""
    unit_amount: int | None = None
    """10^-12 minor units; None when there are tiers."""
    tiers: tuple[Tier, ...] = ()
    """Ascending; the last one has no bound."""
    tiers_mode: Literal["graduated", "volume"] | None = None
    transform: Transform | None = None

    def __post_init__(self) -> None:
        try:
            currency_of(self.currency)
        except KeyError as error:
            raise ValueError(f"{self.currency!r} is no currency: ISO 4217, three small letters") from error
        if (self.unit_amount is None) != bool(self.tiers) or bool(self.tiers) != (self.tiers_mode is not None):
            raise ValueError("a price has either an amount for each unit, or tiers with a mode")
        bounds = [tier.up_to for tier in self.tiers]
        if bounds and not (bounds.pop() is None and _ascend(bounds)):
            raise ValueError("the bounds of tiers are positive and ascend; the last tier, and no other, has none")
        if self.transform is not None and (self.tiers or self.transform.divide_by < 1):
            raise ValueError("a quantity is divided by at least 1, and not together with tiers")


def _ascend(bounds: list[int | None]) -> bool:
    known = [0, *(bound for bound in bounds if bound is not None)]
    return len(known) == len(bounds) + 1 and all(low < high for low, high in itertools.pairwise(known))


class Line(NamedTuple):
    """One product: ``quantity`` x ``unit_amount`` = ``exact``, which is charged as ``amount``."""

    text: str
    quantity: int | None
    """10^-12 units; None for a flat amount."""
    unit_amount: int
    """10^-12 minor units: of one unit, or the flat amount."""
    exact: int
    """10^-24 minor units."""
    amount: int
    """Whole minor units: ``exact`` rounded half up to what can be charged."""


class Charge(NamedTuple):
    """What a quantity comes to."""

    steps: tuple[str, ...]
    """How the quantity came about, for people."""
    quantity: int
    """What was priced, 10^-12 units."""
    lines: tuple[Line, ...]
    amount: int
    """Whole minor units: the sum of the lines."""


def charge(price: Price, usage: int) -> Charge:
    """The charge of ``usage`` (10^-12 units; what a meter says, or a number of licences)."""
    steps = [f"usage: {value_text(usage)}"]
    quantity = usage
    if usage < 0:
        quantity = 0
        steps.append("negative usage is charged as 0")
    if price.transform is not None:
        by, direction = price.transform
        quantity = _divided(quantity, price.transform)
        steps.append(f"divided by {by} and rounded {direction}: {value_text(quantity)}")
    lines = tuple(_lines(price, quantity))
    return Charge(tuple(steps), quantity, lines, sum(line.amount for line in lines))


def rounded(exact: int, step: int) -> int:
    """10^-24 minor units to the next multiple of ``step`` minor units, half up."""
    grain: int = step * 10**EXACT_PLACES
    return (2 * exact + grain) // (2 * grain) * step


def _divided(quantity: int, transform: Transform) -> int:
    divisor: int = transform.divide_by * VALUE_UNIT
    parts = -(-quantity // divisor) if transform.round == "up" else quantity // divisor
    whole: int = parts * VALUE_UNIT
    return whole


def _lines(price: Price, quantity: int) -> Iterator[Line]:
    if price.unit_amount is not None:
        yield _line(price, "each unit", quantity, price.unit_amount)
        return
    below = 0
    for tier in price.tiers:
        bound = None if tier.up_to is None else tier.up_to * VALUE_UNIT
        last = bound is None or quantity <= bound
        if price.tiers_mode == "graduated":
            slice_of_it = (quantity if last or bound is None else bound) - below
            yield from _of_tier(price, tier, below, slice_of_it)
        elif last:
            yield from _of_tier(price, tier, below, quantity)
        if last or bound is None:
            return
        below = bound


def _of_tier(price: Price, tier: Tier, below: int, quantity: int) -> Iterator[Line]:
    where = _where(tier, below)
    if tier.unit_amount is not None:
        what = "each unit" if price.tiers_mode == "graduated" else "each unit, the quantity being"
        yield _line(price, f"{what} {where}", quantity, tier.unit_amount)
    if tier.flat_amount is not None:
        yield _line(price, f"flat amount for usage {where}", None, tier.flat_amount)


def _where(tier: Tier, below: int) -> str:
    above = f"above {value_text(below)}"
    if tier.up_to is None:
        return above if below else "of any size"
    return f"{above} up to {tier.up_to}" if below else f"up to {tier.up_to}"


def _line(price: Price, text: str, quantity: int | None, unit_amount: int) -> Line:
    exact = unit_amount * (VALUE_UNIT if quantity is None else quantity)
    return Line(text, quantity, unit_amount, exact, rounded(exact, currency_of(price.currency).step))


def line_text(currency: str, line: Line) -> str:
    """The line as one writes it down: ``5 x 7.00 USD = 35.00 USD``; the exact product, where it was rounded."""
    unit = money_text(currency, line.unit_amount, PRICE_PLACES)
    amount = money_text(currency, line.amount)
    exact = money_text(currency, line.exact, EXACT_PLACES)
    product = unit if line.quantity is None else f"{value_text(line.quantity)} x {unit}"
    return f"{product} = {exact}" if exact == amount else f"{product} = {exact}, charged as {amount}"


def price_of(text: str) -> int:
    """The scaled int of a price such as ``0.000000000001``. Raises ValueError."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdigit() and whole) or bool(point) != bool(fraction):
        raise ValueError("a price is a decimal without sign or exponent")
    if len(fraction) > PRICE_PLACES:
        raise ValueError(f"a price has at most {PRICE_PLACES} digits behind the point")
    return int(whole) * PRICE_UNIT + int(fraction.ljust(PRICE_PLACES, "0"))


def price_text(price: int) -> str:
    """The shortest decimal of a price, in minor units."""
    return decimal_text(price, PRICE_PLACES)
