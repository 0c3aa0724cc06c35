"""What the demo prints at the end: the table, the proof, and the commands to look further."""

from __future__ import annotations

import calendar
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.demo.flights import EVENT_NAME, TIME_ZONE, Flight
from pipeline.demo.oracle import Cell, Difference, Figures
from pipeline.domain.values import value_text
from pipeline.settings import Settings

MONTHS_BY_WIDTH = ((160, 12), (104, 6), (0, 4))
"""From this terminal width on, so many months stand side by side."""
SHOWN_MAX = 20


def table(found: dict[Cell, Figures], names: dict[str, str]) -> str:
    """Miles per carrier and month, in as many parts as the terminal is narrow."""
    width = shutil.get_terminal_size((110, 24)).columns
    step = next(months for least, months in MONTHS_BY_WIDTH if width >= least)
    console = Console(width=max(width, 80), highlight=False, force_terminal=sys.stdout.isatty())
    with console.capture() as captured:
        for first in range(1, 13, step):
            console.print(_part(found, names, range(first, first + step)))
    return captured.get()


def _part(found: dict[Cell, Figures], names: dict[str, str], months: range) -> Table:
    span = f"{calendar.month_name[months[0]]} to {calendar.month_name[months[-1]]}"
    part = Table(
        title=f"Miles flown from New York, {span} 2013", title_justify="left", show_footer=True, box=box.SIMPLE_HEAD,
        padding=(0, 0), pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    part.add_column("airline", footer="all", no_wrap=True)
    columns = [(calendar.month_abbr[month], {month}) for month in months]
    if 12 in months:
        columns.append(("year", set(range(1, 13))))
    for title, its in columns:
        part.add_column(title, _miles(_total(found, its)), justify="right", no_wrap=True, min_width=10)
    for carrier in sorted({carrier for carrier, _ in found}):
        part.add_row(
            f"{carrier} {_short(names.get(carrier, ''))}", *(_miles(_total(found, its, carrier)) for _, its in columns)
        )
    return part


def _total(found: dict[Cell, Figures], months: set[int], carrier: str | None = None) -> int:
    return sum(figures.miles for (its, month), figures in found.items() if month in months and carrier in (None, its))


def _miles(scaled: int) -> str:
    whole, point, fraction = value_text(scaled).partition(".")
    return f"{int(whole):,}{point}{fraction}"


def _short(name: str) -> str:
    return name.removesuffix(" Inc.").removesuffix(" Co.").removesuffix(" Corporation")[:19]


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def proof(expected: dict[Cell, Figures], wrong: list[Difference]) -> str:
    """Whether ClickHouse equals the plain computation, cell by cell."""
    if not wrong:
        flights = sum(figures.flights for figures in expected.values())
        miles = sum(figures.miles for figures in expected.values())
        carriers = len({carrier for carrier, _ in expected})
        return (
            f"✓ {_miles(miles)} miles on {flights:,} departures of {carriers} airlines, in {len(expected)} cells:\n"
            "  ClickHouse equals a plain sum over the CSV file, digit for digit"
        )
    differ = "1 cell differs" if len(wrong) == 1 else f"{len(wrong)} cells differ"
    lines = [f"✗ {differ} from a plain sum over the CSV file:"]
    lines += [
        f"  {carrier} {calendar.month_abbr[month]}: expected {expected.flights:,} departures and "
        f"{value_text(expected.miles)} miles, found {found.flights:,} and {value_text(found.miles)}"
        for (carrier, month), expected, found in wrong[:SHOWN_MAX]
    ]
    if len(wrong) > SHOWN_MAX:
        lines.append(f"  ... and {len(wrong) - SHOWN_MAX} more")
    lines.append(f"Usage called {EVENT_NAME} that came from elsewhere also makes a difference.")
    return "\n".join(lines)


def accounts(fates: Counter[tuple[str, str]], appended: int, counted: int, early: int) -> tuple[bool, str]:
    """Whether every event that was appended has exactly one fate, and how many have which."""
    duplicates = fates["event", "duplicate"]
    cancelled = fates["event", "cancelled"]
    balanced = appended == counted + cancelled + duplicates
    return balanced, (
        f"{_mark(balanced)} {appended:,} events in the journal = {counted:,} counted + {cancelled:,} cancelled "
        f"+ {duplicates:,} duplicates ignored\n"
        f"  cancelled: flights that never departed; {early:,} of them were taken back before their event came\n"
        "  duplicates: events that a producer sent again, in this run of the demo or an earlier one"
    )


def further(settings: Settings, example: Flight, *, own_stack: bool, command: str) -> str:
    """Commands that a reader can paste; of another deployment than the laptop's only what is true of any."""
    meterline = command or (_command() if own_stack else "meterline")
    identifier = shlex.quote(example.event.identifier)
    anywhere = (
        "",
        "The stack keeps running. Look further:",
        f"  {meterline} query {EVENT_NAME} --customer UA --window month --zone {TIME_ZONE}",
        f"  {meterline} explain {identifier}",
        f"  {meterline} tail dispositions --from beginning -n 5",
        f"  {meterline} status",
    )
    if not own_stack:
        return "\n".join(anywhere)
    sql = (
        "SELECT customer, window_start, sum, count FROM meter_event_summaries("
        f"livemode = true, event_name = '{EVENT_NAME}', customers = ['UA', 'DL'], by_customer = true, "
        "start = '2013-07-01 04:00:00', end = '2013-09-01 04:00:00', "
        f"window = 'month', zone = '{TIME_ZONE}', group_by = [], filter = map()) FORMAT PrettyCompact"
    )
    return "\n".join(
        (
            *anywhere,
            f"  curl '{settings.clickhouse}/?database={settings.namespace}' --data-binary \"{sql}\"",
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
