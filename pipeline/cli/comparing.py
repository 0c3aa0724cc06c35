"""What two generations have otherwise, for people: whose usage, by how much, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from pipeline.cli.answers import UNBROKEN_WIDTH
from pipeline.clickhouse.windows import moment_text
from pipeline.domain.values import value_text

if TYPE_CHECKING:
    from pipeline.replay.comparison import Comparison

USAGES_SHOWN = 20
TALLIES_SHOWN = 10


def write(found: Comparison) -> None:
    """To standard output."""
    before, after = found.before.number, found.after.number
    if found.moving:
        typer.echo(f"{found.moving:,} tallies kept changing and could not be compared")
    if found.equal:
        typer.echo(f"generation {after} equals generation {before}: {found.tallies:,} tallies, digit for digit")
        return
    typer.echo(
        f"generation {after} differs from generation {before} in {found.differing:,} of {found.tallies:,} tallies"
    )
    _write_usages(found)
    _write_tallies(found)
    if found.same_rules:
        typer.echo("Both have the same rules, so one of the two is wrong: `meterline audit` tells which.")
    else:
        typer.echo(f"Their rules differ:\n  generation {before}: {found.before.fold}")
        typer.echo(f"  generation {after}: {found.after.fold}")
    if found.dispositions:
        typer.echo("What became of records, before and after:")
    for old, new, records in found.dispositions:
        typer.echo(f"  {old or 'counted'} -> {new or 'counted'}: {records:,}")


def _write_usages(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    usages = found.by_usage()
    if not usages:
        return
    table = Table(
        "event_name", "customer", "before", "after", "events before", "after", "tallies", box=None, pad_edge=False
    )
    for event_name, customer, before, after, tallies in usages[:USAGES_SHOWN]:
        sums = value_text(before.total), value_text(after.total)
        table.add_row(event_name, customer, *sums, f"{before.events:,}", f"{after.events:,}", f"{tallies:,}")
    width = None if sys.stdout.isatty() else UNBROKEN_WIDTH
    Console(soft_wrap=True, highlight=False, markup=False, width=width).print(table)
    if len(usages) > USAGES_SHOWN:
        typer.echo(f"... and {len(usages) - USAGES_SHOWN:,} more")


def _write_tallies(found: Comparison) -> None:
    """The minutes themselves, for a start."""
    for key, before, after in sorted(found.differences)[:TALLIES_SHOWN]:
        where = " ".join(f"{name}={value}" for name, value in key.dimensions)
        mode = "" if key.livemode else " (test mode)"
        window = moment_text(key.window_start_ms, "UTC")
        typer.echo(
            f"  {window} {key.event_name} of {key.customer}{mode} {where} in partition {key.shard}:"
            f" {value_text(before.total)} in {before.events:,} events -> {value_text(after.total)} in {after.events:,}"
        )
