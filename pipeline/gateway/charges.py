"""What a customer's usage costs by a plan: each billing cycle of a range, computed line by line.

Metered plans charge for the usage of each cycle, after it; licensed plans for a quantity that is given, when a cycle
begins. Where the range cuts a cycle, that is said: of a metered plan's cycle the part inside the range is charged, from
its first tier on; a licensed plan's cycle that began before the range was charged then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, cast

from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import Summary
from pipeline.domain.catalog import Meter, Plan
from pipeline.domain.currencies import decimal_text, money_text
from pipeline.domain.cycles import Cycle, Interval, cycles
from pipeline.domain.limits import MINUTE_MS, VALUE_UNIT
from pipeline.domain.pricing import EXACT_PLACES, Charge, Line, Price, Tier, Transform, charge, line_text, price_text
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text
from pipeline.gateway.calls import Call
from pipeline.gateway.kinds import Integer, Text
from pipeline.gateway.metered import When, formula_value, question
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Field
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import invalid, missing_object

SCOPE: Final = "summaries:read"
KIND: Final = "meterline.charges"
QUANTITY_MAX: Final = 10**12

FIELDS: Final = {
    "anchor": Field(When(), description="A moment at which a billing cycle begins; start_time, unless said."),
    "customer": Field(Text(), required=True, description="Whose usage."),
    "end_time": Field(When(), required=True, description="Until before then; begins a minute, UTC."),
    "quantity": Field(Integer(0, QUANTITY_MAX), description="Of a licensed plan: how many; 1 unless said."),
    "start_time": Field(When(), required=True, description="From then on; begins a minute, UTC."),
}


class Asked(NamedTuple):
    """Whose charges, and for when: [start_ms, end_ms)."""

    customer: str
    start_ms: int
    end_ms: int
    anchor_ms: int
    quantity: int | None
    """Of a licensed plan; None of a metered one."""


async def list_charges(parts: Parts, call: Call) -> Answer:
    plan: Plan | None = parts.catalog.plan(call.key.livemode, call.path["plan"])
    if plan is None:
        raise missing_object("plan", call.path["plan"], "plan")
    meter: Meter | None = None if plan.meter is None else parts.catalog.meter(call.key.livemode, plan.meter)
    given = call.given
    asked = asked_of(plan, given)
    found = cycles_of(plan, asked)
    usages: list[int] | None = None
    if meter is not None:
        wanted = usage_question(meter, asked, found)
        usages = usages_of(meter, found, await parts.questions.summaries(wanted))
    return Answer(charges_body(plan, asked, found, usages))


def asked_of(plan: Plan, given: dict[str, Any] | Any) -> Asked:
    """The parameters, with what follows from them. Raises Problem 400."""
    start_ms, end_ms = given["start_time"], given["end_time"]
    anchor_ms, quantity = given.get("anchor", start_ms), given.get("quantity")
    for name, moment in (("start_time", start_ms), ("end_time", end_ms), ("anchor", anchor_ms)):
        if moment % MINUTE_MS:
            raise invalid(name, f"{name} begins a minute: {timestamp_text(moment)} does not.")
    if start_ms >= end_ms:
        raise invalid("end_time", "start_time must be before end_time.")
    if plan.usage_type == "metered" and quantity is not None:
        raise invalid("quantity", f"Plan {plan.id} is metered: its quantity is what the meter says.")
    if plan.usage_type == "licensed" and quantity is None:
        quantity = 1
    return Asked(given["customer"], start_ms, end_ms, anchor_ms, quantity)


def cycles_of(plan: Plan, asked: Asked) -> tuple[Cycle, ...]:
    """The plan's billing cycles in the range. Raises Problem 400 when there are too many."""
    try:
        interval = cast("Interval", plan.interval)
        return cycles(interval, plan.interval_count, asked.anchor_ms, asked.start_ms, asked.end_ms)
    except (ValueError, OverflowError) as error:
        raise invalid("end_time", f"Ask for a shorter range: {error}.") from error


def usage_question(meter: Meter, asked: Asked, found: Sequence[Cycle]) -> SummaryQuery:
    """The customer's usage in each cycle, as one question. Raises Problem 400."""
    cuts = tuple(cycle.from_ms for cycle in found)
    return question(meter, start_ms=asked.start_ms, end_ms=asked.end_ms, customers=(asked.customer,), cuts=cuts)


def usages_of(meter: Meter, found: Sequence[Cycle], rows: Sequence[Summary]) -> list[int]:
    """The usage of each cycle, in units of 10^-12."""
    by_start = {row.window.start_ms: formula_value(meter, row) for row in rows}
    return [by_start.get(cycle.from_ms, 0) for cycle in found]


