"""Catalog objects and core events as the records of their schemas. Amounts are exact decimals as text there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.domain.catalog import (
    ApiKey,
    CatalogObject,
    Meter,
    PackageDimensions,
    Plan,
    Product,
    Tier,
    TransformUsage,
)
from pipeline.domain.core_events import CoreEvent, RelatedObject
from pipeline.domain.plan_rules import plan_fault
from pipeline.domain.values import value_of, value_text

Record = dict[str, Any]

AS_THEY_ARE: dict[type[CatalogObject], tuple[str, ...]] = {
    Meter: ("display_name", "event_name", "event_time_window"),
    Product: (
        *("deleted", "name", "active", "description", "default_price", "shippable", "statement_descriptor"),
        *("tax_code", "unit_label", "url"),
    ),
    Plan: (
        *("deleted", "product", "currency", "interval", "interval_count", "active", "nickname", "billing_scheme"),
        *("usage_type", "meter", "tiers_mode", "trial_period_days"),
    ),
    ApiKey: ("name", "kind", "hash", "hash_key", "hint", "rolled_from"),
}
"""Fields that are the same in the object and in its record, beside those that all objects have."""

ALLOWED: dict[tuple[type[CatalogObject], str], tuple[str | None, ...]] = {
    (Meter, "formula"): ("sum", "count", "last"),
    (Meter, "event_time_window"): (None, "hour", "day"),
    (Plan, "interval"): ("day", "week", "month", "year"),
    (Plan, "billing_scheme"): ("per_unit", "tiered"),
    (Plan, "usage_type"): ("licensed", "metered"),
    (Plan, "tiers_mode"): (None, "graduated", "volume"),
    (ApiKey, "kind"): ("secret", "restricted"),
}
"""What a field may say. Anybody can write to a topic; what reads the catalog relies on these."""


def record_of(one: CatalogObject) -> tuple[str, Record]:
    """The name of its schema, and its fields."""
    kind = type(one)
    record = {
        "id": one.id,
        "livemode": one.livemode,
        "created": one.created_ms,
        "updated": one.updated_ms,
        "version": one.version,
        "request": one.request,
        **{name: getattr(one, name) for name in AS_THEY_ARE[kind]},
        **_WRITE[kind](one),
    }
    return kind.__name__, record


def object_of(name: str, record: Record) -> CatalogObject:
    """The object that a record says. Raises ValueError when a field says what it must not."""
    kind = _BY_NAME[name]
    common = {field: record[field] for field in ("id", "livemode", "version", "request")}
    same = {field: record[field] for field in AS_THEY_ARE[kind]}
    one = kind(**common, created_ms=record["created"], updated_ms=record["updated"], **same, **_READ[kind](record))
    for (of, field), allowed in ALLOWED.items():
        if of is kind and getattr(one, field) not in allowed:
            raise ValueError(f"{field} is not one of {', '.join(str(choice) for choice in allowed)}")
    fault = plan_fault(one) if isinstance(one, Plan) else None
    if fault is not None:
        raise ValueError(fault.message)
    return one


def _meter_record(one: Meter) -> Record:
    return {
        "status": "active" if one.active else "inactive",
        "deactivated_at": one.deactivated_at_ms,
        "customer_mapping": {"type": "by_id", "event_payload_key": one.customer_key},
        "value_settings": {"event_payload_key": one.value_key},
        "default_aggregation": {"formula": one.formula},
        "dimension_payload_keys": list(one.dimension_payload_keys),
    }


def _meter_fields(record: Record) -> Record:
    if record["status"] != ("active" if record["deactivated_at"] is None else "inactive"):
        raise ValueError("status and deactivated_at contradict each other")
    return {
        "formula": record["default_aggregation"]["formula"],
        "customer_key": record["customer_mapping"]["event_payload_key"],
        "value_key": record["value_settings"]["event_payload_key"],
        "dimension_payload_keys": tuple(record["dimension_payload_keys"]),
        "deactivated_at_ms": record["deactivated_at"],
    }


def _product_record(one: Product) -> Record:
    package = one.package_dimensions
    return {
        "images": list(one.images),
        "marketing_features": [{"name": name} for name in one.marketing_features],
        "metadata": _sorted(one.metadata),
        "package_dimensions": None
        if package is None
        else {
            "height": package.height,
            "length": package.length,
            "weight": package.weight,
            "width": package.width,
        },
    }


def _product_fields(record: Record) -> Record:
    package = record["package_dimensions"]
    return {
        "images": tuple(record["images"]),
        "marketing_features": tuple(feature["name"] for feature in record["marketing_features"]),
        "metadata": _sorted(record["metadata"]),
        "package_dimensions": None if package is None else PackageDimensions(**package),
    }


def _plan_record(one: Plan) -> Record:
    return {
        "amount_decimal": _text(one.amount),
        "tiers": [
            {
                "up_to": tier.up_to,
                "unit_amount_decimal": _text(tier.unit_amount),
                "flat_amount_decimal": _text(tier.flat_amount),
            }
            for tier in one.tiers
        ],
        "transform_usage": None if one.transform_usage is None else one.transform_usage._asdict(),
        "metadata": _sorted(one.metadata),
    }


def _plan_fields(record: Record) -> Record:
    transform = record["transform_usage"]
    if transform is not None and transform["round"] not in ("up", "down"):
        raise ValueError("transform_usage rounds up or down")
    return {
        "amount": _amount(record["amount_decimal"]),
        "tiers": tuple(
            Tier(tier["up_to"], _amount(tier["unit_amount_decimal"]), _amount(tier["flat_amount_decimal"]))
            for tier in record["tiers"]
        ),
        "transform_usage": None if transform is None else TransformUsage(**transform),
        "metadata": _sorted(record["metadata"]),
    }


def _key_record(one: ApiKey) -> Record:
    return {"scopes": list(one.scopes), "expires_at": one.expires_at_ms, "revoked_at": one.revoked_at_ms}


def _key_fields(record: Record) -> Record:
    return {
        "scopes": tuple(record["scopes"]),
        "expires_at_ms": record["expires_at"],
        "revoked_at_ms": record["revoked_at"],
    }


def core_event_record(event: CoreEvent) -> Record:
    return {
        "id": event.id,
        "type": event.type,
        "created": event.created_ms,
        "livemode": event.livemode,
        "related_object": None if event.related is None else event.related._asdict(),
        "data": event.data,
    }


def core_event_of(record: Record) -> CoreEvent:
    related = record["related_object"]
    return CoreEvent(
        record["id"],
        record["type"],
        record["created"],
        record["livemode"],
        None if related is None else RelatedObject(**related),
        record["data"],
    )


def _text(amount: int | None) -> str | None:
    return None if amount is None else value_text(amount)


def _amount(text: str | None) -> int | None:
    return None if text is None else value_of(text)


def _sorted(metadata: Mapping[str, str]) -> dict[str, str]:
    """Equal objects are equal bytes."""
    return dict(sorted(metadata.items()))


_BY_NAME: dict[str, type[CatalogObject]] = {"Meter": Meter, "Product": Product, "Plan": Plan, "ApiKey": ApiKey}
_WRITE: dict[type[CatalogObject], Callable[[Any], Record]] = {
    Meter: _meter_record,
    Product: _product_record,
    Plan: _plan_record,
    ApiKey: _key_record,
}
_READ: dict[type[CatalogObject], Callable[[Record], Record]] = {
    Meter: _meter_fields,
    Product: _product_fields,
    Plan: _plan_fields,
    ApiKey: _key_fields,
}
