"""Catalog objects as v1 shows them. Times are Unix seconds; amounts are in the currency's smallest unit."""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal
from typing import Any

from pipeline.domain.catalog import Meter, Plan, Product, Tier
from pipeline.domain.limits import VALUE_UNIT
from pipeline.domain.values import value_text

Body = dict[str, Any]


def seconds(ms: int) -> int:
    """v1's times."""
    return ms // 1_000


def meter_body(one: Meter) -> Body:
    return {
        "id": one.id,
        "object": "billing.meter",
        "created": seconds(one.created_ms),
        "customer_mapping": {"event_payload_key": one.customer_key, "type": "by_id"},
        "default_aggregation": {"formula": one.formula},
        "dimension_payload_keys": list(one.dimension_payload_keys),
        "display_name": one.display_name,
        "event_name": one.event_name,
        "event_time_window": one.event_time_window,
        "livemode": one.livemode,
        "status": "active" if one.active else "inactive",
        "status_transitions": {
            "deactivated_at": None if one.deactivated_at_ms is None else seconds(one.deactivated_at_ms)
        },
        "updated": seconds(one.updated_ms),
        "value_settings": {"event_payload_key": one.value_key},
    }


def product_body(one: Product, plans: Container[str]) -> Body:
    """``plans``: ids of the product's plans. A default price that is none of them any more is not shown."""
    package = one.package_dimensions
    return {
        "id": one.id,
        "object": "product",
        "active": one.active,
        "created": seconds(one.created_ms),
        "default_price": one.default_price if one.default_price in plans else None,
        "description": one.description,
        "images": list(one.images),
        "livemode": one.livemode,
        "marketing_features": [{"name": name} for name in one.marketing_features],
        "metadata": dict(one.metadata),
        "name": one.name,
        "package_dimensions": None
        if package is None
        else {
            "height": Decimal(package.height),
            "length": Decimal(package.length),
            "weight": Decimal(package.weight),
            "width": Decimal(package.width),
        },
        "shippable": one.shippable,
        "statement_descriptor": one.statement_descriptor,
        "tax_code": one.tax_code,
        "type": "service",
        "unit_label": one.unit_label,
        "updated": seconds(one.updated_ms),
        "url": one.url,
    }


def plan_body(one: Plan, product: Body | None = None, *, tiers: bool = False) -> Body:
    """``product``: the product's body, where that is expanded. ``tiers``: whether they are, too."""
    transform = one.transform_usage
    return {
        "id": one.id,
        "object": "plan",
        "active": one.active,
        "amount": whole(one.amount),
        "amount_decimal": None if one.amount is None else value_text(one.amount),
        "billing_scheme": one.billing_scheme,
        "created": seconds(one.created_ms),
        "currency": one.currency,
        "interval": one.interval,
        "interval_count": one.interval_count,
        "livemode": one.livemode,
        "metadata": dict(one.metadata),
        "meter": one.meter,
        "nickname": one.nickname,
        "product": one.product if product is None else product,
        **({"tiers": [_tier_body(tier) for tier in one.tiers] if one.tiers else None} if tiers else {}),
        "tiers_mode": one.tiers_mode,
        "transform_usage": None if transform is None else transform._asdict(),
        "trial_period_days": one.trial_period_days,
        "usage_type": one.usage_type,
    }


def deleted_body(kind: str, id_: str) -> Body:
    """What is answered when an object is deleted."""
    return {"id": id_, "object": kind, "deleted": True}


def whole(amount: int | None) -> int | None:
    """An amount in the smallest unit of its currency; None when it is a fraction of it."""
    if amount is None or amount % VALUE_UNIT:
        return None
    return int(amount // VALUE_UNIT)


def _tier_body(tier: Tier) -> Mapping[str, Any]:
    return {
        "flat_amount": whole(tier.flat_amount),
        "flat_amount_decimal": None if tier.flat_amount is None else value_text(tier.flat_amount),
        "unit_amount": whole(tier.unit_amount),
        "unit_amount_decimal": None if tier.unit_amount is None else value_text(tier.unit_amount),
        "up_to": tier.up_to,
    }
