"""JSON bodies, read strictly. What two readers could understand differently is refused: duplicate keys, NaN, lone
surrogates, trailing bytes, deep nesting.
"""

from __future__ import annotations

from typing import Any


class Number(str):
    """A JSON number with a point or an exponent, digit for digit as it was written. Whole numbers are int."""

    __slots__ = ()


def read_json(body: bytes) -> Any:
    """dict, list, str, int, Number, bool or None. Raises Problem 400 that says what is wrong."""
    raise NotImplementedError
