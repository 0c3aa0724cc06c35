"""Parameters of products and plans, and the objects that they ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

from pipeline.domain.catalog import CatalogObject, PackageDimensions, Plan, Product, Tier, TransformUsage
from pipeline.domain.limits import VALUE_SCALE, VALUE_UNIT
from pipeline.domain.plan_rules import INTERVAL_COUNT_MAX, TIERS_MAX, TRIAL_DAYS_MAX, plan_fault
from pipeline.gateway.calls import Call
from pipeline.gateway.changes import version_of_new
from pipeline.gateway.parameters import (
    METADATA_KEYS_MAX,
    Boolean,
    Choice,
    DecimalText,
    Either,
    Field,
    Integer,
    ListOf,
    Metadata,
    Object,
    Text,
)
from pipeline.gateway.problems import INVALID_REQUEST, Problem, exclusive, invalid, missing, shown

AMOUNT_MAX = 999_999_999_999
"""Of an amount in whole minor units."""
OWN_ID_CHARS_MAX = 500
RESERVED_IDS = frozenset({".", "..", "search"})
URL_CHARS_MAX = 2_048

_NOT_IN_IDS = re.compile(r"[/\\?#%\s]")
_URL = re.compile(r"https?://[^\s/]+\S*")
_EXACT = Context(prec=60)

AMOUNT = Field(Integer(0, AMOUNT_MAX), description="Price of one unit, in the smallest unit of the currency.")
AMOUNT_DECIMAL = Field(DecimalText(VALUE_SCALE), description="The same with up to 12 digits after the point.")
METADATA = Field(Metadata(), clearable=True, description="Your own texts; an empty one removes its key.")
OWN_ID = Field(Text(), description="An id of your own; otherwise one is made.")

_INLINE_PRODUCT = {
    "active": Field(Boolean()),
    "id": OWN_ID,
    "metadata": Field(Metadata()),
    "name": Field(Text(prose=True), required=True),
    "statement_descriptor": Field(Text(22)),
    "tax_code": Field(Text()),
    "unit_label": Field(Text(12)),
}
_TIER = {
    "flat_amount": Field(Integer(0, AMOUNT_MAX), description="Price of reaching the tier."),
    "flat_amount_decimal": Field(DecimalText(VALUE_SCALE)),
    "unit_amount": Field(Integer(0, AMOUNT_MAX), description="Price of one unit in the tier."),
    "unit_amount_decimal": Field(DecimalText(VALUE_SCALE)),
    "up_to": Field(Either(Choice("inf"), Integer(1)), required=True, description="Its greatest quantity, or inf."),
}

CREATE_PLAN = {
    "active": Field(Boolean(), description="Whether it can be taken; true unless said."),
    "amount": AMOUNT,
    "amount_decimal": AMOUNT_DECIMAL,
    "billing_scheme": Field(Choice("per_unit", "tiered"), description="per_unit unless said."),
    "currency": Field(Text(), required=True, description="ISO 4217, three small letters."),
    "id": OWN_ID,
    "interval": Field(Choice("day", "month", "week", "year"), required=True),
    "interval_count": Field(
        Integer(1, max(INTERVAL_COUNT_MAX.values())), description="Intervals per cycle; at most three years."
    ),
    "metadata": METADATA,
    "meter": Field(Text(), description="Id of an active meter; makes the plan metered."),
    "nickname": Field(Text(prose=True), description="For people."),
    "product": Field(Either(Object(_INLINE_PRODUCT), Text()), description="Id of a product, or a new one."),
    "tiers": Field(ListOf(Object(_TIER), TIERS_MAX, 1), description="Ascending; the last one has up_to=inf."),
    "tiers_mode": Field(Choice("graduated", "volume")),
    "transform_usage": Field(
        Object(
            {
                "divide_by": Field(Integer(1), required=True),
                "round": Field(Choice("down", "up"), required=True),
            }
        ),
        description="Divides the quantity before it is priced; not with tiers.",
    ),
    "trial_period_days": Field(Integer(0, TRIAL_DAYS_MAX)),
    "usage_type": Field(Choice("licensed", "metered"), description="licensed unless there is a meter."),
}

_PRICE_DATA = {
    "currency": Field(Text(), required=True),
    "metadata": Field(Metadata()),
    "recurring": Field(
        Object(
            {
                "interval": Field(Choice("day", "month", "week", "year"), required=True),
                "interval_count": Field(Integer(1, max(INTERVAL_COUNT_MAX.values()))),
            }
        ),
        description="Needed here: a plan is a price that recurs.",
    ),
    "unit_amount": AMOUNT,
    "unit_amount_decimal": AMOUNT_DECIMAL,
}
_DIMENSION = Field(DecimalText(VALUE_SCALE, number=True), required=True)
_DESCRIBED: dict[str, Field] = {
    "active": Field(Boolean(), description="Whether it is offered."),
    "description": Field(Text(40_000, prose=True), clearable=True),
    "images": Field(ListOf(Text(), 8), clearable=True, description="Up to 8 URLs."),
    "marketing_features": Field(ListOf(Object({"name": Field(Text(), required=True)}), 15), clearable=True),
    "metadata": METADATA,
    "name": Field(Text(prose=True), required=True, description="For people and invoices."),
    "package_dimensions": Field(
        Object(dict.fromkeys(("height", "length", "weight", "width"), _DIMENSION)), clearable=True
    ),
    "shippable": Field(Boolean()),
    "statement_descriptor": Field(Text(22)),
    "tax_code": Field(Text(), clearable=True),
    "unit_label": Field(Text(12), clearable=True, description="What one unit is called."),
    "url": Field(Text(), clearable=True),
}
CREATE_PRODUCT = {
    **_DESCRIBED,
    "default_price_data": Field(Object(_PRICE_DATA), description="A plan to make with it."),
    "id": OWN_ID,
}
UPDATE_PRODUCT = {
    **_DESCRIBED,
    "default_price": Field(Text(), description="Id of one of its plans."),
    "name": Field(Text(prose=True)),
}
UPDATE_PLAN = {name: CREATE_PLAN[name] for name in ("active", "metadata", "nickname", "trial_period_days")} | {
    "product": Field(Text(), description="Id of a product.")
}


def new_plan(
    call: Call, given: Mapping[str, Any], id_: str, product: str | None, before: Plan | None, request: str | None
) -> Plan:
    """The plan that is asked for, its rules checked. Raises Problem 400."""
    transform = given.get("transform_usage")
    plan = Plan(
        **_new(call, id_, before, request),
        product=product,
        currency=given["currency"],
        interval=given["interval"],
        interval_count=given.get("interval_count", 1),
        active=given.get("active", True),
        nickname=given.get("nickname"),
        billing_scheme=given.get("billing_scheme", "per_unit"),
        amount=amount_of(given, "amount"),
        usage_type=given.get("usage_type", "licensed" if given.get("meter") is None else "metered"),
        meter=given.get("meter"),
        tiers_mode=given.get("tiers_mode"),
        tiers=tuple(
            Tier(
                None if tier["up_to"] == "inf" else tier["up_to"],
                amount_of(tier, "unit_amount", f"tiers[{place}]"),
                amount_of(tier, "flat_amount", f"tiers[{place}]"),
            )
            for place, tier in enumerate(given.get("tiers", ()))
        ),
        transform_usage=None if transform is None else TransformUsage(**transform),
        trial_period_days=given.get("trial_period_days"),
        metadata=merged({}, given),
    )
    fault = plan_fault(plan)
    if fault is not None:
        raise invalid(fault.param, fault.message, "parameter_missing" if fault.missing else None)
    return plan


def new_product(call: Call, given: Mapping[str, Any], id_: str, before: Product | None, request: str | None) -> Product:
    """The product that is asked for. Raises Problem 400."""
    return Product(
        **_new(call, id_, before, request),
        name=given["name"],
        active=given.get("active", True),
        **product_changes({name: value for name, value in given.items() if name not in ("name", "active")}, {}),
    )


def product_changes(given: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a request says of a product's fields, as the object has them; what it does not say is left out."""
    _check_url(given)
    changes = {name: given[name] for name in _AS_GIVEN if name in given}
    if "images" in given:
        changes["images"] = tuple(given["images"] or ())
    if "marketing_features" in given:
        changes["marketing_features"] = tuple(feature["name"] for feature in given["marketing_features"] or ())
    if "package_dimensions" in given:
        package = given["package_dimensions"]
        texts = {name: f"{size.copy_abs().normalize(_EXACT):f}" for name, size in (package or {}).items()}
        changes["package_dimensions"] = None if package is None else PackageDimensions(**texts)
    if "metadata" in given:
        changes["metadata"] = merged(metadata, given)
    return changes


