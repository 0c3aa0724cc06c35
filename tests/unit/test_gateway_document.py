"""The gateway's OpenAPI document against Stripe's: paths, parameters, required ones, words, lengths."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.gateway.document import openapi
from pipeline.gateway.page import page
from pipeline.gateway.routes import OPERATIONS, SHAPES
from tests.answers import json_schema, stripe_document

OURS = json.loads(json.dumps(openapi(OPERATIONS, SHAPES)))
STRIPE = stripe_document()

STRIPES = sorted((path, method) for path, methods in STRIPE["paths"].items() for method in methods)

ADDED = {
    "/v1/billing/meters post": {"dimension_payload_keys"},  # as in Stripe's preview
}
"""Parameters that Stripe's document does not have."""

LEFT_OUT = {
    # Prices of several currencies, prices that customers choose, taxes: nothing that usage is rated by.
    "/v1/products default_price_data": {"currency_options", "custom_unit_amount", "tax_behavior"},
}
"""Fields of Stripe's that are refused here."""

TIGHTER = ("minimum", "maximum", "minLength")
"""Bounds that Stripe tells in prose only."""


def parameters(document: Mapping[str, Any], path: str, method: str) -> dict[str, dict[str, Any]]:
    """Of the query string or the body, by name: required, schema."""
    operation = document["paths"][path][method]
    found = {
        one["name"]: {"required": one.get("required", False), "schema": json_schema(document, one["schema"])}
        for one in operation.get("parameters", ())
        if one["in"] == "query"
    }
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        for name, part in schema.get("properties", {}).items():
            required = name in schema.get("required", ())
            found[name] = {"required": required, "schema": json_schema(document, part)}
    return found


EMPTY = {"type": "string", "enum": [""]}


def bare(schema: Any) -> Any:
    """A schema without titles, prose, order, and bounds that Stripe leaves unsaid; lengths of no meaning as none."""
    if isinstance(schema, list):
        return sorted((bare(one) for one in schema), key=lambda one: json.dumps(one, sort_keys=True))
    if not isinstance(schema, dict):
        return schema
    kept = {
        name: bare(part)
        for name, part in schema.items()
        if name not in ("title", "deprecated", "description", "additionalProperties", *TIGHTER)
    }
    if kept.get("format") in ("unix-time", "currency"):
        del kept["format"]  # told of some and not of others
    if kept.get("maxLength") == 5000 or "enum" in kept:
        kept.pop("maxLength", None)
    return kept


def differences(ours: Any, stripes: Any, at: str) -> Iterator[str]:
    """Where ours takes something else than Stripe's."""
    if isinstance(ours, dict) and isinstance(stripes, dict):
        if "anyOf" in ours and "anyOf" not in stripes and EMPTY in ours["anyOf"]:
            # To clear what is not there yet does no harm.
            ours = next(kind for kind in ours["anyOf"] if kind != EMPTY)
        for name in sorted(ours.keys() | stripes.keys()):
            if name in LEFT_OUT.get(at.partition(".")[0], ()):
                assert name not in ours, "it is not left out any more"
                continue
            if name == "maxLength" and name in ours and name not in stripes:
                continue  # nothing is endless here
            if name not in ours or name not in stripes:
                yield f"{at}: {name}: {ours.get(name)!r}, Stripe: {stripes.get(name)!r}"
            else:
                yield from differences(ours[name], stripes[name], f"{at}.{name}")
    elif ours != stripes:
        yield f"{at}: {ours!r}, Stripe: {stripes!r}"


@pytest.mark.parametrize(("path", "method"), STRIPES)
def test_parameters_are_stripes(path: str, method: str) -> None:
    assert path in OURS["paths"], "a path of Stripe's is missing"
    ours, stripes = parameters(OURS, path, method), parameters(STRIPE, path, method)
    added = ADDED.get(f"{path} {method}", set())
    assert set(ours) == set(stripes) | added
    faults = [
        fault for name in stripes for fault in differences(bare(ours[name]), bare(stripes[name]), f"{path} {name}")
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("path", "method"), STRIPES)
def test_encodings_are_stripes(path: str, method: str) -> None:
    """Forms in v1, JSON in v2; lists and objects in the same brackets."""
    ours, stripes = OURS["paths"][path][method], STRIPE["paths"][path][method]
    if method == "post":
        mine = ours["requestBody"]["content"]
        theirs = stripes.get("requestBody", {}).get("content", {"application/json": {}})
        assert list(mine) == list(theirs)
        for media_type, content in theirs.items():
            nested = {name for name in content.get("encoding", {}) if name in _nested(content["schema"])}
            assert nested <= set(mine[media_type].get("encoding", {})), path
    for one in stripes.get("parameters", ()):
        mine = next(found for found in ours["parameters"] if found["name"] == one["name"])
        assert mine["in"] == one["in"]
        assert one["in"] == "path" or mine["style"] == one["style"], one["name"]


