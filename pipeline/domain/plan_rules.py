"""What makes a plan one that can be priced, as data: rules in a documented order, each with what it says.

A fault names the parameter as a request writes it, and what is allowed. The gateway refuses a request by it, the codec
a record: whoever reads a plan from the catalog can price it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pipeline.domain.catalog import Plan
from pipeline.domain.currencies import CURRENCIES

INTERVAL_COUNT_MAX = {"day": 1_095, "week": 156, "month": 36, "year": 3}
"""Three years at most."""
TIERS_MAX = 100
TRIAL_DAYS_MAX = 730


class PlanFault(NamedTuple):
    """Why a plan cannot be."""

    param: str
    message: str
    missing: bool = False
    """Whether it is that a parameter is not there."""


def plan_fault(plan: Plan) -> PlanFault | None:
    """The first rule that it breaks, or None."""
    return next((fault for rule in RULES if (fault := rule(plan)) is not None), None)


def _currency(plan: Plan) -> PlanFault | None:
    if plan.currency in CURRENCIES:
        return None
    return PlanFault("currency", "Invalid currency: currency is a code of ISO 4217 in three small letters, as in usd.")


def _interval_count(plan: Plan) -> PlanFault | None:
    most = INTERVAL_COUNT_MAX[plan.interval]
    if 1 <= plan.interval_count <= most:
        return None
    said = f"interval_count is 1 to {most} where interval is {plan.interval}: a cycle has at most three years."
    return PlanFault("interval_count", said)


def _metered_by_meter(plan: Plan) -> PlanFault | None:
    if plan.meter is not None and plan.usage_type != "metered":
        return PlanFault("usage_type", "A plan with a meter has usage_type=metered: leave usage_type out, or say so.")
    if plan.meter is None and plan.usage_type == "metered":
        return PlanFault("meter", "Missing required parameter: meter. A plan with usage_type=metered has one.", True)
    return None


def _amount_or_tiers(plan: Plan) -> PlanFault | None:
    tiered = plan.billing_scheme == "tiered"
    if tiered and plan.amount is not None:
        return PlanFault("amount", "amount goes with billing_scheme=per_unit; with tiered, each tier has its own.")
    if not tiered and (plan.tiers or plan.tiers_mode is not None):
        param = "tiers" if plan.tiers else "tiers_mode"
        return PlanFault(param, f"{param} goes with billing_scheme=tiered, which is not said here.")
    if not tiered and plan.amount is None:
        said = "Missing required parameter: amount. Give amount or amount_decimal, or billing_scheme=tiered with tiers."
        return PlanFault("amount", said, True)
    if tiered and not plan.tiers:
        return PlanFault("tiers", "Missing required parameter: tiers. billing_scheme=tiered needs them.", True)
    if tiered and plan.tiers_mode is None:
        said = "Missing required parameter: tiers_mode. It is graduated or volume, and tiers need it."
        return PlanFault("tiers_mode", said, True)
    return None


def _tiers(plan: Plan) -> PlanFault | None:
    if len(plan.tiers) > TIERS_MAX:
        return PlanFault("tiers", f"A plan has at most {TIERS_MAX} tiers.")
    below = 0
    for place, tier in enumerate(plan.tiers):
        last = place == len(plan.tiers) - 1
        param = f"tiers[{place}][up_to]"
        if last != (tier.up_to is None):
            return PlanFault(param, "The last tier, and no other, has up_to=inf.")
        if tier.up_to is not None and tier.up_to <= below:
            return PlanFault(param, f"up_to ascends from tier to tier: here it is greater than {below}.")
        if tier.unit_amount is None and tier.flat_amount is None:
            said = "A tier has a unit_amount or a flat_amount (or its decimal form), or both."
            return PlanFault(f"tiers[{place}][unit_amount]", said, True)
        below = tier.up_to or below
    return None


def _transform(plan: Plan) -> PlanFault | None:
    if plan.transform_usage is None:
        return None
    if plan.tiers:
        return PlanFault("transform_usage", "transform_usage cannot be combined with tiers.")
    if plan.transform_usage.divide_by < 1:
        return PlanFault("transform_usage[divide_by]", "transform_usage[divide_by] is 1 or more.")
    return None


def _trial(plan: Plan) -> PlanFault | None:
    if plan.trial_period_days is None or 0 <= plan.trial_period_days <= TRIAL_DAYS_MAX:
        return None
    return PlanFault("trial_period_days", f"trial_period_days is 0 to {TRIAL_DAYS_MAX}.")


def _amounts(plan: Plan) -> PlanFault | None:
    amounts = [plan.amount, *(amount for tier in plan.tiers for amount in tier[1:])]
    if all(amount is None or amount >= 0 for amount in amounts):
        return None
    return PlanFault("amount", "No amount of a plan is negative.")


RULES: tuple[Callable[[Plan], PlanFault | None], ...] = (
    _currency,
    _interval_count,
    _metered_by_meter,
    _amount_or_tiers,
    _tiers,
    _transform,
    _trial,
    _amounts,
)
