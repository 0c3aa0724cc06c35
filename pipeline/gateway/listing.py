"""Pages of catalog objects, newest first, cut by Stripe's cursors.

A cursor may name an object that is deleted by now, or that a filter leaves out: its place in the order is still known.
So a client that deletes while it lists goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar

from pipeline.domain.catalog import CatalogObject
from pipeline.domain.catalog_log import Shelf
from pipeline.gateway.lists import LIMIT_DEFAULT
from pipeline.gateway.parameters import Either, Field, Moment, Object
from pipeline.gateway.problems import exclusive, missing_reference

One = TypeVar("One", bound=CatalogObject)

_BOUNDS = {name: Field(Moment()) for name in ("gt", "gte", "lt", "lte")}
CREATED = Field(
    Either(Object(_BOUNDS), Moment()), description="When it was made: Unix seconds, or bounds gt, gte, lt, lte."
)

COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda created, bound: created > bound,
    "gte": lambda created, bound: created >= bound,
    "lt": lambda created, bound: created < bound,
    "lte": lambda created, bound: created <= bound,
}


class Made(Protocol):
    """Whatever was made at some time."""

    @property
    def created_ms(self) -> int: ...


def created_as(given: Mapping[str, Any], one: Made) -> bool:
    """Whether the object was made when the parameter ``created`` asks for. Objects show whole seconds: those count."""
    asked = given.get("created")
    if asked is None:
        return True
    shown_ms = one.created_ms // 1_000 * 1_000
    if isinstance(asked, int):
        return shown_ms == asked
    return all(COMPARE[name](shown_ms, bound) for name, bound in asked.items())


def page(
    shelf: Shelf, kind: type[One], given: Mapping[str, Any], wanted: Callable[[One], bool], called: str
) -> tuple[list[One], bool]:
    """One page of the objects that are ``wanted``, and whether there are more in that direction.

    Raises Problem 400 for two cursors, or one that names nothing. ``called``: the word for such an object.
    """
    limit: int = given.get("limit") or LIMIT_DEFAULT
    after, before = given.get("starting_after"), given.get("ending_before")
    if after is not None and before is not None:
        raise exclusive("starting_after", "ending_before")
    if before is not None:
        walk = shelf.oldest_first(above=_place(shelf, before, "ending_before", called))
    else:
        walk = shelf.newest_first(below=None if after is None else _place(shelf, after, "starting_after", called))
    found = list(islice((one for one in walk if isinstance(one, kind) and wanted(one)), limit + 1))
    shown = found[:limit]
    return (shown[::-1] if before is not None else shown), len(found) > limit


def _place(shelf: Shelf, cursor: str, param: str, called: str) -> int:
    place = shelf.place.get(cursor)
    if place is None:
        raise missing_reference(called, cursor, param)
    return place
