"""What is in the catalog: meters, products, plans and API keys, as whole objects. catalog_log.py says what stands.

Times are int milliseconds. Amounts are int in 10^-12 of the currency's smallest unit (a cent).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CatalogObject:
    """What all objects have. An object is known by (its class, livemode, id)."""

    id: str
    livemode: bool
    created_ms: int
    updated_ms: int
    version: int
    """1 when made, one more with each change; also the deletion is one, and the making anew of what was deleted."""
    request: str | None = None
    """The request that wrote this version, as ``{digest of its idempotency key}.{digest of what it asked for}``; None
    when it had no key."""
    deleted: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Meter(CatalogObject):
    """A named view of usage: an event name and a formula."""

    display_name: str
    event_name: str
    formula: str
    """sum, count or last."""
    customer_key: str = "stripe_customer_id"
    """Payload key that holds the customer."""
    value_key: str = "value"
    """Payload key that holds the value."""
    event_time_window: str | None = None
    """hour or day: within one, only the event that arrived last counts. None: every event counts."""
    dimension_payload_keys: tuple[str, ...] = ()
    """Payload keys that become dimensions."""
    deactivated_at_ms: int | None = None
    """None while it is active."""

    @property
    def active(self) -> bool:
        return self.deactivated_at_ms is None


@dataclasses.dataclass(frozen=True, slots=True)
class PackageDimensions:
    """Of a thing that is shipped; exact decimals as text, inches and ounces."""

    height: str
    length: str
    weight: str
    width: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Product(CatalogObject):
    """Something that is sold."""

    name: str
    active: bool = True
    description: str | None = None
    default_price: str | None = None
    """Id of a plan; means nothing once that plan is gone."""
    images: tuple[str, ...] = ()
    marketing_features: tuple[str, ...] = ()
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    package_dimensions: PackageDimensions | None = None
    shippable: bool | None = None
    statement_descriptor: str | None = None
    tax_code: str | None = None
    unit_label: str | None = None
    url: str | None = None


class Tier(NamedTuple):
    """A range of quantities with its price: it begins one above the tier before it."""

    up_to: int | None
    """Greatest quantity of the tier; None in the last one, which has no end."""
    unit_amount: int | None
    flat_amount: int | None


class TransformUsage(NamedTuple):
    """Divides the quantity before it is priced."""

    divide_by: int
    round: str
    """up or down."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan(CatalogObject):
    """How a product is paid for."""

    product: str | None
    currency: str
    interval: str
    """day, week, month or year."""
    interval_count: int = 1
    active: bool = True
    nickname: str | None = None
    billing_scheme: str = "per_unit"
    """per_unit or tiered."""
    amount: int | None = None
    """Price of one unit, in 10^-12 of the smallest unit; None when tiered."""
    usage_type: str = "licensed"
    """licensed or metered."""
    meter: str | None = None
    tiers_mode: str | None = None
    """graduated or volume."""
    tiers: tuple[Tier, ...] = ()
    transform_usage: TransformUsage | None = None
    trial_period_days: int | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(CatalogObject):
    """Who may call. The key itself is nowhere, only a keyed hash; ``id`` is its public part, by which it is found."""

    name: str
    kind: str
    """secret (may do everything) or restricted (only what its scopes name)."""
    scopes: tuple[str, ...]
    hash: str
    """Keyed hash of the whole key, hex."""
    hash_key: str
    """Which gateway secret keys the hash (its kid)."""
    hint: str
    """What may be shown of the key: how it begins and ends."""
    expires_at_ms: int | None = None
    """From then on it is refused; set when it is rolled or revoked, or was made for a time."""
    revoked_at_ms: int | None = None
    rolled_from: str | None = None
    """Id of the key in whose place it stands."""


KINDS: tuple[type[CatalogObject], ...] = (Meter, Product, Plan, ApiKey)
