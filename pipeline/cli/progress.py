"""Progress bars on the error stream, for people only: nothing is drawn where no terminal listens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

REFRESHES_PER_S = 5


class Step(Protocol):
    """One bar. Units are the caller's."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        """Say how much is done in all, a note that stands behind the bar, and a total that has become known."""


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Step]:
    """A bar from 0 to ``total``; with None it only shows that something goes on. It stays when it is done."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%" if total else ""),
        TimeElapsedColumn() if total is None else TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=REFRESHES_PER_S) as bars:
        task = bars.add_task(description, total=total, note="")

        def step(done: int, note: str = "", total: int | None = None) -> None:
            bars.update(task, completed=done, note=note, total=total)

        yield step
        if total is None:
            bars.update(task, total=1, completed=1)


def _silent(done: int, note: str = "", total: int | None = None) -> None:
    """Draws nothing."""
