"""What the demo prints at the end: the table, the proof, and the commands to look further."""

from __future__ import annotations

import calendar
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.demo.flights import EVENT_NAME, TIME_ZONE, Flight
from pipeline.demo.oracle import NOTHING, Cell, Difference, Figures
from pipeline.domain.values import value_text
from pipeline.settings import Settings

WIDE_COLUMNS = 165
"""From this width on the twelve months stand side by side; else in two halves."""
SHOWN_MAX = 20


def table(found: dict[Cell, Figures], names: dict[str, str]) -> str:
    """Miles per carrier and month."""
    width = shutil.get_terminal_size((100, 24)).columns
    console = Console(width=max(width, 100), highlight=False, force_terminal=sys.stdout.isatty())
    halves = [range(1, 13)] if width >= WIDE_COLUMNS else [range(1, 7), range(7, 13)]
    with console.capture() as captured:
        for months in halves:
            console.print(_part(found, names, months))
    return captured.get()


def _part(found: dict[Cell, Figures], names: dict[str, str], months: range) -> Table:
    part = Table(
        title=f"Miles from New York, {calendar.month_abbr[months[0]]} to {calendar.month_abbr[months[-1]]} 2013",
        show_footer=True,
        title_justify="left",
    )
    part.add_column("airline", footer="all", no_wrap=True)
    for month in months:
        footer = _miles(sum(figures.miles for (_, its), figures in found.items() if its == month))
        part.add_column(calendar.month_abbr[month], footer=footer, justify="right", no_wrap=True)
    year = 12 in months
    if year:
        footer = _miles(sum(figures.miles for figures in found.values()))
        part.add_column("year", footer=footer, justify="right", no_wrap=True)
    for carrier in sorted({carrier for carrier, _ in found}):
        cells = [_miles(found.get((carrier, month), NOTHING).miles) for month in months]
        if year:
            cells.append(_miles(sum(figures.miles for (its, _), figures in found.items() if its == carrier)))
        part.add_row(f"{carrier} {_short(names.get(carrier, ''))}", *cells)
    return part


def _miles(scaled: int) -> str:
    return f"{int(value_text(scaled)):,}" if "." not in value_text(scaled) else value_text(scaled)


def _short(name: str) -> str:
    return name.removesuffix(" Inc.").removesuffix(" Co.").removesuffix(" Corporation")[:20]


def proof(expected: dict[Cell, Figures], wrong: list[Difference]) -> str:
    """Whether ClickHouse equals the plain computation, cell by cell."""
    if not wrong:
        flights = sum(figures.flights for figures in expected.values())
        miles = sum(figures.miles for figures in expected.values())
        carriers = len({carrier for carrier, _ in expected})
        return (
            f"✓ {flights:,} departures of {carriers} airlines, {_miles(miles)} miles, in {len(expected)} cells: "
            "equal, digit for digit, to a plain sum over the CSV file"
        )
    lines = [f"✗ {len(wrong)} cells differ from a plain sum over the CSV file:"]
    lines += [
        f"  {carrier} {calendar.month_abbr[month]}: expected {expected.flights:,} departures and "
        f"{value_text(expected.miles)} miles, found {found.flights:,} and {value_text(found.miles)}"
        for (carrier, month), expected, found in wrong[:SHOWN_MAX]
    ]
    if len(wrong) > SHOWN_MAX:
        lines.append(f"  ... and {len(wrong) - SHOWN_MAX} more")
    lines.append(f"Usage called {EVENT_NAME} that came from elsewhere also makes a difference.")
    return "\n".join(lines)


def exceptions(fates: Counter[tuple[str, str]], sent_twice: int, cancelled: int, early: int) -> str:
    """Duplicates ignored and cancellations applied, counted from the dispositions."""
    duplicates = fates["event", "duplicate"]
    taken_back = fates["event", "cancelled"]
    before = " (and those of earlier runs)" if duplicates > sent_twice else ""
    return (
        f"✓ {duplicates:,} duplicates ignored: {sent_twice:,} events were sent twice in this run{before}\n"
        f"✓ {taken_back:,} cancellations applied: {cancelled:,} flights never departed, and {early:,} of them were "
        "taken back before their event came"
    )


def further(settings: Settings, example: Flight) -> str:
    """Commands that a reader can paste."""
    meterline = _command()
    identifier = shlex.quote(example.event.identifier)
    sql = "SELECT customer, sum, count FROM meter_event_summaries(livemode = true, event_name = 'flight_miles', ...)"
    return "\n".join(
        (
            "",
            "The stack keeps running. Look further:",
            f"  {meterline} query {EVENT_NAME} --customer UA --window month --zone {TIME_ZONE}",
            f"  {meterline} explain {identifier}",
            f"  curl '{settings.clickhouse}/?database={settings.namespace}' --data-binary \"{sql}\"",
            f"  {meterline} tail dispositions --from beginning -n 5",
            f"  {meterline} status",
            "Stop it (its data stays):",
            f"  {meterline} down",
        )
    )


def _command() -> str:
    """How this person calls meterline: by name where the PATH has it, else by the path of this environment."""
    here = Path(sys.executable).parent / "meterline"
    if shutil.which("meterline") == str(here):
        return "meterline"
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)