def merged(present: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Metadata after a request: keys are added and replaced, an empty text removes its key, none at all clears it."""
    asked = given.get("metadata", {})
    if asked is None:
        return {}
    together = {**present, **asked}
    kept = {key: text for key, text in together.items() if text is not None}
    if len(kept) > METADATA_KEYS_MAX:
        raise invalid("metadata", f"metadata has at most {METADATA_KEYS_MAX} keys; with these there are {len(kept)}.")
    return dict(sorted(kept.items()))


def amount_of(given: Mapping[str, Any], name: str, within: str = "") -> int | None:
    """An amount in 10^-12 of the smallest unit, from its whole or its decimal form. Raises Problem for both."""
    decimal = f"{name}_decimal"
    if name in given and decimal in given:
        raise exclusive(*(f"{within}[{one}]" if within else one for one in (name, decimal)))
    if name in given:
        return int(given[name] * VALUE_UNIT)
    amount: Decimal | None = given.get(decimal)
    return None if amount is None else int(_EXACT.scaleb(amount, VALUE_SCALE))


def default_plan(data: Mapping[str, Any]) -> dict[str, Any]:
    """The plan that a default_price_data asks for. Raises Problem 400."""
    inside = "default_price_data"
    if "recurring" not in data:
        raise missing(f"{inside}[recurring]")
    amount = amount_of(data, "unit_amount", inside)
    if amount is None:
        raise missing(f"{inside}[unit_amount]")
    return {
        "currency": data["currency"],
        **data["recurring"],
        "metadata": data.get("metadata", {}),
        "amount_decimal": _EXACT.scaleb(Decimal(amount), -VALUE_SCALE),
    }


def check_own_id(id_: str, param: str) -> None:
    """An id of the caller's own must fit into a path. Raises Problem 400."""
    if len(id_) > OWN_ID_CHARS_MAX or id_ in RESERVED_IDS or _NOT_IN_IDS.search(id_):
        raise invalid(
            param, rf"{param} has at most {OWN_ID_CHARS_MAX} characters, no space and none of / \ ? # %, and is not "
            f"{', '.join(sorted(RESERVED_IDS))}."
        )  # fmt: skip


def already_exists(kind: str, id_: str, param: str) -> Problem:
    """400: an id of the caller's own is taken."""
    return Problem(400, INVALID_REQUEST, f"{kind} already exists: {shown(id_)}.", "resource_already_exists", param)


_AS_GIVEN = (
    *("active", "default_price", "description", "name", "shippable", "statement_descriptor", "tax_code"),
    *("unit_label", "url"),
)


def _new(call: Call, id_: str, before: CatalogObject | None, request: str | None) -> dict[str, Any]:
    return {
        "id": id_,
        "livemode": call.key.livemode,
        "created_ms": call.now_ms,
        "updated_ms": call.now_ms,
        "version": version_of_new(before),
        "request": request,
    }


def _check_url(given: Mapping[str, Any]) -> None:
    url = given.get("url")
    if url is not None and (len(url) > URL_CHARS_MAX or not _URL.fullmatch(url)):
        message = f"url begins with http:// or https:// and has at most {URL_CHARS_MAX} characters."
        raise invalid("url", message, "url_invalid")
