"""Values as text and as scaled ints. No float on the way: what a producer wrote is what is summed."""

from __future__ import annotations

import re

from pipeline.domain.limits import VALUE_PRECISION, VALUE_SCALE, VALUE_UNIT

WHOLE_DIGITS_MAX = VALUE_PRECISION - VALUE_SCALE

_VALUE = re.compile(rf"(-?)([0-9]{{1,{WHOLE_DIGITS_MAX}}})(?:\.([0-9]{{1,{VALUE_SCALE}}}))?")

VALUE_GRAMMAR = (
    f"digits with an optional minus and at most {WHOLE_DIGITS_MAX} digits before and {VALUE_SCALE} after a point; "
    "no exponent, no spaces"
)


def value_of(text: str) -> int:
    """The scaled int that ``text`` writes. Raises ValueError when it is not exactly such a decimal."""
    match = _VALUE.fullmatch(text)
    if match is None:
        raise ValueError(f"a value is {VALUE_GRAMMAR}")
    sign, whole, fraction = match.groups()
    scaled: int = int(whole) * VALUE_UNIT + int((fraction or "").ljust(VALUE_SCALE, "0"))
    return -scaled if sign else scaled


def value_text(scaled: int) -> str:
    """The shortest decimal of a scaled int: no trailing zeros, no exponent, ``0`` without a sign."""
    whole, fraction = divmod(abs(scaled), VALUE_UNIT)
    digits = f"{whole}.{fraction:0{VALUE_SCALE}d}".rstrip("0").rstrip(".")
    return f"-{digits}" if scaled < 0 else digits
