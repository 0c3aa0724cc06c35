"""Commands about generations: ``rebuild``, ``generations list|rollback|drop``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import wiring
from pipeline.cli.progress import progress
from pipeline.errors import MeterlineError

if TYPE_CHECKING:
    from pipeline.domain.generations import Generation
    from pipeline.replay.comparison import Comparison
    from pipeline.replay.crew import Crew
    from pipeline.settings import Settings

generations = typer.Typer(no_args_is_help=True, help="List, roll back and drop generations of what is derived.")

ProcessesOption = Annotated[
    int | None, typer.Option(min=1, max=64, help="Workers that fold. Default: as many as this machine has cores.")
]
_COMMAND = (sys.executable, "-m", "pipeline.cli")
_HEADS = ("generation", "state", "since", "journal", "partitions", "fold")


def rebuild(
    processes: ProcessesOption = None,
    accept_differences: Annotated[
        bool, typer.Option("--accept-differences", help="Switch over although the generations differ.")
    ] = False,
    tables: Annotated[
        bool, typer.Option("--tables", help="Only fill ClickHouse's tables again, from the topics as they are.")
    ] = False,
) -> None:
    """Build all that is derived anew from the journal, and switch over.

    Beside the live generation, while traffic goes on: worker state, summaries
    and tables, with the rules of the METERLINE_* settings in force. Then both
    are compared, tally by tally, and the views, workers and sinks go over
    without a dip. The old generation stays: `meterline generations rollback`
    goes back to it, `meterline generations drop N` deletes it.

    Killed at any moment, it goes on when it is given again. Where the
    generations differ it shows where, asks, and otherwise leaves the live one
    alone (exit code 1).

    \b
    Examples:
      meterline rebuild
      METERLINE_CANCEL_WINDOW=24h meterline rebuild --processes 8
      meterline rebuild --tables
    """
    from pipeline.replay import rebuild as steps

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    ground, watch = wiring.ground(settings), Watching(accept_differences)
    crew_of = muster(settings, processes)
    if tables:
        _fill_tables(settings, watch)
        if later := steps.unfinished(ground):
            typer.echo(f"but readers do not see generation {later.number} yet: `meterline rebuild` finishes the switch")
        return
    one = steps.unfinished(ground)
    if one is not None:
        typer.echo(f"generation {one.number} is live already, and not shown yet: going on from there", err=True)
        with crew_of(one) as crew:
            steps.switch(ground, one, crew, watch)
    else:
        one = steps.begin(ground, settings.rules.version, watch, accept=accept_differences)
        with crew_of(one) as crew:
            steps.build(ground, one, crew, watch)
    clear(settings)
    if ground.filling_wanted():
        _fill_tables(settings, watch)  # what belongs to no generation was not built: the log of events
    typer.echo(f"generation {one.number} is live")


@generations.command("list")
def show(as_json: Annotated[bool, typer.Option("--json", help="A JSON object.")] = False) -> None:
    """Show every generation, and which one is live.

    \b
    Example:
      meterline generations list
    """
    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    found = wiring.ledger(settings).read()
    rows = [
        (one.number, one.state, one.at_ms, one.journal, one.partitions, one.fold) for one in found.by_number.values()
    ]
    if as_json:
        names = ("number", "state", "at_ms", "journal", "partitions", "fold")
        typer.echo(json.dumps({"generations": [dict(zip(names, row, strict=True)) for row in rows]}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    from pipeline.cli.answers import UNBROKEN_WIDTH

    table = Table(*_HEADS, box=None, pad_edge=False)
    for number, state, at_ms, journal, partitions, fold in rows:
        at = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_ms else "-"
        table.add_row(*(str(cell) for cell in (number, state, at, journal, partitions or "-", fold or "-")))
    Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else UNBROKEN_WIDTH).print(table)


@generations.command()
def rollback(processes: ProcessesOption = None) -> None:
    """Go back to the generation that was live before.

    It catches up with the head first. What it was built with counts again:
    its rules, its tables. Killed on the way, it goes on when it is given again;
    but look at `meterline generations list` first: once it is live and shown,
    another rollback goes the other way.

    \b
    Example:
      meterline generations rollback
    """
    from pipeline.replay import rebuild as steps

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    ground, watch = wiring.ground(settings), Watching(accept=True)
    one = steps.unfinished(ground) or steps.former(ground)
    with muster(settings, processes)(one) as crew:
        steps.catch_up(ground, one, crew, watch)
        steps.switch(ground, one, crew, watch)
    clear(settings)
    typer.echo(f"generation {one.number} is live")


@generations.command()
def drop(
    number: Annotated[int, typer.Argument(min=1, help="Which; never the live one.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a generation: its topics, tables, groups and snapshots.

    The journal stays, and so does the live generation.

    \b
    Example:
      meterline generations drop 1 --yes
    """
    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    if not yes:
        typer.confirm(f"Delete generation {number} of namespace {settings.namespace}?", abort=True)
    wiring.ground(settings).drop(number)
    wiring.delete_snapshots(settings, number)
    shutil.rmtree(_home(settings), ignore_errors=True)
    typer.echo(f"dropped generation {number}")


