"""Plots as SVG text: lines over time, marks in lanes, bars. Pure: numbers in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT = 1000, 90, 20
COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#64748b", "#dc2626", "#0891b2")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#334155}.head{font-weight:600}.small{font-size:10px}"
    ".axis{stroke:#cbd5e1}.line{fill:none;stroke-width:1.2}.back{fill:#fff}"
)


class Line(NamedTuple):
    """One series: (x, y) in its own units."""

    name: str
    points: Sequence[tuple[float, float]]


class Mark(NamedTuple):
    """Something that lasted from ``begin`` to ``end``. ``strong``: drawn in its lane's colour, else pale."""

    begin: float
    end: float
    what: str
    strong: bool


class Panel(NamedTuple):
    """A part of the picture, below the one before."""

    svg: str
    height: int


def page(panels: Sequence[Panel], title: str) -> str:
    parts, top = [], 40
    for panel in panels:
        parts.append(f'<g transform="translate(0,{top})">{panel.svg}</g>')
        top += panel.height
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}">'
    back = f'<rect class="back" width="{WIDTH}" height="{top}"/>'
    words = f'<text class="head" x="{LEFT}" y="24">{escape(title)}</text>'
    return f"{head}<style>{STYLE}</style>{back}{words}{''.join(parts)}</svg>\n"


def lines(title: str, series: Sequence[Line], end: float, height: int = 130) -> Panel:
    """Over time, 0 to ``end`` seconds, from 0 up."""
    top = nice(max((y for one in series for _, y in one.points), default=1.0))
    scale_y = (height - 45) / top
    parts = [_head(title, series), _frame(end, height), *_levels(top, scale_y, height)]
    for number, one in enumerate(series):
        dots = " ".join(f"{_x(x, end):.1f},{height - 20 - y * scale_y:.1f}" for x, y in thinned(one.points))
        parts.append(f'<polyline class="line" stroke="{COLOURS[number % len(COLOURS)]}" points="{dots}"/>')
    return Panel("".join(parts), height + 10)


def lanes(title: str, rows: Sequence[tuple[str, Sequence[Mark]]], end: float) -> Panel:
    """One row for each kind, a mark for each event of it."""
    height = 22 * len(rows) + 45
    parts = [f'<text class="head" x="{LEFT}" y="12">{escape(title)}</text>', _frame(end, height)]
    for number, (name, marks) in enumerate(rows):
        y, colour = 24 + 22 * number, COLOURS[number % len(COLOURS)]
        parts.append(f'<text class="small" x="{LEFT - 6}" y="{y + 9}" text-anchor="end">{escape(name)}</text>')
        for mark in marks:
            x = _x(mark.begin, end)
            wide = max(1.2, _x(mark.end, end) - x)
            shade = 0.85 if mark.strong else 0.35
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="13" fill="{colour}" fill-opacity="{shade}">'
                f"<title>{escape(mark.what)}</title></rect>"
            )
    return Panel("".join(parts), height + 10)


def histogram(title: str, values: Sequence[float], colour: int, bins: int = 30, height: int = 110) -> Panel:
    """How often each length of time, in seconds, with its median and 99th percentile."""
    top = nice(max(values, default=1.0))
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(value / top * bins))] += 1
    most, wide = max([1, *counts]), (WIDTH - LEFT - RIGHT) / bins
    said = f"{title}: {len(values)}, p50 {percentile(values, 50):.1f} s, p99 {percentile(values, 99):.1f} s"
    parts = [f'<text class="head" x="{LEFT}" y="12">{escape(said)}</text>', _frame(top, height)]
    for number, count in enumerate(counts):
        tall = count / most * (height - 45)
        parts.append(
            f'<rect x="{LEFT + number * wide:.1f}" y="{height - 20 - tall:.1f}" width="{wide - 1:.1f}" '
            f'height="{tall:.1f}" fill="{COLOURS[colour % len(COLOURS)]}"/>'
        )
    return Panel("".join(parts), height + 10)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is no smaller than this share, in percent, of all; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share / 100 * len(ordered)) - 1)]


def nice(most: float) -> float:
    """A round number that is no smaller."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 3, 5, 10) if step * power >= most)


def thinned(points: Sequence[tuple[float, float]], most: int = 800) -> list[tuple[float, float]]:
    """No more points than can be seen: of each stretch the highest."""
    stretch = max(1, len(points) // most)
    return [max(points[at : at + stretch], key=lambda one: one[1]) for at in range(0, len(points), stretch)]


def _x(x: float, end: float) -> float:
    return LEFT + min(1.0, max(0.0, x / end)) * (WIDTH - LEFT - RIGHT)


def _head(title: str, series: Sequence[Line]) -> str:
    names = "".join(
        f'<tspan dx="14" fill="{COLOURS[number % len(COLOURS)]}">{escape(one.name)}</tspan>'
        for number, one in enumerate(series)
    )
    return f'<text class="head" x="{LEFT}" y="12">{escape(title)}{names}</text>'


def _frame(end: float, height: int) -> str:
    ticks = [end * part / 5 for part in range(6)]
    words = "".join(
        f'<text class="small" x="{_x(tick, end):.1f}" y="{height - 5}" text-anchor="middle">{tick:g} s</text>'
        for tick in (round(tick, 1 if end < 50 else 0) for tick in ticks)
    )
    return f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height - 20}" y2="{height - 20}"/>{words}'


def _levels(top: float, scale_y: float, height: int) -> list[str]:
    return [
        f'<text class="small" x="{LEFT - 6}" y="{height - 16 - level * scale_y:.1f}" text-anchor="end">'
        f"{level:,.0f}</text>"
        for level in (0.0, top / 2, top)
    ]