def price_of_plan(plan: Plan) -> Price:
    """How the plan prices a quantity."""
    transform = plan.transform_usage
    return Price(
        plan.currency,
        plan.amount,
        tuple(Tier(*tier) for tier in plan.tiers),
        cast("Literal['graduated', 'volume'] | None", plan.tiers_mode),
        None if transform is None else Transform(transform.divide_by, cast("Literal['up', 'down']", transform.round)),
    )


def charges_body(plan: Plan, asked: Asked, found: Sequence[Cycle], usages: Sequence[int] | None) -> dict[str, Any]:
    """All charges as they are answered. ``usages``: of each cycle, where the plan is metered."""
    price = price_of_plan(plan)
    licensed = usages is None
    quantities = [(asked.quantity or 0) * VALUE_UNIT] * len(found) if usages is None else usages
    shown = [_cycle_body(price, cycle, usage, licensed) for cycle, usage in zip(found, quantities, strict=True)]
    amount = sum(cycle["amount"] for cycle in shown)
    return {
        "object": KIND,
        "plan": plan.id,
        "product": plan.product,
        "meter": plan.meter,
        "usage_type": plan.usage_type,
        "customer": asked.customer,
        "livemode": plan.livemode,
        "currency": plan.currency,
        "start_time": asked.start_ms // 1_000,
        "end_time": asked.end_ms // 1_000,
        "anchor": asked.anchor_ms // 1_000,
        "cycles": shown,
        "amount": amount,
        "text": money_text(plan.currency, amount),
    }


def _cycle_body(price: Price, cycle: Cycle, usage: int, licensed: bool) -> dict[str, Any]:
    began_before = licensed and cycle.start_ms < cycle.from_ms
    found = Charge((), 0, (), 0) if began_before else charge(price, usage)
    return {
        "start_time": cycle.start_ms // 1_000,
        "end_time": cycle.end_ms // 1_000,
        "whole": cycle.whole,
        "note": _note(cycle, licensed),
        "usage": None if licensed else value_text(usage),
        "steps": list(found.steps),
        "quantity": value_text(found.quantity),
        "lines": [_line_body(price, line) for line in found.lines],
        "amount": found.amount,
        "text": money_text(price.currency, found.amount),
    }


def _note(cycle: Cycle, licensed: bool) -> str | None:
    if cycle.whole:
        return None
    if licensed:
        return "began before the range and was charged then" if cycle.start_ms < cycle.from_ms else "charged in advance"
    first, last = timestamp_text(cycle.from_ms), timestamp_text(cycle.until_ms)
    return f"not whole: only usage from {first} until {last} is in the range, priced from the first tier on"


def _line_body(price: Price, line: Line) -> dict[str, Any]:
    return {
        "description": line.text,
        "quantity": None if line.quantity is None else value_text(line.quantity),
        "unit_amount_decimal": price_text(line.unit_amount),
        "exact_amount_decimal": decimal_text(line.exact, EXACT_PLACES),
        "amount": line.amount,
        "text": line_text(price.currency, line),
    }


_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": "string", "nullable": True}
_WHOLE: Final = {"type": "integer"}
_MOMENT: Final = {"type": "integer", "format": "unix-time"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


CHARGES: Final[Schema] = _object(
    object={"type": "string", "enum": [KIND]},
    plan=_TEXT,
    product=_TEXT_OR_NULL,
    meter=_TEXT_OR_NULL,
    usage_type={"type": "string", "enum": ["licensed", "metered"]},
    customer=_TEXT,
    livemode={"type": "boolean"},
    currency=_TEXT,
    start_time=_MOMENT,
    end_time=_MOMENT,
    anchor=_MOMENT,
    cycles={
        "type": "array",
        "items": _object(
            start_time=_MOMENT,
            end_time=_MOMENT,
            whole={"type": "boolean"},
            note=_TEXT_OR_NULL,
            usage=_TEXT_OR_NULL,
            steps={"type": "array", "items": _TEXT},
            quantity=_TEXT,
            lines={
                "type": "array",
                "items": _object(
                    description=_TEXT,
                    quantity=_TEXT_OR_NULL,
                    unit_amount_decimal=_TEXT,
                    exact_amount_decimal=_TEXT,
                    amount=_WHOLE,
                    text=_TEXT,
                ),
            },
            amount=_WHOLE,
            text=_TEXT,
        ),
    },
    amount=_WHOLE,
    text=_TEXT,
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        name="list_charges",
        method="GET",
        path="/meterline/v1/plans/{plan}/charges",
        face="meterline",
        scope=SCOPE,
        fields=FIELDS,
        handler=list_charges,
        summary="What a customer's usage costs by a plan, line by line",
        answer=KIND,
    ),
)

SHAPES: Final[dict[str, Schema]] = {KIND: CHARGES}
