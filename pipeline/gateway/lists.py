"""Lists: v1's cursors and envelope, the search envelope, and v2's pages.

Objects are listed newest first. A cursor is the id of an object that the client has seen, and is itself left out:
``starting_after`` goes on towards older ones, ``ending_before`` back towards newer ones.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pipeline.gateway.operations import Schema
from pipeline.gateway.parameters import Field, Integer, ListOf, Text
from pipeline.gateway.problems import exclusive, invalid, missing_reference

LIMIT_DEFAULT = 10
LIMIT_MAX = 100
EXPAND_MAX = 20

Item = TypeVar("Item")

LIMIT = Field(Integer(1, LIMIT_MAX), description=f"How many at most, 1 to {LIMIT_MAX}; {LIMIT_DEFAULT} unless said.")
EXPAND = {"expand": Field(ListOf(Text(), EXPAND_MAX), description="Fields to answer as objects in place of ids.")}
"""Part of every v1 operation; the app adds it."""
CURSORS = {
    "ending_before": Field(Text(), description="An id: the list ends before it, newer ones are answered."),
    "limit": LIMIT,
    "starting_after": Field(Text(), description="An id: the list goes on after it, older ones are answered."),
}
"""The parameters of a v1 list."""
SEARCH_PAGE = {"limit": LIMIT, "page": Field(Text(), description="The next_page of the page before.")}
V2_PAGE = {"limit": LIMIT, "page": Field(Text(), description="The page token of a next_page_url.")}


def page_of(
    items: Sequence[Item], given: Mapping[str, Any], *, kind: str, id_of: Callable[[Item], str]
) -> tuple[list[Item], bool]:
    """One page of ``items``, which are sorted newest first, and whether there are more in that direction.

    Raises Problem 400 for two cursors, or one that names none of the items.
    """
    limit: int = given.get("limit") or LIMIT_DEFAULT
    after, before = given.get("starting_after"), given.get("ending_before")
    if after is not None and before is not None:
        raise exclusive("starting_after", "ending_before")
    if before is not None:
        end = _position(items, before, "ending_before", kind, id_of)
        start = max(0, end - limit)
        return list(items[start:end]), start > 0
    start = 0 if after is None else _position(items, after, "starting_after", kind, id_of) + 1
    return list(items[start : start + limit]), start + limit < len(items)


def list_envelope(bodies: Sequence[Any], url: str, *, has_more: bool) -> dict[str, Any]:
    """v1's list."""
    return {"object": "list", "data": list(bodies), "has_more": has_more, "url": url}


def search_envelope(
    bodies: Sequence[Any], url: str, *, next_page: str | None, total_count: int | None = None
) -> dict[str, Any]:
    """The answer to a search."""
    envelope = {"object": "search_result", "data": list(bodies), "has_more": next_page is not None}
    counted = {} if total_count is None else {"total_count": total_count}
    return {**envelope, "next_page": next_page, "url": url, **counted}


def v2_envelope(bodies: Sequence[Any], *, next_url: str | None, previous_url: str | None = None) -> dict[str, Any]:
    """v2's page."""
    return {"data": list(bodies), "next_page_url": next_url, "previous_page_url": previous_url}


def page_token(position: str) -> str:
    """A position, for example the last id of a page, as the opaque token of the page behind it."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def position_of(token: str) -> str:
    """What ``page_token`` was given. Raises Problem 400 for a token that is none."""
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid("page", "page is the token of an answer's next page, as it was given.") from error


def list_shape(item: Schema | str, url_pattern: str) -> Schema:
    """The JSON schema of a v1 list of ``item``: a schema, or the name of one in SHAPES."""
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": named(item)},
            "has_more": {"type": "boolean"},
            "object": {"type": "string", "enum": ["list"]},
            "url": {"type": "string", "maxLength": 5_000, "pattern": url_pattern},
        },
        "required": ["data", "has_more", "object", "url"],
    }


def named(shape: Schema | str) -> Schema:
    """A schema, or the reference to one in SHAPES."""
    return {"$ref": f"#/components/schemas/{shape}"} if isinstance(shape, str) else shape


def _position(items: Sequence[Item], cursor: str, param: str, kind: str, id_of: Callable[[Item], str]) -> int:
    for position, item in enumerate(items):
        if id_of(item) == cursor:
            return position
    raise missing_reference(kind, cursor, param)
