"""What a benchmark found: figures, each beside the target it has to reach, as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RECORDS_PER_S = "records/s"
PER_CPU_S = "records per CPU-second"
MILLISECONDS = "ms"
MEGABYTES = "MB"
RATIO = "ratio"
COUNT = "count"


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The bound that a figure has to keep."""

    bound: float
    at_least: bool = True

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def at_most(bound: float) -> Target:
    return Target(bound, at_least=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    benchmark: str
    name: str
    value: float
    unit: str
    target: Target | None = None

    def as_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "benchmark": self.benchmark,
            "figure": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
        }
        if self.target is not None:
            entry["at_least" if self.target.at_least else "at_most"] = self.target.bound
            entry["reached"] = self.target.reached(self.value)
        return entry


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a benchmark returns: its figures, and the result that was found to be exact."""

    figures: list[Figure]
    exact: dict[str, int]
    """By what was compared: the number that the pipeline and the workload agree on. Values in units of 10^-12."""

    def as_json(self) -> dict[str, Any]:
        return {
            "exact": {what: str(number) for what, number in self.exact.items()},
            "figures": [figure.as_json() for figure in self.figures],
        }


def agreed(what: str, found: int, expected: int) -> dict[str, int]:
    """The entry of ``Outcome.exact`` of two numbers that have to be equal: a fast wrong result is no figure."""
    assert found == expected, f"{what}: {found}, but the workload has {expected}"
    return {what: found}


def print_table(figures: Iterable[Figure], console: Console) -> None:
    table = Table(title_justify="left", header_style="bold")
    for heading, justify in (
        ("benchmark", "left"),
        ("figure", "left"),
        ("measured", "right"),
        ("target", "right"),
        ("reached", "left"),
    ):
        table.add_column(heading, justify=justify, no_wrap=True)
    before = None
    for figure in figures:
        if before not in (None, figure.benchmark):
            table.add_section()
        named = "" if figure.benchmark == before else figure.benchmark
        before = figure.benchmark
        table.add_row(named, figure.name, shown(figure.value, figure.unit), *_judgement(figure))
    console.print(table)


def _judgement(figure: Figure) -> tuple[str, str]:
    if figure.target is None:
        return "", ""
    sign = "≥" if figure.target.at_least else "≤"
    verdict = "[green]yes[/]" if figure.target.reached(figure.value) else "[red]no[/]"
    return f"{sign} {shown(figure.target.bound, figure.unit)}", verdict


def shown(value: float, unit: str) -> str:
    """A figure for people: ratios with two digits, milliseconds with one, everything else whole."""
    if unit == RATIO:
        return f"{value:.2f}"
    if unit == MILLISECONDS:
        return f"{value:,.1f} ms"
    short = {RECORDS_PER_S: "/s", PER_CPU_S: "/CPU-s", MEGABYTES: " MB", COUNT: ""}[unit]
    return f"{value:,.0f}{short}"


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
