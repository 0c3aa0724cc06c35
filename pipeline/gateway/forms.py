"""Form bodies and query strings, with Stripe's brackets: ``a[0][b]=x``, ``a[]=x``, ``a[b][c]=x``.

Out come dicts, with lists only for ``a[]``: whether ``a[0]`` is an item of a list or the key "0" of a map is known by
the table of parameters alone (parameters.py).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from pipeline.gateway.problems import Problem, invalid, shown

PAIRS_MAX = 1_000
DEPTH_MAX = 8
"""Brackets behind a name, and the name itself."""

_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)", re.DOTALL)


def read_form(body: bytes) -> dict[str, Any]:
    """What the pairs say. Raises Problem 400 for what has no one meaning: names that are broken or stand twice."""
    read: dict[str, Any] = {}
    if not body:
        return read
    pairs = body.split(b"&", PAIRS_MAX)
    if len(pairs) > PAIRS_MAX:
        raise invalid(None, f"A request has at most {PAIRS_MAX} parameters.")
    for pair in pairs:
        if pair:
            name, _, text = pair.partition(b"=")
            _put(read, _decoded(name), _decoded(text))
    return read


def _decoded(encoded: bytes) -> str:
    if b"+" in encoded:
        encoded = encoded.replace(b"+", b" ")
    try:
        if b"%" in encoded:
            if _STRAY_PERCENT.search(encoded):
                raise _badly_encoded()
            encoded = unquote_to_bytes(encoded)
        return encoded.decode()
    except UnicodeDecodeError:
        raise _badly_encoded() from None


def _badly_encoded() -> Problem:
    return invalid(None, "Parameters are UTF-8 text, percent-encoded: % stands before two hexadecimal digits.")


def _put(read: dict[str, Any], name: str, text: str) -> None:
    if "[" not in name and "]" not in name and name:
        keys = [name]
    else:
        match = _NAME.fullmatch(name)
        if not match:
            raise invalid(None, f"Invalid parameter name {shown(name)}: names are as in a, a[b] or a[0][b].")
        keys = [match[1], *(match[2][1:-1].split("][") if match[2] else [])]
    if len(keys) > DEPTH_MAX:
        raise invalid(name[:100], f"{shown(name)} has more than {DEPTH_MAX} levels.")
    inside = read
    for key in keys[:-1] if keys[-1] else keys[:-2]:
        if not key:
            raise invalid(name[:100], f"Invalid parameter name {shown(name)}: [] stands only at the end.")
        inside = inside.setdefault(key, {})
        if not isinstance(inside, dict):
            raise _twice(name)
    if keys[-1]:
        if keys[-1] in inside:
            raise _twice(name)
        inside[keys[-1]] = text
        return
    if not keys[-2]:
        raise invalid(name[:100], f"Invalid parameter name {shown(name)}: [] stands only at the end.")
    items = inside.setdefault(keys[-2], [])
    if not isinstance(items, list):
        raise _twice(name)
    items.append(text)


def _twice(name: str) -> Problem:
    return invalid(name[:100], f"The parameter {shown(name)} is given twice, or once as a whole and once in parts.")
