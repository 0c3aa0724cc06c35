"""The catalog as a log of whole objects, and the rules by which everybody agrees on what stands.

The topic `billing-catalog` is a log of whole objects in one partition. `Catalog.apply` is a pure function of its
order: a record stands only if its `version` is the present one + 1 and it breaks no rule below; otherwise everybody
ignores it. So when two gateways write at once, the log's order names one winner, and each of them, and the sink, and
whoever reads the log in ten years, agrees on it. The log is therefore kept for ever and never compacted: compaction
would forget who was first.

The rules, in the order in which they are checked (`Refused.reason`):

    version            another record has this version already, or one before it is missing
    absent             it deletes what is not there
    immutable          it changes what can never change (``CHANGEABLE``)
    event_name_taken   another active meter of the mode reads the event name
    no_product         a plan's product does not exist (or was deleted)
    meter_not_active   a new plan's meter does not exist or is not active
    has_plans          it deletes a product that has plans
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from pipeline.domain.catalog import KINDS, ApiKey, CatalogObject, Meter, Plan, Product

Reason = Literal["version", "absent", "immutable", "event_name_taken", "no_product", "meter_not_active", "has_plans"]

REQUESTS_KEPT = 200_000
"""How many of the newest changes' requests are remembered, so that a repeated request finds what it did."""


_EVERY_CHANGE = frozenset({"updated_ms", "version", "request", "deleted"})

CHANGEABLE: dict[type[CatalogObject], frozenset[str]] = {
    Meter: _EVERY_CHANGE | {"display_name", "deactivated_at_ms"},
    Product: frozenset(field.name for field in dataclasses.fields(Product)) - {"id", "livemode", "created_ms"},
    Plan: _EVERY_CHANGE | {"active", "metadata", "nickname", "product", "trial_period_days"},
    ApiKey: _EVERY_CHANGE | {"name", "expires_at_ms", "revoked_at_ms"},
}
"""What may differ from one version to the next."""


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """The record stands. ``before`` is what it replaced; None for the first version."""

    before: CatalogObject | None
    after: CatalogObject


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """The record is ignored by everybody."""

    reason: Reason
    present: CatalogObject | None
    """What stands in its place."""


class Seen(NamedTuple):
    """What a request did, found by the digest of its idempotency key."""

    asked: str
    """Digest of what it asked for."""
    written: CatalogObject


class Shelf:
    """All objects of one class and mode, in the order in which the log made them."""

    def __init__(self) -> None:
        self.objects: dict[str, CatalogObject] = {}
        self.order: list[str] = []
        self.place: dict[str, int] = {}
        """Where an id stands in ``order``; of one made anew, the later place."""

    def put(self, one: CatalogObject, *, made: bool) -> None:
        """Readers on other threads see the object before its place: nothing they find leads nowhere."""
        self.objects[one.id] = one
        if made:
            self.place[one.id] = len(self.order)
            self.order.append(one.id)

    def newest_first(self, below: int | None = None) -> Iterator[CatalogObject]:
        """What is there, the newest first; with ``below``, only what was made before that place."""
        for place in range(len(self.order) if below is None else below)[::-1]:
            one = self.objects[self.order[place]]
            if not one.deleted and self.place[one.id] == place:
                yield one

    def oldest_first(self, above: int) -> Iterator[CatalogObject]:
        """What is there and was made after that place, the oldest first."""
        for place in range(above + 1, len(self.order)):
            one = self.objects[self.order[place]]
            if not one.deleted and self.place[one.id] == place:
                yield one


