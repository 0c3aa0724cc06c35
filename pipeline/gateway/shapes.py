"""The catalog's answers as JSON schemas, for the OpenAPI document; and what may be expanded in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pipeline.gateway.calls import Call
from pipeline.gateway.problems import invalid, shown

_TEXT = {"type": "string", "maxLength": 5_000}
_TEXT_OR_NULL = {**_TEXT, "nullable": True}
_MOMENT = {"type": "integer", "format": "unix-time"}
_FLAG = {"type": "boolean"}
_DECIMAL_OR_NULL = {"type": "string", "format": "decimal", "nullable": True}
_WHOLE_OR_NULL = {"type": "integer", "nullable": True}
_METADATA = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 500}}


def _constant(text: str) -> dict[str, Any]:
    return {"type": "string", "enum": [text]}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = sorted(name for name in properties if name not in optional)
    return {"type": "object", "properties": properties, "required": required}


_PAYLOAD_KEY = {"event_payload_key": _TEXT}

METER = _object(
    {
        "created": _MOMENT,
        "customer_mapping": _object({**_PAYLOAD_KEY, "type": _constant("by_id")}),
        "default_aggregation": _object({"formula": {"type": "string", "enum": ["count", "last", "sum"]}}),
        "dimension_payload_keys": {"type": "array", "items": _TEXT},
        "display_name": _TEXT,
        "event_name": _TEXT,
        "event_time_window": {"type": "string", "enum": ["day", "hour"], "nullable": True},
        "id": _TEXT,
        "livemode": _FLAG,
        "object": _constant("billing.meter"),
        "status": {"type": "string", "enum": ["active", "inactive"]},
        "status_transitions": _object({"deactivated_at": {**_MOMENT, "nullable": True}}),
        "updated": _MOMENT,
        "value_settings": _object(_PAYLOAD_KEY),
    },
    "event_time_window",
    "dimension_payload_keys",
)

PRODUCT = _object(
    {
        "active": _FLAG,
        "created": _MOMENT,
        "default_price": _TEXT_OR_NULL,
        "description": {"type": "string", "maxLength": 40_000, "nullable": True},
        "id": _TEXT,
        "images": {"type": "array", "items": _TEXT},
        "livemode": _FLAG,
        "marketing_features": {"type": "array", "items": _object({"name": _TEXT})},
        "metadata": _METADATA,
        "name": _TEXT,
        "object": _constant("product"),
        "package_dimensions": {
            **_object({name: {"type": "number"} for name in ("height", "length", "weight", "width")}),
            "nullable": True,
        },
        "shippable": {**_FLAG, "nullable": True},
        "statement_descriptor": _TEXT_OR_NULL,
        "tax_code": _TEXT_OR_NULL,
        "type": _constant("service"),
        "unit_label": _TEXT_OR_NULL,
        "updated": _MOMENT,
        "url": {"type": "string", "maxLength": 2_048, "nullable": True},
    },
    *("default_price", "description", "package_dimensions", "shippable", "statement_descriptor"),
    *("tax_code", "type", "unit_label", "url"),
)

TIER = _object(
    {
        "flat_amount": _WHOLE_OR_NULL,
        "flat_amount_decimal": _DECIMAL_OR_NULL,
        "unit_amount": _WHOLE_OR_NULL,
        "unit_amount_decimal": _DECIMAL_OR_NULL,
        "up_to": _WHOLE_OR_NULL,
    }
)

PLAN = _object(
    {
        "active": _FLAG,
        "amount": _WHOLE_OR_NULL,
        "amount_decimal": _DECIMAL_OR_NULL,
        "billing_scheme": {"type": "string", "enum": ["per_unit", "tiered"]},
        "created": _MOMENT,
        "currency": {"type": "string"},
        "id": _TEXT,
        "interval": {"type": "string", "enum": ["day", "month", "week", "year"]},
        "interval_count": {"type": "integer"},
        "livemode": _FLAG,
        "metadata": {**_METADATA, "nullable": True},
        "meter": _TEXT_OR_NULL,
        "nickname": _TEXT_OR_NULL,
        "object": _constant("plan"),
        "product": {"anyOf": [_TEXT, {"$ref": "#/components/schemas/product"}], "nullable": True},
        "tiers": {"type": "array", "items": {"$ref": "#/components/schemas/plan_tier"}},
        "tiers_mode": {"type": "string", "enum": ["graduated", "volume"], "nullable": True},
        "transform_usage": {
            **_object({"divide_by": {"type": "integer"}, "round": {"type": "string", "enum": ["down", "up"]}}),
            "nullable": True,
        },
        "trial_period_days": _WHOLE_OR_NULL,
        "usage_type": {"type": "string", "enum": ["licensed", "metered"]},
    },
    *("amount", "amount_decimal", "metadata", "meter", "nickname", "product", "tiers", "tiers_mode"),
    *("transform_usage", "trial_period_days"),
)


def deleted_shape(kind: str) -> dict[str, Any]:
    """What is answered when an object is deleted."""
    return _object({"deleted": {"type": "boolean", "enum": [True]}, "id": _TEXT, "object": _constant(kind)})


def expanded(call: Call, allowed: Collection[str], *, within: str = "") -> frozenset[str]:
    """What the client wants expanded, out of ``allowed``. ``within``: the prefix that a list asks for, ``data.``.

    Raises Problem 400 for anything else.
    """
    for place, path in enumerate(call.expand):
        if path.removeprefix(within) not in allowed or not path.startswith(within):
            possible = ", ".join(within + name for name in sorted(allowed)) or "nothing"
            message = f"This property cannot be expanded: {shown(path)}. Here one can expand: {possible}."
            raise invalid(f"expand[{place}]", message)
    return frozenset(path.removeprefix(within) for path in call.expand)