def _fill_tables(settings: Settings, watch: Watching) -> None:
    """Copy the topics once more, from their start, beside the regular sinks."""
    from pipeline.replay.crew import Crew
    from pipeline.replay.tables import fill

    def sink_of(one: Generation, group: str) -> Crew:
        return Crew(_COMMAND, _environ(), _home(settings), one.number, 0, group=group)

    fill(wiring.ground(settings), sink_of, watch, event_log=settings.event_log)
    clear(settings)
    typer.echo("ClickHouse has everything that the topics have")


def muster(settings: Settings, processes: int | None) -> Callable[[Generation], Crew]:
    from pipeline.replay.crew import Crew

    def muster(one: Generation) -> Crew:
        workers = min(processes or os.cpu_count() or 1, one.partitions)
        reach = wiring.snapshot_cursors(settings, one.number)
        return Crew(_COMMAND, _environ(), _home(settings), one.number, workers, reach)

    return muster


_CREW_GATHERS = {"METERLINE_FLUSH_EVERY": "1s", "METERLINE_SINK_EVERY": "1s"}
"""Nobody waits for a single event of a crew: a busy tally is published and copied once in this time, where the settings
say nothing else."""


def _environ() -> dict[str, str]:
    return {**_CREW_GATHERS, **os.environ, **wiring.settings_environ()}


def _home(settings: Settings) -> Path:
    """Where the crew keeps its state and logs: beside the stores of the stack on this machine, if it is that one's."""
    from pipeline.local.home import Home

    place = Home.at(wiring.home_of(os.environ))
    mine = settings.kafka == place.read_env().get("METERLINE_KAFKA") and "METERLINE_STATE" not in os.environ
    return (place.state if mine else Path(str(settings.state).replace("{slot}", "all"))) / "rebuild"


def clear(settings: Settings) -> None:
    """The crew's state is of no more use: the regular workers have their own."""
    shutil.rmtree(_home(settings), ignore_errors=True)


class Watching:
    """Shows a bar per step."""

    def __init__(self, accept: bool) -> None:
        self._accept = accept

    @contextlib.contextmanager
    def step(self, description: str, measured: bool = False) -> Iterator[Callable[[int, int, str], None]]:
        with progress(description, 1 if measured else None) as bar:

            def tell(done: int, total: int, note: str) -> None:
                bar(done, note, total or None)

            began_s = time.monotonic()
            yield tell
        if not sys.stderr.isatty():
            typer.echo(f"{description}: {time.monotonic() - began_s:.1f} s", err=True)

    def go_without(self, error: MeterlineError) -> bool:
        """Whether to switch over although the generations cannot be compared."""
        typer.echo(f"not compared: {error}", err=True)
        return self._accept

    def agree(self, comparison: Comparison) -> bool:
        from pipeline.cli.comparing import write

        write(comparison)
        if comparison.equal:
            return True
        if self._accept:
            return True
        if not sys.stdin.isatty():
            return False
        return typer.confirm(f"Switch over to generation {comparison.after.number} all the same?")
