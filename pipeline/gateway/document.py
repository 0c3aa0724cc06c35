"""The OpenAPI document of the gateway, made of the table of operations: what is said is what is served."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.gateway.lists import EXPAND, named
from pipeline.gateway.operations import Operation, Schema
from pipeline.gateway.parameters import Field, object_schema
from pipeline.gateway.request_body import FORM, JSON

_TEXT = {"type": "string", "maxLength": 5_000}
_DEEP = {"style": "deepObject", "explode": True}

ERRORS: dict[str, Schema] = {
    "error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": _TEXT,
                    "doc_url": _TEXT,
                    "message": {"type": "string", "maxLength": 40_000},
                    "param": _TEXT,
                    "type": {
                        "type": "string",
                        "enum": ["api_error", "card_error", "idempotency_error", "invalid_request_error"],
                    },
                },
                "required": ["type"],
            }
        },
        "required": ["error"],
    },
    "v2.error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("code", "doc_url", "message", "param", "type")},
                "required": ["code", "message"],
            }
        },
        "required": ["error"],
    },
}

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "basic": {"type": "http", "scheme": "basic", "description": "An API key as the user name, without password."},
    "session": {"type": "http", "scheme": "bearer", "description": "A meter event session's token."},
}


def openapi(operations: Iterable[Operation], shapes: Mapping[str, Schema]) -> dict[str, Any]:
    """An OpenAPI 3.0 document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Meterline",
            "version": "1",
            "description": "Meters, events, plans and products in Stripe's shapes; our own under /meterline/v1/.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {"schemas": {**ERRORS, **shapes}, "securitySchemes": SECURITY},
    }


def permission(operation: Operation) -> str:
    """Who may call it, for people."""
    if operation.scope is None:
        return "Needs no key."
    scopes = " or ".join(operation.scope.split("|"))
    return f"Needs a session's token of a key with {scopes}." if operation.session else f"Needs a key with {scopes}."


def fields_of(operation: Operation) -> dict[str, Field]:
    """Every parameter but those of the path. DELETE takes ``expand`` too, but Stripe does not say so."""
    expands = operation.face == "v1" and operation.method != "DELETE"
    return {**operation.fields, **EXPAND} if expands else dict(operation.fields)


def _operation(operation: Operation) -> dict[str, Any]:
    error = named("v2.error" if operation.face == "v2" else "error")
    answer = named(operation.answer)
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": permission(operation),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT}
            for name in re.findall(r"\{(\w+)\}", operation.path)
        ],
        "responses": {
            "200": {"description": "Success.", "content": {operation.media_type: {"schema": answer}}},
            "default": {"description": "Error.", "content": {JSON: {"schema": error}}},
        },
    }
    if operation.scope is None:
        made["security"] = []
    elif operation.session:
        made["security"] = [{"session": []}]
    if operation.has_body:
        made["requestBody"] = _body(operation)
    else:
        made["parameters"] += [_query(name, one, operation.face) for name, one in fields_of(operation).items()]
    return made


def _body(operation: Operation) -> dict[str, Any]:
    fields = fields_of(operation)
    content: dict[str, Any] = {"schema": object_schema(fields, operation.face)}
    if operation.face == "v1":
        nested = [name for name, one in fields.items() if _is_nested(one, "v1")]
        content["encoding"] = dict.fromkeys(nested, _DEEP)
    media_type = FORM if operation.face == "v1" else JSON
    return {"required": any(one.required for one in fields.values()), "content": {media_type: content}}


def _query(name: str, one: Field, face: str) -> dict[str, Any]:
    schema = one.schema(face)
    description = schema.pop("description", "")
    style = _DEEP if _is_nested(one, face) else {"style": "form", "explode": True}
    said = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": one.required, **said, **style, "schema": schema}


def _is_nested(one: Field, face: str) -> bool:
    schema = one.kind.schema(face)
    kinds = [schema, *schema.get("anyOf", ())]
    return any(kind.get("type") in ("object", "array") for kind in kinds)
