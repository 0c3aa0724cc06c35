"""What one parameter can be: text, numbers, a word of a few, yes or no, a point in time. See parameters.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Protocol

from pipeline.domain.checks import FORBIDDEN
from pipeline.gateway.moments import MOMENT_S_MAX, moment_ms
from pipeline.gateway.problems import invalid, shown
from pipeline.gateway.strict_json import Number

TEXT_CHARS_MAX = 5_000
INTEGER_BOUND = 2**53 - 1
"""Beyond it JSON numbers are not exact everywhere."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,26}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)
_EXACT = Context(prec=160)
_UNSEEN = re.compile(f"[{FORBIDDEN}]")
_UNSEEN_IN_PROSE = re.compile("[" + FORBIDDEN.replace("\x00-\x1f", "\x00-\x08\x0b\x0c\x0e-\x1f") + "]")


class Kind(Protocol):
    """What a parameter can be. ``schema`` is JSON schema; ``face`` is v1, v2 or meterline."""

    def read(self, raw: Any, name: str, *, typed: bool) -> Any: ...

    def schema(self, face: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Text:
    """``min`` to ``max`` characters, none of which is a control or format character; prose may have several lines."""

    max: int = TEXT_CHARS_MAX
    min: int = 1
    prose: bool = False

    def read(self, raw: Any, name: str, *, typed: bool) -> str:
        if not isinstance(raw, str) or isinstance(raw, Number):
            raise invalid(name, f"Invalid string: {name} is text of {self._allowed()}.")
        if len(raw) < self.min:
            if not raw:
                raise invalid(name, f"{name} is empty; it is text of {self._allowed()}.", "parameter_invalid_empty")
            raise invalid(name, f"{name} is too short: it is text of {self._allowed()}.")
        if len(raw) > self.max:
            raise invalid(name, f"{name} is too long: it is text of {self._allowed()}, and this has {len(raw)}.")
        if not raw.isascii() or not raw.isprintable():
            self._check_characters(raw, name)
        return raw

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.max} | ({"minLength": self.min} if self.min > 1 else {})

    def _check_characters(self, raw: str, name: str) -> None:
        if found := (_UNSEEN_IN_PROSE if self.prose else _UNSEEN).search(raw):
            raise invalid(name, f"{name} holds the character U+{ord(found[0]):04X}, which cannot be seen.")

    def _allowed(self) -> str:
        return f"{self.min} to {self.max} characters"


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from ``low`` to ``high``, both included."""

    low: int = -INTEGER_BOUND
    high: int = INTEGER_BOUND

    def read(self, raw: Any, name: str, *, typed: bool) -> int:
        number = raw
        if isinstance(raw, str) and not typed and _INTEGER.fullmatch(raw):
            number = int(raw)
        if not isinstance(number, int) or isinstance(number, bool):
            message = f"Invalid integer: {shown_given(raw)}. {name} is {self._allowed()}."
            raise invalid(name, message, "parameter_invalid_integer")
        if not self.low <= number <= self.high:
            raise invalid(name, f"Invalid integer: {shown_given(raw)}. {name} is {self._allowed()}.")
        return number

    def schema(self, face: str) -> dict[str, Any]:
        bounds: dict[str, Any] = {"type": "integer"}
        if self.low != -INTEGER_BOUND:
            bounds["minimum"] = self.low
        if self.high != INTEGER_BOUND:
            bounds["maximum"] = self.high
        return bounds

    def _allowed(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class DecimalText:
    """An exact decimal with at most ``places`` digits after the point. ``number`` says that JSON writes it unquoted.

    An exponent is read too: the SDK writes Decimal("0.000000000125") as 1.25E-10.
    """

    places: int
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(10) ** 15
    number: bool = False

    def read(self, raw: Any, name: str, *, typed: bool) -> Decimal:
        text = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
        if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
            raise invalid(name, f"Invalid decimal: {shown_given(raw)}. {name} is {self._allowed()}.")
        value = Decimal(text)
        exponent = value.normalize(_EXACT).as_tuple().exponent
        if not isinstance(exponent, int) or -exponent > self.places or not self.low <= value <= self.high:
            raise invalid(name, f"Invalid decimal: {shown_given(raw)}. {name} is {self._allowed()}.")
        return value

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "number"} if self.number else {"type": "string", "format": "decimal"}

    def _allowed(self) -> str:
        return f"a decimal from {self.low} to {self.high:f} with at most {self.places} digits after the point"


class Choice:
    """One of a few words."""

    __slots__ = ("values",)

    def __init__(self, *values: str) -> None:
        self.values = values

    def read(self, raw: Any, name: str, *, typed: bool) -> str:
        if not isinstance(raw, str) or raw not in self.values:
            raise invalid(name, f"Invalid {name}: must be one of {', '.join(self.values)}.")
        return str(raw)

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.values)}


@dataclass(frozen=True, slots=True)
class Boolean:
    """true or false."""

    def read(self, raw: Any, name: str, *, typed: bool) -> bool:
        if raw is True or (raw == "true" and not typed):
            return True
        if raw is False or (raw == "false" and not typed):
            return False
        raise invalid(name, f"Invalid boolean: {shown_given(raw)}. {name} is true or false.")

    def schema(self, face: str) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time, read as int milliseconds: Unix seconds, and with a JSON body RFC 3339 text too."""

    def read(self, raw: Any, name: str, *, typed: bool) -> int:
        if typed and isinstance(raw, str) and not isinstance(raw, Number):
            if (moment := moment_ms(raw)) is None:
                raise invalid(name, f"Invalid timestamp: {shown_given(raw)}. {name} is as in 2026-01-31T12:00:00.000Z.")
            return moment
        return Integer(0, MOMENT_S_MAX).read(raw, name, typed=typed) * 1_000

    def schema(self, face: str) -> dict[str, Any]:
        if face == "v1":
            return {"type": "integer", "format": "unix-time"}
        return {"type": "string", "format": "date-time"}


def shown_given(raw: Any) -> str:
    """What came, for a message."""
    return shown(raw) if isinstance(raw, str | int) else "a list or an object"
