"""Which changes to a schema are allowed: those that every earlier and every later reader survives.

FULL_TRANSITIVE: data of any version is readable by any other, in both directions. So a field may come or go only if it
has a default, and nothing may change its type: even int to long is a one-way street. Beyond Avro's rules, a type is
also its logical type (a decimal of another scale is the same bytes and another number), and a name that was used once
keeps its type for ever, even if it was gone in between: old data still has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any


def faults(versions: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with the history of one schema, oldest document first; nothing if all is well."""
    found: list[str] = []
    for number, document in enumerate(versions, 1):
        found += [f"v{number}: {fault}" for fault in _faults_alone(document)]
    for later in range(1, len(versions)):
        for earlier in range(later):
            found += [
                f"v{earlier + 1} and v{later + 1}: {fault}"
                for fault in _differences(versions[earlier], versions[later], versions[earlier]["name"])
            ]
    return found


def meanings(schema: Any, where: str = "") -> list[tuple[str, str]]:
    """(place, logical type) of all that is more than its bytes, in the schema's order: canonical forms leave it out."""
    if isinstance(schema, list):
        return [meaning for branch in schema for meaning in meanings(branch, where)]
    if not isinstance(schema, dict):
        return []
    if schema["type"] == "record":
        fields = schema["fields"]
        return [meaning for field in fields for meaning in meanings(field["type"], f"{where}.{field['name']}")]
    inner = [meaning for part in ("type", "items", "values") for meaning in meanings(schema.get(part), where)]
    return [(where.lstrip("."), _shape(schema)), *inner] if "logicalType" in schema else inner


def _faults_alone(document: Any) -> Iterator[str]:
    """Faults of a document by itself: in a union a default must fit the first branch, and aliases hide renames."""
    for record in _records(document):
        for field in record["fields"]:
            where = f"{record['name']}.{field['name']}"
            if not field.get("doc"):
                yield f"{where} has no doc"
            if "aliases" in field:
                yield f"{where} has aliases: readers in other languages ignore them"
            if isinstance(field["type"], list) and field["type"][0] == "null" and field.get("default") is not None:
                yield f"{where} has a default that is not of its first branch"


def _records(schema: Any) -> Iterator[dict[str, Any]]:
    """The record of a schema and all records inside it."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _records(branch)
    elif isinstance(schema, dict):
        if schema["type"] == "record":
            yield schema
            for field in schema["fields"]:
                yield from _records(field["type"])
        for part in ("type", "items", "values"):
            if isinstance(schema.get(part), (dict, list)):
                yield from _records(schema[part])


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """What a reader of one could not do with data of the other, whichever way round."""
    if _shape(old) != _shape(new):
        yield f"{where} is {_shape(old)} in one and {_shape(new)} in the other"
    elif isinstance(old, list):
        for one, other in zip(old, new, strict=True):
            yield from _differences(one, other, where)
    elif isinstance(old, dict) and old["type"] == "record":
        yield from _field_differences(old, new, where)
    elif isinstance(old, dict):
        for part in ("items", "values"):
            if part in old:
                yield from _differences(old[part], new[part], where)


def _field_differences(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    before = {field["name"]: field for field in old["fields"]}
    after = {field["name"]: field for field in new["fields"]}
    for name in (*before, *(name for name in after if name not in before)):
        place = f"{where}.{name}"
        if name in before and name in after:
            yield from _differences(before[name]["type"], after[name]["type"], place)
            if ("default" in before[name]) != ("default" in after[name]) or (
                before[name].get("default") != after[name].get("default")
            ):
                yield f"{place} has another default"
        elif "default" not in (before.get(name) or after[name]):
            yield f"{place} is {'gone' if name in before else 'new'} and has no default"


def _shape(schema: Any) -> str:
    """What must be the same in two versions of a type, as text."""
    if isinstance(schema, list):
        return "a union of " + ", ".join(_shape(branch) for branch in schema)
    if isinstance(schema, str):
        return schema
    if schema["type"] == "record":
        return f"record {schema['name']}"
    if "logicalType" in schema:
        details = [str(schema[key]) for key in ("precision", "scale") if key in schema]
        return f"{schema['type']} {schema['logicalType']} {' '.join(details)}".rstrip()
    if schema["type"] in ("enum", "fixed"):
        return json.dumps({key: part for key, part in schema.items() if key != "doc"}, sort_keys=True)
    return str(schema["type"])
