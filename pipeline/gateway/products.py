"""Products: what is sold. Its prices are plans."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.domain.catalog import CatalogObject, Plan, Product
from pipeline.gateway.bodies import Body, deleted_body, product_body
from pipeline.gateway.calls import Call
from pipeline.gateway.catalog import CatalogMemory
from pipeline.gateway.changes import change, new_id, next_version, part_request
from pipeline.gateway.listing import CREATED, created_as, page
from pipeline.gateway.lists import (
    CURSORS,
    LIMIT_DEFAULT,
    SEARCH_PAGE,
    list_envelope,
    list_shape,
    page_token,
    position_of,
    search_envelope,
)
from pipeline.gateway.meters import READ_SCOPES
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Boolean, Field, ListOf, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import exclusive, invalid, missing_object, missing_reference
from pipeline.gateway.product_search import read_query
from pipeline.gateway.shapes import PRODUCT, deleted_shape, expanded
from pipeline.gateway.wanted import (
    CREATE_PRODUCT,
    UPDATE_PRODUCT,
    already_exists,
    check_own_id,
    default_plan,
    new_plan,
    new_product,
    product_changes,
)

WRITE_SCOPE = "catalog:write"
IDS_MAX = 100

LIST = {
    "active": Field(Boolean(), description="Only these."),
    "created": CREATED,
    "ids": Field(ListOf(Text(), IDS_MAX), description="Only these; not together with a cursor."),
    "shippable": Field(Boolean(), description="Only these."),
    "url": Field(Text(), description="Only those with this URL."),
    **CURSORS,
}
SEARCH = {"query": Field(Text(), required=True, description="Stripe's search query language."), **SEARCH_PAGE}


async def create_product(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    given, catalog, livemode = call.given, parts.catalog, call.key.livemode
    if "id" in given:
        check_own_id(given["id"], "id")
    id_ = given.get("id") or new_id(parts, call, "product")
    price = default_plan(given["default_price_data"]) if "default_price_data" in given else None
    plan_id = None if price is None else new_id(parts, call, "plan", "default_price")

    def make(request: str | None) -> Sequence[CatalogObject]:
        if price is None or plan_id is None:
            return [new_product(call, given, id_, free_product(catalog, livemode, id_, "id"), request)]
        # A plan stands only if its product does, and the product names the plan only once that stands.
        product = made_product(call, catalog, given, id_, request, "id")
        plan = _made_plan(call, catalog, price, plan_id, id_, part_request(request, "plan"))
        return [product, plan, next_version(product, call.now_ms, request, default_price=plan_id)]

    one, replayed = await change(parts, call, f"products/{id_}", make)
    return Answer(_body(catalog, one), replayed=replayed)


async def update_product(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    given, id_ = call.given, call.path["id"]

    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _product(parts.catalog, call)
        price = given.get("default_price")
        if price is not None and price not in parts.catalog.plans_of(before.livemode, before.id):
            raise missing_reference("price", price, "default_price")
        return [next_version(before, call.now_ms, request, **product_changes(given, before.metadata))]

    one, replayed = await change(parts, call, f"products/{id_}", make)
    return Answer(_body(parts.catalog, one), replayed=replayed)


async def delete_product(parts: Parts, call: Call) -> Answer:
    expanded(call, ())

    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _product(parts.catalog, call)
        plans = parts.catalog.plans_of(before.livemode, before.id)
        if plans:
            message = f"This product has {len(plans)} plans ({min(plans)}, …): delete those first, or set active=false."
            raise invalid("id", message)
        return [next_version(before, call.now_ms, request, deleted=True)]

    one, _ = await change(parts, dataclasses.replace(call, idempotency_key=None), f"products/{call.path['id']}", make)
    return Answer(deleted_body("product", one.id))


async def retrieve_product(parts: Parts, call: Call) -> Answer:
    expanded(call, ())
    return Answer(_body(parts.catalog, _product(parts.catalog, call)))


async def list_products(parts: Parts, call: Call) -> Answer:
    expanded(call, (), within="data.")
    given = call.given
    for cursor in ("starting_after", "ending_before"):
        if "ids" in given and cursor in given:
            raise exclusive("ids", cursor)
    ids = frozenset(given["ids"]) if "ids" in given else None

    def wanted(one: Product) -> bool:
        return (
            (ids is None or one.id in ids)
            and ("active" not in given or one.active == given["active"])
            and ("shippable" not in given or bool(one.shippable) == given["shippable"])
            and ("url" not in given or one.url == given["url"])
            and created_as(given, one)
        )

    found, has_more = page(parts.catalog.shelf(Product, call.key.livemode), Product, given, wanted, "product")
    bodies = [_body(parts.catalog, one) for one in found]
    return Answer(list_envelope(bodies, "/v1/products", has_more=has_more))


async def search_products(parts: Parts, call: Call) -> Answer:
    counted = "total_count" in expanded(call, ("total_count",))
    matches = read_query(call.given["query"])
    limit = call.given.get("limit") or LIMIT_DEFAULT
    shelf = parts.catalog.shelf(Product, call.key.livemode)
    below = None
    if "page" in call.given:
        below = shelf.place.get(position_of(call.given["page"]))
        if below is None:
            raise invalid("page", "page is the next_page of an answer's page, as it was given.")
    found = [one for one in shelf.newest_first(below) if isinstance(one, Product) and matches(one)]
    total = None
    if counted:
        everything = found if below is None else shelf.newest_first()
        total = sum(isinstance(one, Product) and matches(one) for one in everything)
    shown = found[:limit]
    next_page = page_token(shown[-1].id) if len(found) > limit else None
    bodies = [_body(parts.catalog, one) for one in shown]
    return Answer(search_envelope(bodies, "/v1/products/search", next_page=next_page, total_count=total))


def free_product(catalog: CatalogMemory, livemode: bool, id_: str, param: str) -> Product | None:
    """What stood under an id that can be taken: nothing, or what was deleted. Raises Problem 400 when it is taken."""
    before = catalog.present(Product, livemode, id_)
    if before is not None and not before.deleted:
        raise already_exists("Product", id_, param)
    return before


def made_product(
    call: Call, catalog: CatalogMemory, given: Mapping[str, Any], id_: str, request: str | None, param: str
) -> Product:
    """A product that a request makes on the way to its answer: as it stands, when the request did so before."""
    mine = part_request(request, "product")
    present = catalog.product(call.key.livemode, id_)
    if present is not None and mine is not None and present.request == mine:
        return present
    return new_product(call, given, id_, free_product(catalog, call.key.livemode, id_, param), mine)


def _made_plan(
    call: Call, catalog: CatalogMemory, price: Mapping[str, Any], id_: str, product: str, mine: str | None
) -> Plan:
    present = catalog.present(Plan, call.key.livemode, id_)
    if present is not None and mine is not None and present.request == mine:
        return present
    return new_plan(call, price, id_, product, present, mine)


def _body(catalog: CatalogMemory, one: Product) -> Body:
    return product_body(one, catalog.plans_of(one.livemode, one.id))


def _product(catalog: CatalogMemory, call: Call) -> Product:
    found = catalog.product(call.key.livemode, call.path["id"])
    if found is None:
        raise missing_object("product", call.path["id"])
    return found


def _operation(name: str, method: Any, path: str, handler: Any, summary: str, **more: Any) -> Operation:
    scope = READ_SCOPES if method == "GET" else WRITE_SCOPE
    row = {"answer": "product", **more}
    return Operation(
        name=name, method=method, path=path, face="v1", scope=scope, handler=handler, summary=summary, **row
    )


OPERATIONS: tuple[Operation, ...] = (
    _operation("create_product", "POST", "/v1/products", create_product, "Create a product", fields=CREATE_PRODUCT),
    _operation(
        "list_products",
        "GET",
        "/v1/products",
        list_products,
        "List products, newest first",
        fields=LIST,
        answer=list_shape("product", "^/v1/products"),
    ),
    _operation(
        "search_products",
        "GET",
        "/v1/products/search",
        search_products,
        "Search products",
        fields=SEARCH,
        answer="product_search",
    ),
    _operation("retrieve_product", "GET", "/v1/products/{id}", retrieve_product, "Retrieve a product"),
    _operation(
        "update_product", "POST", "/v1/products/{id}", update_product, "Change a product", fields=UPDATE_PRODUCT
    ),
    _operation(
        "delete_product",
        "DELETE",
        "/v1/products/{id}",
        delete_product,
        "Delete a product that has no plans",
        answer="deleted_product",
    ),
)

_SEARCH_RESULT: Schema = {
    "type": "object",
    "properties": {
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/product"}},
        "has_more": {"type": "boolean"},
        "next_page": {"type": "string", "maxLength": 5_000, "nullable": True},
        "object": {"type": "string", "enum": ["search_result"]},
        "total_count": {"type": "integer"},
        "url": {"type": "string", "maxLength": 5_000},
    },
    "required": ["data", "has_more", "object", "url"],
}

SHAPES: dict[str, Schema] = {
    "product": PRODUCT,
    "deleted_product": deleted_shape("product"),
    "product_search": _SEARCH_RESULT,
}
