"""Breaking one place of a source file as a slip of the hand would: another comparison, a call or assignment less."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from typing import NamedTuple

_OTHER = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_SWAPPED = {"max": "min", "min": "max", "any": "all", "all": "any"}
_SAYS = ("log.", "super().__init__")
"""What begins a call that may be left out without harm, or that every object needs."""


class Change(NamedTuple):
    """``before`` stands at ``start`` of the file's bytes, in a line that is counted from 1."""

    start: int
    line: int
    before: str
    after: str

    def applied(self, source: str) -> str:
        raw = source.encode()
        end = self.start + len(self.before.encode())
        assert raw[self.start : end].decode() == self.before
        return (raw[: self.start] + self.after.encode() + raw[end:]).decode()


def changes_of(source: str) -> list[Change]:
    """All that can be changed in a Python file, each of which leaves a file that compiles."""
    lines = [0, *itertools.accumulate(len(line.encode()) for line in source.splitlines(keepends=True))]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.expr | ast.stmt):
            start, before = lines[node.lineno - 1] + node.col_offset, ast.get_source_segment(source, node) or ""
            found += [Change(start, node.lineno, before, after) for after in _broken(node, source)]
    return [change for change in found if _compiles(change.applied(source))]


def _broken(node: ast.AST, source: str) -> Iterator[str]:
    def text(part: ast.AST) -> str:
        return ast.get_source_segment(source, part) or ""

    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]):
            yield f"({text(left)} {_OTHER[type(operator)]} {text(right)})"
        case ast.BoolOp(op=operator, values=values):
            yield (
                "("
                + (" or " if isinstance(operator, ast.And) else " and ").join(f"({text(one)})" for one in values)
                + ")"
            )
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"({text(operand)})"
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=ast.Constant(value=1)):
            yield f"({text(left)})"
        case ast.Call(func=ast.Name(id=name), args=[_, *_]) if name in _SWAPPED:
            yield _SWAPPED[name] + text(node).removeprefix(name)
        case ast.Expr(value=ast.Call() | ast.Await()) if not text(node).startswith(_SAYS):
            yield "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.AugAssign():
            yield "pass"


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
