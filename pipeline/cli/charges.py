"""``meterline charges``: what a customer's usage costs, with the whole computation."""

from __future__ import annotations

import enum
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import wiring
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.domain.catalog import Meter, Plan
    from pipeline.settings import Settings


class ChargesFormat(enum.StrEnum):
    """How charges are written."""

    TABLE = "table"
    JSON = "json"


def charges(
    plan: Annotated[str, typer.Argument(help="The id of a plan.")],
    customer: Annotated[str, typer.Option("--customer", "-c", metavar="NAME", help="Whose usage.")],
    start: Annotated[str, typer.Option(metavar="TIME", help="From then on.")],
    end: Annotated[str, typer.Option(metavar="TIME", help="Until before then.")],
    quantity: Annotated[
        int | None, typer.Option(min=0, max=10**12, help="Of a licensed plan: how many; default: 1.")
    ] = None,
    anchor: Annotated[
        str | None, typer.Option(metavar="TIME", help="When a billing cycle begins; default: --start.")
    ] = None,
    answer_format: Annotated[
        ChargesFormat, typer.Option("--format", "-f", help="How to write it.")
    ] = ChargesFormat.TABLE,
    test: Annotated[bool, typer.Option("--test", help="Test data (livemode false).")] = False,
) -> None:
    """What does a customer's usage cost? Every billing cycle, line by line.

    The range is half-open and in UTC; parts of times may be left out, as in
    2026-01. Nothing is rounded but the amount of each line: half up, to what
    the currency can charge. GET /meterline/v1/plans/{id}/charges answers the
    same.

    \b
    Examples:
      meterline charges plan_gold -c cus_1 --start 2026-01 --end 2026-04
      meterline charges plan_seats -c cus_1 --quantity 12 --start 2026 --end 2027 -f json
    """
    given: dict[str, Any] = {"customer": customer, "start_time": _moment("--start", start)}
    given["end_time"] = _moment("--end", end)
    if anchor is not None:
        given["anchor"] = _moment("--anchor", anchor)
    if quantity is not None:
        given["quantity"] = quantity
    body = _charged(wiring.load_settings(), plan, given, livemode=not test)
    if answer_format is ChargesFormat.JSON:
        sys.stdout.write(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
    else:
        _write_table(body)


def _moment(option: str, text: str) -> int:
    from pipeline.clickhouse.windows import moment_of

    try:
        return moment_of(text, "UTC")
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}; parts may be left out, as in 2026-01") from error


def _charged(settings: Settings, plan_id: str, given: dict[str, Any], *, livemode: bool) -> dict[str, Any]:
    import asyncio

    from pipeline.clickhouse.connection import connect, translated
    from pipeline.clickhouse.summaries import few_summaries
    from pipeline.gateway.charges import asked_of, charges_body, cycles_of, usage_question, usages_of
    from pipeline.gateway.problems import Problem

    plan, meter = asyncio.run(_found(settings, plan_id, livemode=livemode))
    try:
        asked = asked_of(plan, given)
        found = cycles_of(plan, asked)
        if meter is None:
            return charges_body(plan, asked, found, None)
        wanted = usage_question(meter, asked, found)
    except Problem as problem:
        raise UsageError(problem.message) from problem
    server = wiring.clickhouse(settings)
    with translated(server), connect(server) as client:
        return charges_body(plan, asked, found, usages_of(meter, found, few_summaries(client, wanted)))


async def _found(settings: Settings, plan_id: str, *, livemode: bool) -> tuple[Plan, Meter | None]:
    async with wiring.catalog_session(settings) as catalog:
        plan = catalog.plan(livemode, plan_id)
        if plan is None:
            mode = "live" if livemode else "test"
            raise UsageError(f"there is no plan {plan_id!r} in {mode} mode; --test asks in test mode")
        return plan, None if plan.meter is None else catalog.meter(livemode, plan.meter)


def _write_table(body: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pipeline.domain.times import timestamp_text

    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("cycle", "total", overflow="fold")
    table.add_column("", overflow="fold")
    table.add_column("computed", overflow="fold")
    table.add_column("amount", body["text"], justify="right", no_wrap=True)
    for cycle in body["cycles"]:
        first, last = (timestamp_text(cycle[name] * 1_000)[:16] for name in ("start_time", "end_time"))
        table.add_row(f"{first} – {last}", "; ".join(cycle["steps"]), "", cycle["text"], end_section=False)
        if cycle["note"]:
            table.add_row("", cycle["note"], "", "")
        for line in cycle["lines"]:
            table.add_row("", f"  {line['description']}", line["text"], "")
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