def _nested(schema: Mapping[str, Any]) -> set[str]:
    return {
        name
        for name, part in schema["properties"].items()
        for kind in (part, *part.get("anyOf", ()))
        if kind.get("type") in ("object", "array")
    }


def success(document: Mapping[str, Any], path: str, method: str) -> Any:
    answer = document["paths"][path][method]["responses"]["200"]
    return json_schema(document, answer["content"]["application/json"]["schema"])


@pytest.mark.parametrize(("path", "method"), STRIPES)
def test_answers_have_what_stripes_have(path: str, method: str) -> None:
    """Every required field, and no other type or word."""
    mine, theirs = (bare(success(document, path, method)) for document in (OURS, STRIPE))
    faults = list(_narrower(mine, theirs, path))
    assert not faults, "\n".join(faults)


def _narrower(ours: Any, stripes: Any, at: str) -> Iterator[str]:
    """Where an answer of ours could be none of Stripe's."""
    if "anyOf" in stripes or "anyOf" in ours:
        ours_types, stripes_types = _types(ours), _types(stripes)
        if not ours_types <= stripes_types:
            yield f"{at}: {ours_types}, Stripe: {stripes_types}"
        return
    if missing := set(stripes.get("required", ())) - set(ours.get("required", ())):
        yield f"{at}: {missing} are always there at Stripe's"
    if not set(ours.get("enum", ())) <= set(stripes.get("enum", ours.get("enum", ()))):
        yield f"{at}: words {ours.get('enum')}, Stripe: {stripes.get('enum')}"
    if "type" in stripes and ours.get("type") != stripes["type"]:
        yield f"{at}: {ours.get('type')}, Stripe: {stripes['type']}"
    for name, part in stripes.get("properties", {}).items():
        if name in ours.get("properties", {}):
            yield from _narrower(ours["properties"][name], part, f"{at}.{name}")
        elif name in stripes.get("required", ()):
            yield f"{at}: {name} is missing"
    if "items" in stripes:
        yield from _narrower(ours["items"], stripes["items"], f"{at}[]")


def _types(schema: Mapping[str, Any]) -> set[str]:
    if "anyOf" in schema:
        return {one for kind in schema["anyOf"] for one in _types(kind)}
    return {schema.get("type", "")}


def test_what_is_served_is_what_is_said() -> None:
    """S25: one table makes the routes and the document."""
    served = {(operation.path, operation.method.lower()) for operation in OPERATIONS}
    said = {(path, method) for path, methods in OURS["paths"].items() for method in methods}
    assert served == said
    assert len(served) == len(OPERATIONS), "two operations answer one path"
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(OURS)))
    assert named <= set(OURS["components"]["schemas"])


def test_every_operation_names_its_face_by_its_path() -> None:
    for operation in OPERATIONS:
        first = operation.path.split("/")[1]
        expected = first if first in ("v1", "v2") else "meterline"
        assert operation.face == expected or operation.scope is None, operation.name
        assert operation.summary, operation.name


def test_extensions_stay_out_of_stripes_paths() -> None:
    """Ours are under /meterline/v1/, but for reading adjustments and events back, which Stripe lacks."""
    ours = {path for path in OURS["paths"] if path not in STRIPE["paths"]}
    allowed = re.compile(
        r"/meterline/v1/.*|/|/health/\w+|/v2/core/events.*|/v1/events.*|/v2/billing/meter_event_adjustments/\{id\}"
    )
    assert not {path for path in ours if not allowed.fullmatch(path)}


def test_the_page_has_nothing_from_elsewhere() -> None:
    text = page(OPERATIONS)
    for operation in OPERATIONS:
        assert operation.path in text
    assert not re.search(r"(?:src|href|url\(|@import)\s*[=(]?\s*[\"']?(?:https?:)?//", text)
    assert "<script" not in text