class Catalog:
    """The state that a prefix of the log comes to."""

    def __init__(self) -> None:
        self._shelves = {(kind, livemode): Shelf() for kind in KINDS for livemode in (False, True)}
        self._active_meters: dict[tuple[bool, str], str] = {}
        self._plans_of: dict[tuple[bool, str], set[str]] = {}
        self._requests: dict[str, Seen] = {}

    def shelf(self, kind: type[CatalogObject], livemode: bool) -> Shelf:
        return self._shelves[kind, livemode]

    def present(self, kind: type[CatalogObject], livemode: bool, id_: str) -> CatalogObject | None:
        """The object as it stands, also when it is deleted."""
        return self._shelves[kind, livemode].objects.get(id_)

    def active_meter(self, livemode: bool, event_name: str) -> Meter | None:
        id_ = self._active_meters.get((livemode, event_name))
        found = None if id_ is None else self.present(Meter, livemode, id_)
        return found if isinstance(found, Meter) else None

    def plans_of(self, livemode: bool, product: str) -> frozenset[str]:
        """Ids of the plans of a product that are not deleted."""
        return frozenset(self._plans_of.get((livemode, product), ()))

    def seen(self, key_digest: str) -> Seen | None:
        """What the request with this idempotency key did, if it is among the newest."""
        return self._requests.get(key_digest)

    def apply(self, one: CatalogObject) -> Applied | Refused:
        """Take the next record of the log: it stands, or nothing changes."""
        shelf = self._shelves[type(one), one.livemode]
        before = shelf.objects.get(one.id)
        for reason, broken in _RULES:
            if broken(self, one, before):
                return Refused(reason, before)
        shelf.put(one, made=before is None or before.deleted)
        self._index(before, one)
        if one.request is not None:
            key_digest, _, asked = one.request.partition(".")
            self._requests[key_digest] = Seen(asked, one)
            if len(self._requests) > REQUESTS_KEPT:
                del self._requests[next(iter(self._requests))]
        return Applied(before, one)

    def _index(self, before: CatalogObject | None, one: CatalogObject) -> None:
        if isinstance(one, Meter):
            name = (one.livemode, one.event_name)
            if one.active and not one.deleted:
                self._active_meters[name] = one.id
            elif self._active_meters.get(name) == one.id:
                del self._active_meters[name]
        if isinstance(one, Plan):
            if isinstance(before, Plan) and before.product is not None:
                self._plans_of.get((one.livemode, before.product), set()).discard(one.id)
            if not one.deleted and one.product is not None:
                self._plans_of.setdefault((one.livemode, one.product), set()).add(one.id)


Rule = Callable[[Catalog, CatalogObject, CatalogObject | None], bool]
"""Whether the record breaks it, given what stands."""


def _wrong_version(_: Catalog, one: CatalogObject, before: CatalogObject | None) -> bool:
    return one.version != (1 if before is None else before.version + 1)


def _deletes_nothing(_: Catalog, one: CatalogObject, before: CatalogObject | None) -> bool:
    return one.deleted and (before is None or before.deleted)


def _changes_what_stays(_: Catalog, one: CatalogObject, before: CatalogObject | None) -> bool:
    if before is None or before.deleted:
        return False
    return any(
        getattr(one, field.name) != getattr(before, field.name)
        for field in dataclasses.fields(one)
        if field.name not in CHANGEABLE[type(one)]
    )


def _event_name_taken(catalog: Catalog, one: CatalogObject, _: CatalogObject | None) -> bool:
    if not isinstance(one, Meter) or not one.active:
        return False
    other = catalog.active_meter(one.livemode, one.event_name)
    return other is not None and other.id != one.id


def _product_is_absent(catalog: Catalog, one: CatalogObject, _: CatalogObject | None) -> bool:
    if not isinstance(one, Plan) or one.deleted or one.product is None:
        return False
    product = catalog.present(Product, one.livemode, one.product)
    return product is None or product.deleted


def _meter_is_not_active(catalog: Catalog, one: CatalogObject, before: CatalogObject | None) -> bool:
    """A meter may be deactivated under its plans, so only a new plan is asked for it."""
    if not isinstance(one, Plan) or one.meter is None or not (before is None or before.deleted):
        return False
    meter = catalog.present(Meter, one.livemode, one.meter)
    return not isinstance(meter, Meter) or not meter.active


def _has_plans(catalog: Catalog, one: CatalogObject, _: CatalogObject | None) -> bool:
    return isinstance(one, Product) and one.deleted and bool(catalog.plans_of(one.livemode, one.id))


_RULES: tuple[tuple[Reason, Rule], ...] = (
    ("version", _wrong_version),
    ("absent", _deletes_nothing),
    ("immutable", _changes_what_stays),
    ("event_name_taken", _event_name_taken),
    ("no_product", _product_is_absent),
    ("meter_not_active", _meter_is_not_active),
    ("has_plans", _has_plans),
)
