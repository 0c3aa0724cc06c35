"""Stripe's search query language, as far as products go.

    query    = clause {("AND" | "OR" | nothing, which is AND) clause}     never AND and OR in one query
    clause   = ["-"] field operator value                                 "-": whatever does not match
    field    = active | description | name | shippable | url | created | updated | metadata["key"]
    operator = ":" is   "~" contains (texts, 3 characters at least)   ">" ">=" "<" "<=" (numbers)
    value    = "text" | 'text' | number | null                            null: it has none

Texts match in whatever case they are written. ``read_query`` turns a query into a function from product to bool.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pipeline.domain.catalog import Product
from pipeline.gateway.problems import Problem, invalid, shown

Matches = Callable[[Product], bool]

CLAUSES_MAX = 10
CONTAINED_CHARS_MIN = 3

_CLAUSE = re.compile(
    r"""(?P<negated>-)?
    (?P<field>[a-z_]+) (?:\[ (?P<key>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*') \])?
    \s* (?P<operator>:|~|>=|<=|>|<) \s*
    (?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|-?[0-9]{1,18}(?![0-9.])|null\b)""",
    re.VERBOSE,
)
_JOINT = re.compile(r"\s+(?:(AND|OR)\s+)?", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9]{1,18}", re.ASCII)

_TEXTS: dict[str, Callable[[Product], str | None]] = {
    "description": lambda one: one.description,
    "name": lambda one: one.name,
    "url": lambda one: one.url,
}
_WORDS: dict[str, Callable[[Product], str | None]] = {
    "active": lambda one: "true" if one.active else "false",
    "shippable": lambda one: None if one.shippable is None else "true" if one.shippable else "false",
}
_NUMBERS: dict[str, Callable[[Product], int]] = {
    "created": lambda one: one.created_ms // 1_000,
    "updated": lambda one: one.updated_ms // 1_000,
}
FIELDS = (*_WORDS, *_TEXTS, *_NUMBERS, 'metadata["key"]')

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    ":": lambda number, bound: number == bound,
    ">": lambda number, bound: number > bound,
    ">=": lambda number, bound: number >= bound,
    "<": lambda number, bound: number < bound,
    "<=": lambda number, bound: number <= bound,
}


class _Clause(NamedTuple):
    field: str
    key: str | None
    operator: str
    value: str | None
    """None for null."""


def read_query(query: str) -> Matches:
    """What the query asks for. Raises Problem 400 that says where it cannot be read, and what is allowed."""
    text = query.strip()
    clauses: list[Matches] = []
    joints: set[str] = set()
    at = 0
    while at < len(text) or not clauses:
        match = _CLAUSE.match(text, at)
        if match is None:
            raise _unreadable(f"{shown(text[at:])} is no clause; one is written as in name:'gold', and fields are", at)
        matches = _matcher(_clause_of(match))
        clauses.append(_negated(matches) if match["negated"] else matches)
        at = match.end()
        joint = _JOINT.match(text, at)
        if at < len(text):
            if joint is None:
                raise _unreadable(f"between clauses stand AND, OR or a space, not {shown(text[at:])}; fields are", at)
            joints.add((joint[1] or "AND").upper())
            at = joint.end()
    if len(joints) > 1:
        raise invalid("query", "A query combines its clauses with AND or with OR, not with both.")
    if len(clauses) > CLAUSES_MAX:
        raise invalid("query", f"A query has at most {CLAUSES_MAX} clauses, and this has {len(clauses)}.")
    together = any if joints == {"OR"} else all
    return lambda one: together(matches(one) for matches in clauses)


def _clause_of(match: re.Match[str]) -> _Clause:
    value = match["value"]
    key = None if match["key"] is None else _unquoted(match["key"])
    return _Clause(match["field"], key, match["operator"], None if value == "null" else _unquoted(value))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in ("'", '"') else text


def _negated(matches: Matches) -> Matches:
    return lambda one: not matches(one)


def _matcher(clause: _Clause) -> Matches:
    field, key = clause.field, clause.key
    if (key is not None) != (field == "metadata"):
        raise _unreadable(f"field {shown(field)} is written wrongly: fields are", 0)
    if key is not None:
        return _text_matcher(clause, lambda one: one.metadata.get(key), contains=False)
    if field in _TEXTS:
        return _text_matcher(clause, _TEXTS[field], contains=True)
    if field in _WORDS:
        return _text_matcher(clause, _WORDS[field], contains=False)
    if field in _NUMBERS:
        return _number_matcher(clause, _NUMBERS[field])
    raise _unreadable(f"there is no field {shown(field)}: fields are", 0)


def _text_matcher(clause: _Clause, of: Callable[[Product], str | None], *, contains: bool) -> Matches:
    allowed = (":", "~") if contains else (":",)
    if clause.operator not in allowed or (clause.operator == "~" and clause.value is None):
        raise invalid("query", f"{clause.field} is compared with {' or '.join(allowed)}, not with {clause.operator}.")
    if clause.value is None:
        return lambda one: of(one) is None
    wanted = clause.value.casefold()
    if clause.operator == ":":
        return lambda one: (of(one) or "").casefold() == wanted and of(one) is not None
    if len(wanted) < CONTAINED_CHARS_MIN:
        raise invalid("query", f"{clause.field}~ needs at least {CONTAINED_CHARS_MIN} characters to look for.")
    return lambda one: wanted in (of(one) or "").casefold()


def _number_matcher(clause: _Clause, of: Callable[[Product], int]) -> Matches:
    if clause.operator not in _COMPARE or clause.value is None or not _NUMBER.fullmatch(clause.value):
        said = f"{clause.field} is compared with a whole number by : > >= < or <=, as in {clause.field}>1700000000."
        raise invalid("query", said)
    compare, bound = _COMPARE[clause.operator], int(clause.value)
    return lambda one: compare(of(one), bound)


def _unreadable(said: str, at: int) -> Problem:
    return invalid("query", f"The query cannot be read at character {at + 1}: {said} {', '.join(FIELDS)}.")
