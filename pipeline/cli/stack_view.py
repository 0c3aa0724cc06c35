"""What ``meterline up`` shows while it runs: a table that changes on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.local.home import Home
    from pipeline.local.standing import Standing

REFRESHES_PER_S = 2


@contextlib.contextmanager
def view(home: Home) -> Iterator[Callable[[Standing], None]]:
    """Shows every standing that it is called with."""
    if not sys.stdout.isatty():
        yield _Lines()
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from pipeline.local.standing import Standing

    shown = Standing()

    def render() -> Group:
        waiting = f", waiting for {shown.waiting_for}" if shown.waiting_for else ""
        foot = "Ctrl-C stops everything; data stay." if shown.phase == "ready" else f"{shown.phase}{waiting}"
        problem = [Text(shown.problem, style="red")] if shown.problem else []
        return Group(Text(f"the stack in {home.path}"), programs_table(shown), *problem, Text(foot))

    def show(standing: Standing) -> None:
        nonlocal shown
        shown = standing

    with Live(get_renderable=render, console=Console(), refresh_per_second=REFRESHES_PER_S):
        yield show


class _Lines:
    """A line whenever something else is going on than before."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, standing: Standing) -> None:
        ended = [f"{row.name} ended ({row.last_exit})" for row in standing.programs if row.identity is None]
        parts = [standing.phase, standing.waiting_for, *ended, standing.problem]
        line = "; ".join(part for part in parts if part)
        if line != self._said:
            self._said = line
            typer.echo(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}")


def programs_table(standing: Standing) -> Table:
    """The programs of a stack with process id, time up and restarts."""
    from rich.table import Table

    table = Table("program", "pid", "up", "restarts", "log", box=None, pad_edge=False)
    for row in standing.programs:
        alive = row.identity if row.identity is not None and row.identity.alive() else None
        ended = "down" if row.last_exit is None else f"down, exit code {row.last_exit}"
        up = _span(alive.uptime_s()) if alive else ended
        table.add_row(row.name, str(alive.pid) if alive else "-", up, str(row.restarts), str(row.log))
    return table


def _span(seconds: float) -> str:
    """``4 s``, ``3 min``, ``5 h``, ``2 d``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
