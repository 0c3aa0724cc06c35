"""Commands that ask: ``query`` and ``explain``; and ``clickhouse migrate``, which prepares the tables they ask."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import wiring
from pipeline.clickhouse.windows import Unit, moment_text
from pipeline.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from rich.status import Status

    from pipeline.clickhouse.queries import MisalignedTime
    from pipeline.clickhouse.summaries import Summary
    from pipeline.domain.catalog import Meter
    from pipeline.settings import Settings


class AnswerFormat(enum.StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


clickhouse = typer.Typer(no_args_is_help=True, help="Prepare the ClickHouse tables of the namespace.")


def query(
    event_name: Annotated[str, typer.Argument(help="Whose usage: the event name.")],
    customers: Annotated[
        list[str] | None, typer.Option("--customer", "-c", metavar="NAME", help="Only this customer; repeatable.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on; default: from the beginning.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Until before then; default: to the end.")] = None,
    window: Annotated[Unit, typer.Option("--window", "-w", help="One sum for each of these.")] = Unit.NONE,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Whose clocks, as Europe/Berlin.")] = "UTC",
    aggregations: Annotated[
        list[str] | None,
        typer.Option(
            "--aggregation", "-a", metavar="NAME", help="sum, count, min, max, avg, last, latest; repeatable."
        ),
    ] = None,
    per_customer: Annotated[bool, typer.Option("--per-customer", help="One row for each customer.")] = False,
    group_by: Annotated[
        list[str] | None, typer.Option("--group-by", "-g", metavar="DIMENSION", help="One row for each value.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="DIMENSION=VALUE", help="Only these; repeated, one of the values will do."),
    ] = None,
    answer_format: Annotated[
        AnswerFormat, typer.Option("--format", "-f", help="How to write it.")
    ] = AnswerFormat.TABLE,
    test: Annotated[bool, typer.Option("--test", help="Test data (livemode false).")] = False,
) -> None:
    """Ask for usage: exact sums per window, customer and dimension.

    The range is half-open: --start is in it, --end is not. Both begin a window
    (a minute, where there are no windows). Times without an offset are by the
    clocks of --zone, and parts may be left out: 2026-01 is its first midnight.
    A day on which the clocks change has 23 or 25 hours; windows without usage
    are left out. Values are exact decimals, also in JSON, where they are text.

    \b
    avg      the exact mean, rounded to 12 digits, halves to the even digit
    last     the value of the latest timestamp
    latest   the value that arrived last

    \b
    Examples:
      meterline query api_calls --start 2026-01 --end 2026-02
      meterline query api_calls -c cus_1 --window day --zone Europe/Berlin
      meterline query api_calls --per-customer --window month -a sum -a max
      meterline query api_calls --group-by region --where path=/v1 --where path=/v2 -f json
    """
    from rich.console import Console

    from pipeline.cli import answers
    from pipeline.clickhouse.connection import connect, translated
    from pipeline.clickhouse.queries import TIME_MAX_MS, TIME_MIN_MS, MisalignedTime, SummaryQuery
    from pipeline.clickhouse.summaries import summaries

    try:
        question = SummaryQuery(
            event_name,
            livemode=not test,
            start_ms=_moment("--start", start, zone, TIME_MIN_MS),
            end_ms=_moment("--end", end, zone, TIME_MAX_MS),
            customers=tuple(customers or ()),
            per_customer=per_customer,
            window=window,
            zone=zone,
            group_by=tuple(dict.fromkeys(group_by or ())),
            filters=_filters(where or []),
            aggregations=tuple(dict.fromkeys(aggregations or ("sum", "count"))),
        )
    except MisalignedTime as error:
        raise _aligned_hint(error, zone) from error
    server = wiring.clickhouse(wiring.load_settings())
    with translated(server), Console(stderr=True).status("Asking ClickHouse") as waiting:
        answers.write(answer_format.value, question, _while_waiting(waiting, summaries(connect(server), question)))


def _while_waiting(waiting: Status, answer: Iterable[Summary]) -> Iterator[Summary]:
    """The same rows; the first one ends the waiting."""
    for summary in answer:
        waiting.stop()
        yield summary


def _moment(option: str, text: str | None, zone: str, otherwise: int) -> int:
    from pipeline.clickhouse.windows import moment_of

    if text is None:
        return otherwise
    try:
        return moment_of(text, zone)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}; parts may be left out, as in 2026-01") from error


def _filters(where: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    accepted: dict[str, list[str]] = {}
    for text in where:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--where {text!r}: write DIMENSION=VALUE")
        accepted.setdefault(name, []).append(value)
    return tuple((name, tuple(values)) for name, values in accepted.items())


def _aligned_hint(error: MisalignedTime, zone: str) -> UsageError:
    option = {"start_ms": "--start", "end_ms": "--end"}[error.param]
    said, before, after = (moment_text(ms, zone) for ms in (error.moment_ms, *error.window))
    return UsageError(f"{option} {said} lies inside a {error.unit}: {before} and {after} do not")


def explain(
    identifier: Annotated[str | None, typer.Argument(help="The identifier of a meter event.")] = None,
    event_name: Annotated[str | None, typer.Option(metavar="NAME", help="Only under this event name.")] = None,
    meter: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what this meter reads, in place of --event-name.")
    ] = None,
    customer: Annotated[
        str | None, typer.Option("--customer", "-c", metavar="NAME", help="Of a sum: whose usage.")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Of a sum: from then on.")] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Of a sum: until before then.")] = None,
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Whose clocks, as Europe/Berlin.")] = "UTC",
    answer_format: Annotated[
        AnswerFormat, typer.Option("--format", "-f", help="How to write it; csv: of a sum.")
    ] = AnswerFormat.TABLE,
    test: Annotated[bool, typer.Option("--test", help="Test data (livemode false).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As --format json.")] = False,
) -> None:
    """Why was it counted, or not? Every decision about one identifier, or one sum.

    With an IDENTIFIER: each line begins with the partition:offset of the
    journal record. Exit code 1 when nothing is known of the identifier, or not
    everything yet.

    With --event-name (or --meter) and --customer: every event of the range, what became of
    it, and the sum made again of those that count. Exit code 1 when that is not
    what `meterline query` answers for the same range.

    \b
    Examples:
      meterline explain 2013-01-31-UA-1545-EWR
      meterline explain a-1 --event-name api_calls --json
      meterline explain --event-name api_calls -c cus_1 --start 2026-01 --end 2026-02
    """
    if as_json:
        answer_format = AnswerFormat.JSON
    if meter is not None:
        if event_name is not None or test:
            raise UsageError("a meter says its event name and mode: leave --event-name and --test out")
        event_name, test = _read_by(meter)
    if identifier is None:
        if event_name is None or customer is None:
            raise UsageError("say which event (IDENTIFIER), or which sum (--event-name or --meter, and --customer)")
        _explain_number(event_name, customer, start, end, zone, answer_format, livemode=not test)
    elif customer is not None or start is not None or end is not None or answer_format is AnswerFormat.CSV:
        raise UsageError("--customer, --start, --end and csv are for sums: leave the identifier out")
    else:
        _explain_identifier(identifier, event_name, livemode=not test, as_json=answer_format is AnswerFormat.JSON)


def _read_by(meter_id: str) -> tuple[str, bool]:
    """(event name, whether in test mode) of what a meter reads. Raises UsageError when there is no such meter."""
    import asyncio

    async def found() -> Meter | None:
        async with wiring.catalog_session(wiring.load_settings()) as catalog:
            return catalog.meter(True, meter_id) or catalog.meter(False, meter_id)

    meter = asyncio.run(found())
    if meter is None:
        raise UsageError(f"there is no meter {meter_id!r}")
    return meter.event_name, not meter.livemode


def _explain_number(
    event_name: str,
    customer: str,
    start: str | None,
    end: str | None,
    zone: str,
    answer_format: AnswerFormat,
    *,
    livemode: bool,
) -> None:
    from pipeline.cli import explanation, explanation_number
    from pipeline.clickhouse.connection import connect, translated
    from pipeline.clickhouse.explanation_number import explain_number, number_query
    from pipeline.clickhouse.queries import TIME_MAX_MS, TIME_MIN_MS, MisalignedTime

    start_ms, end_ms = _moment("--start", start, zone, TIME_MIN_MS), _moment("--end", end, zone, TIME_MAX_MS)
    try:
        question = number_query(event_name, customer, start_ms, end_ms, livemode=livemode, zone=zone)
    except MisalignedTime as error:
        raise _aligned_hint(error, zone) from error
    settings = wiring.load_settings()
    server = wiring.clickhouse(settings)
    late = explanation.behind(settings)  # before the question: what is behind now may have come when it is answered
    with translated(server):
        found = explain_number(connect(server), question)
    explanation_number.write(answer_format.value, found, late, event_log=settings.event_log)
    if not found.is_equal:
        raise typer.Exit(1)


def _explain_identifier(identifier: str, event_name: str | None, *, livemode: bool, as_json: bool) -> None:
    from pipeline.cli import explanation
    from pipeline.clickhouse.connection import connect, translated
    from pipeline.clickhouse.explanation import explain as ask

    settings = wiring.load_settings()
    server = wiring.clickhouse(settings)
    late = explanation.behind(settings)  # before the question, as for a sum
    with translated(server):
        found = ask(connect(server), identifier, livemode=livemode, event_name=event_name)
    explanation.write(found, late, event_log=settings.event_log, as_json=as_json)
    if not found.complete or late.records:
        raise typer.Exit(1)


@clickhouse.command()
def migrate() -> None:
    """Create the database and its tables, and bring them up to date.

    Safe to run at any time, again and again, and while everything runs.

    \b
    Example:  METERLINE_CLICKHOUSE=http://clickhouse:8123 meterline clickhouse migrate
    """
    from pipeline.clickhouse.migrations import migrate as apply

    settings = wiring.load_settings()
    server = wiring.clickhouse(settings)
    applied = []
    for migration in apply(server):
        applied.append(migration.number)
        typer.echo(f"applied {migration.number:03d} {migration.name}")
    if not applied:
        typer.echo(f"database {server.database} is up to date")
    if 1 in applied:
        _show_live(settings)


def _show_live(settings: Settings) -> None:
    """A new database shows generation 1; it may be an old namespace's, in which another one is live."""
    try:
        wiring.await_kafka(settings)
        ground = wiring.ground(settings)
        live = ground.ledger.read().live
    except Unavailable:
        return  # then nobody can write here either; what fills the tables again comes by `meterline rebuild`
    if live.number != 1:
        ground.restore_tables(live)
        ground.show(live)
        typer.echo(f"showing generation {live.number}; `meterline rebuild --tables` fills it")
