"""Plans: how a product is paid for. What one costs, and how often, is fixed for good."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.domain.catalog import CatalogObject, Meter, Plan, Product
from pipeline.gateway.bodies import Body, deleted_body, plan_body, product_body
from pipeline.gateway.calls import Call
from pipeline.gateway.catalog import CatalogMemory
from pipeline.gateway.changes import change, new_id, next_version
from pipeline.gateway.listing import CREATED, created_as, page
from pipeline.gateway.lists import CURSORS, list_envelope, list_shape
from pipeline.gateway.meters import READ_SCOPES
from pipeline.gateway.operations import Answer, Operation, Schema
from pipeline.gateway.parameters import Boolean, Field, Text
from pipeline.gateway.parts import Parts
from pipeline.gateway.problems import invalid, missing, missing_object, missing_reference
from pipeline.gateway.products import WRITE_SCOPE, made_product
from pipeline.gateway.shapes import PLAN, TIER, deleted_shape, expanded
from pipeline.gateway.wanted import (
    CREATE_PLAN,
    UPDATE_PLAN,
    already_exists,
    check_own_id,
    merged,
    new_plan,
)

EXPANDABLE = ("product", "tiers")

LIST = {
    "active": Field(Boolean(), description="Only these."),
    "created": CREATED,
    "product": Field(Text(), description="Only those of this product."),
    **CURSORS,
}


async def create_plan(parts: Parts, call: Call) -> Answer:
    shown = expanded(call, EXPANDABLE)
    given, catalog, livemode = call.given, parts.catalog, call.key.livemode
    if "product" not in given:
        raise missing("product")
    if "id" in given:
        check_own_id(given["id"], "id")
    id_ = given.get("id") or new_id(parts, call, "plan")
    inline = given["product"] if isinstance(given["product"], dict) else None
    if inline is not None and "id" in inline:
        check_own_id(inline["id"], "product[id]")
    product_id = given["product"] if inline is None else inline.get("id") or new_id(parts, call, "product")

    def make(request: str | None) -> Sequence[CatalogObject]:
        before = catalog.present(Plan, livemode, id_)
        if before is not None and not before.deleted:
            raise already_exists("Plan", id_, "id")
        plan = new_plan(call, given, id_, product_id, before, request)
        _check_meter(catalog, livemode, plan.meter)
        if inline is None:
            _check_product(catalog, livemode, product_id)
            return [plan]
        # The product first: a plan stands only if its product does.
        return [made_product(call, catalog, inline, product_id, request, "product[id]"), plan]

    one, replayed = await change(parts, call, f"plans/{id_}", make)
    return Answer(_body(catalog, one, shown), replayed=replayed)


async def update_plan(parts: Parts, call: Call) -> Answer:
    shown = expanded(call, EXPANDABLE)
    given = call.given

    def make(request: str | None) -> Sequence[CatalogObject]:
        before = _plan(parts.catalog, call)
        changes = {name: given[name] for name in UPDATE_PLAN if name in given}
        if "product" in changes:
            _check_product(parts.catalog, before.livemode, changes["product"])
        if "metadata" in changes:
            changes["metadata"] = merged(before.metadata, given)
        return [next_version(before, call.now_ms, request, **changes)]

    one, replayed = await change(parts, call, f"plans/{call.path['plan']}", make)
    return Answer(_body(parts.catalog, one, shown), replayed=replayed)


async def delete_plan(parts: Parts, call: Call) -> Answer:
    expanded(call, ())

    def make(request: str | None) -> Sequence[CatalogObject]:
        return [next_version(_plan(parts.catalog, call), call.now_ms, request, deleted=True)]

    one, _ = await change(parts, dataclasses.replace(call, idempotency_key=None), f"plans/{call.path['plan']}", make)
    return Answer(deleted_body("plan", one.id))


async def retrieve_plan(parts: Parts, call: Call) -> Answer:
    shown = expanded(call, EXPANDABLE)
    return Answer(_body(parts.catalog, _plan(parts.catalog, call), shown))


async def list_plans(parts: Parts, call: Call) -> Answer:
    shown = expanded(call, EXPANDABLE, within="data.")
    given = call.given

    def wanted(one: Plan) -> bool:
        return (
            ("active" not in given or one.active == given["active"])
            and ("product" not in given or one.product == given["product"])
            and created_as(given, one)
        )

    found, has_more = page(parts.catalog.shelf(Plan, call.key.livemode), Plan, given, wanted, "plan")
    bodies = [_body(parts.catalog, one, shown) for one in found]
    return Answer(list_envelope(bodies, "/v1/plans", has_more=has_more))


def _body(catalog: CatalogMemory, one: Plan, shown: frozenset[str]) -> Body:
    product: Product | None = None
    if "product" in shown and one.product is not None:
        product = catalog.product(one.livemode, one.product)
    body = None if product is None else product_body(product, catalog.plans_of(product.livemode, product.id))
    return plan_body(one, body, tiers="tiers" in shown)


def _plan(catalog: CatalogMemory, call: Call) -> Plan:
    found = catalog.plan(call.key.livemode, call.path["plan"])
    if found is None:
        raise missing_object("plan", call.path["plan"], "plan")
    return found


def _check_product(catalog: CatalogMemory, livemode: bool, product: str) -> None:
    if catalog.product(livemode, product) is None:
        raise missing_reference("product", product, "product")


def _check_meter(catalog: CatalogMemory, livemode: bool, meter: str | None) -> None:
    if meter is None:
        return
    found: Meter | None = catalog.meter(livemode, meter)
    if found is None:
        raise missing_reference("billing meter", meter, "meter")
    if not found.active:
        raise invalid("meter", f"Meter {meter} is inactive: a plan can only be made with an active meter.")


def _operation(name: str, method: Any, path: str, handler: Any, summary: str, **more: Any) -> Operation:
    scope = READ_SCOPES if method == "GET" else WRITE_SCOPE
    row = {"answer": "plan", **more}
    return Operation(
        name=name, method=method, path=path, face="v1", scope=scope, handler=handler, summary=summary, **row
    )


OPERATIONS: tuple[Operation, ...] = (
    _operation("create_plan", "POST", "/v1/plans", create_plan, "Create a plan", fields=CREATE_PLAN),
    _operation(
        "list_plans",
        "GET",
        "/v1/plans",
        list_plans,
        "List plans, newest first",
        fields=LIST,
        answer=list_shape("plan", "^/v1/plans"),
    ),
    _operation("retrieve_plan", "GET", "/v1/plans/{plan}", retrieve_plan, "Retrieve a plan"),
    _operation("update_plan", "POST", "/v1/plans/{plan}", update_plan, "Change a plan", fields=UPDATE_PLAN),
    _operation(
        "delete_plan",
        "DELETE",
        "/v1/plans/{plan}",
        delete_plan,
        "Delete a plan",
        answer="deleted_plan",
    ),
)

SHAPES: dict[str, Schema] = {"plan": PLAN, "plan_tier": TIER, "deleted_plan": deleted_shape("plan")}
