"""Parameters as data: one table of fields per operation reads the input and writes its part of the OpenAPI document.

    FIELDS = {"display_name": Field(Text(250), required=True), "tiers": Field(ListOf(Object({...}), 100))}
    given = read(FIELDS, raw)

``read`` takes what forms.py makes of a form body or a query string (text, dicts and lists of text), or with ``typed``
what strict_json.py makes of a JSON body (int, Number for what has a point or an exponent, bool, None as well). Out come
str, int, bool, Decimal, int milliseconds for a Moment, dicts and lists of these. A field that did not come is absent
from the result; a cleared one ("" in a form, null in JSON) is None. Every fault is a Problem 400 that names the
parameter with brackets, as in ``tiers[0][up_to]``, and says what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.gateway.kinds import Boolean, Choice, DecimalText, Integer, Kind, Moment, Text
from pipeline.gateway.problems import Problem, invalid, missing
from pipeline.gateway.strict_json import Number

__all__ = [  # everything that a table of parameters is made of, in one import
    "Boolean",
    "Choice",
    "DecimalText",
    "Either",
    "Field",
    "Integer",
    "ListOf",
    "Metadata",
    "Moment",
    "Object",
    "Text",
    "TextMap",
    "object_schema",
    "read",
]

METADATA_KEYS_MAX = 50
METADATA_KEY_CHARS_MAX = 40
METADATA_VALUE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Object:
    """Fields inside a parameter."""

    fields: Mapping[str, Field]

    def read(self, raw: Any, name: str, *, typed: bool) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise invalid(name, f"Invalid object: {name} has the fields {', '.join(self.fields)}.")
        return _read_fields(self.fields, raw, name, typed=typed)

    def schema(self, face: str) -> dict[str, Any]:
        return object_schema(self.fields, face)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of ``min`` to ``max`` items. In forms: ``a[0]=x&a[1]=y``, without a hole, or ``a[]=x&a[]=y``."""

    item: Kind
    max: int
    min: int = 0

    def read(self, raw: Any, name: str, *, typed: bool) -> list[Any]:
        items = raw
        if isinstance(raw, dict) and not typed:
            items = [raw[str(index)] for index in range(len(raw)) if str(index) in raw]
        if not isinstance(items, list) or len(items) != len(raw):
            raise invalid(name, f"Invalid array: {name} is a list, counted from 0 without a gap.")
        if not self.min <= len(items) <= self.max:
            raise invalid(name, f"Invalid array: {name} has {self.min} to {self.max} items, and this has {len(items)}.")
        return [self.item.read(item, f"{name}[{index}]", typed=typed) for index, item in enumerate(items)]

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "array", "items": self.item.schema(face)}


@dataclass(frozen=True, slots=True)
class TextMap:
    """Keys of the client's choosing with text. ``numbers``: JSON numbers become their digits, as they were written."""

    keys_max: int
    key_chars_max: int = 100
    value_chars_max: int = 100
    numbers: bool = True

    def read(self, raw: Any, name: str, *, typed: bool) -> dict[str, str]:
        if not isinstance(raw, dict):
            raise invalid(name, f"Invalid object: {name} has keys with text, as in {name}[key]=text.")
        if len(raw) > self.keys_max:
            raise invalid(name, f"{name} has at most {self.keys_max} keys, and this has {len(raw)}.")
        return {self._key(key, name): self._value(text, f"{name}[{key}]") for key, text in raw.items()}

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}

    def _key(self, key: str, name: str) -> str:
        return Text(self.key_chars_max).read(key, f"{name}[{key[: self.key_chars_max]}]", typed=True)

    def _value(self, text: Any, name: str) -> str:
        if self.numbers and (isinstance(text, Number) or (isinstance(text, int) and not isinstance(text, bool))):
            text = str(text)
            if len(text) <= self.value_chars_max:
                return str(text)
        return Text(self.value_chars_max, 0).read(text, name, typed=True)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Up to 50 keys with text; a key with "" (or null) is to be removed and is None here."""

    def read(self, raw: Any, name: str, *, typed: bool) -> dict[str, str | None]:
        if not isinstance(raw, dict):
            raise invalid(name, f"Invalid object: {name} has keys with text, as in {name}[key]=text.")
        if len(raw) > METADATA_KEYS_MAX:
            raise invalid(name, f"{name} has at most {METADATA_KEYS_MAX} keys, and this has {len(raw)}.")
        texts: dict[str, str | None] = {}
        for key, text in raw.items():
            at = f"{name}[{key[:METADATA_KEY_CHARS_MAX]}]"
            Text(METADATA_KEY_CHARS_MAX).read(key, at, typed=True)
            if "[" in key or "]" in key:
                raise invalid(at, "A key of metadata has no square brackets.")
            texts[key] = (
                Text(METADATA_VALUE_CHARS_MAX, 0, prose=True).read("" if text is None else text, at, typed=True) or None
            )
        return texts

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


class Either:
    """One of several kinds, told apart by their shape: fields, or else the first that reads the text."""

    __slots__ = ("kinds",)

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds

    def read(self, raw: Any, name: str, *, typed: bool) -> Any:
        shaped = [kind for kind in self.kinds if isinstance(kind, Object) == isinstance(raw, dict)] or self.kinds
        said: list[Problem] = []
        for kind in shaped:
            try:
                return kind.read(raw, name, typed=typed)
            except Problem as problem:
                said.append(problem)
        if len(said) == 1:
            raise said[0]
        raise invalid(name, " Or: ".join(problem.message for problem in said), said[-1].code)

    def schema(self, face: str) -> dict[str, Any]:
        return {"anyOf": [kind.schema(face) for kind in self.kinds]}


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter. ``clearable``: "" in a form, or null in JSON, removes what stood there and reads as None."""

    kind: Kind
    required: bool = False
    clearable: bool = False
    description: str = ""

    def schema(self, face: str) -> dict[str, Any]:
        made = self.kind.schema(face)
        if self.clearable and face == "v1":
            made = {"anyOf": [made, {"type": "string", "enum": [""]}]}
        elif self.clearable:
            made = {**made, "nullable": True}
        return {**made, "description": self.description} if self.description else made


def read(fields: Mapping[str, Field], raw: Mapping[str, Any], *, typed: bool = False) -> dict[str, Any]:
    """The parameters that came, validated. Raises Problem 400 for the first fault."""
    return _read_fields(fields, raw, "", typed=typed)


def object_schema(fields: Mapping[str, Field], face: str) -> dict[str, Any]:
    """The JSON schema of an object with these fields and no others."""
    required = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "properties": {name: field.schema(face) for name, field in fields.items()},
        **({"required": sorted(required)} if required else {}),
        "additionalProperties": False,
    }


def _read_fields(fields: Mapping[str, Field], raw: Mapping[str, Any], at: str, *, typed: bool) -> dict[str, Any]:
    for name in raw:
        if name not in fields:
            full = _inside(at, name)
            raise invalid(full, f"Received unknown parameter: {full}", "parameter_unknown")
    given: dict[str, Any] = {}
    for name, field in fields.items():
        value = raw.get(name)
        if value is None and (not field.clearable or name not in raw):
            if field.required:
                raise missing(_inside(at, name))
        elif field.clearable and (value is None or (value == "" and not typed)):
            given[name] = None
        else:
            given[name] = field.kind.read(value, _inside(at, name), typed=typed)
    return given


def _inside(at: str, name: str) -> str:
    cut = name[:100]
    return f"{at}[{cut}]" if at else cut
