"""Commands that publish: ``emit`` usage and ``adjust`` it."""

from __future__ import annotations

import enum
import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline import wiring
from pipeline.errors import UsageError

FLUSH_TIMEOUT_S = 120.0


class FileFormat(enum.StrEnum):
    """How a file of usage is written."""

    JSONL = "jsonl"
    CSV = "csv"


def emit(
    file: Annotated[Path, typer.Argument(help="JSON lines or CSV; - reads from standard input.")] = Path("-"),
    file_format: Annotated[
        FileFormat | None, typer.Option("--format", help="Default: csv if the name ends in .csv or .tsv, else jsonl.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Which column is this field; {A}-{B} joins columns."),
    ] = None,
    constants: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=TEXT", help="The same text for every line.")
    ] = None,
    dimensions: Annotated[
        list[str] | None, typer.Option("--dimension", metavar="NAME[=COLUMN]", help="A column to group and filter by.")
    ] = None,
    delimiter: Annotated[str, typer.Option(help="Between CSV columns; `tab` for a tabulator.")] = ",",
    derive_identifiers: Annotated[
        bool, typer.Option("--derive-identifiers", help="Make identifiers for lines that have none (see above).")
    ] = False,
    test: Annotated[bool, typer.Option("--test", help="Test data: livemode false where a line does not say.")] = False,
    rejects: Annotated[
        Path | None, typer.Option("--rejects", metavar="FILE", help="Write every bad line there, with its reason.")
    ] = None,
) -> None:
    """Publish usage from a file, a line an event.

    Sending the same file again changes nothing, so after an interruption run
    the same command again. What makes it so is the identifier, the producer's
    unique name for an event. Lines that have none are bad lines, unless
    --derive-identifiers makes one from what the line says and how often this
    file has said the same before: then keep one file's lines in one file.

    \b
    A JSON line:
      {"identifier": "a-1", "event_name": "api_calls", "customer": "cus_1",
       "value": "2.5", "timestamp": "2026-01-31T17:05:00Z",
       "dimensions": {"region": "eu"}}
    value      digits, a point, a minus; never rounded (also as a JSON number)
    timestamp  with its zone, or milliseconds since 1970 as a whole number
    dimensions and livemode may be left out

    \b
    Examples:
      meterline emit usage.jsonl --rejects bad.jsonl
      zcat usage.jsonl.gz | meterline emit
      meterline emit calls.csv --map customer=account --map timestamp=at
          --map "identifier={host}-{request_id}" --set event_name=api_calls
          --set value=1 --dimension region --dimension path=url_path

    Bad lines are reported by number and reason and the good ones go on; the
    exit code is 1 then.
    """
    from pipeline.cli.emission import Emission
    from pipeline.cli.mapping import EventMapping, MappingOptions

    mapping = EventMapping(
        MappingOptions(
            columns=_pairs("--map", columns),
            constants=_pairs("--set", constants),
            dimensions=_pairs("--dimension", dimensions, alone=True),
            livemode=not test,
            derive=derive_identifiers,
        )
    )
    if len(delimiter := "\t" if delimiter == "tab" else delimiter) != 1:
        raise UsageError("--delimiter is one character, or the word tab")
    if file_format is None:
        file_format = FileFormat.CSV if file.suffix in (".csv", ".tsv") else FileFormat.JSONL
    emission = Emission(wiring.load_settings(), mapping, rejects)
    if emission.run(file, delimiter if file_format is FileFormat.CSV else None):
        raise typer.Exit(1)


def adjust(
    event_name: Annotated[str, typer.Argument(help="The event name of what is taken back.")],
    identifier: Annotated[str | None, typer.Option(help="Take back this one event.")] = None,
    start: Annotated[str | None, typer.Option(help="Take back a range: the first timestamp of it.")] = None,
    end: Annotated[str | None, typer.Option(help="The first timestamp after the range.")] = None,
    customer: Annotated[str | None, typer.Option(help="Of the range, only this customer's events.")] = None,
    adjustment_id: Annotated[
        str | None, typer.Option("--id", help="The adjustment's own unique name; else made from what it says.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Take back test data (livemode false).")] = False,
) -> None:
    """Take usage back: one event, or a range.

    A range takes back what was appended before the adjustment itself, and
    nothing that comes later. Saying the same again changes nothing, because
    the id is made from what is said; to take back a range once more, for
    events that came after, give it another --id.

    \b
    Examples:
      meterline adjust api_calls --identifier a-1
      meterline adjust api_calls --start 2026-01-01T00:00:00Z
          --end 2026-02-01T00:00:00Z --customer cus_1
    """
    from pipeline.domain.checks import check_cancellation
    from pipeline.domain.events import Adjustment, CancellationRange
    from pipeline.domain.times import timestamp_ms_of

    span = None
    if identifier is None:
        if start is None or end is None:
            raise UsageError("say what to take back: --identifier ID, or --start TIME --end TIME")
        try:
            span = CancellationRange(customer, timestamp_ms_of(start), timestamp_ms_of(end))
        except ValueError as error:
            raise UsageError(f"--start {start}, --end {end}: {error}") from error
        if span.start_ms >= span.end_ms:
            raise UsageError("--start must be before --end: the range is [start, end)")
    elif start is not None or end is not None or customer is not None:
        raise UsageError("give --identifier alone, or a range: --start TIME --end TIME, with or without --customer")
    said = json.dumps([event_name, not test, identifier, span])
    adjustment = Adjustment(
        adjustment_id or f"adj_{hashlib.sha256(said.encode()).hexdigest()[:32]}", event_name, not test, identifier, span
    )
    if reason := check_cancellation(adjustment, adjustment.id):
        raise UsageError(f"this adjustment would be rejected: {reason}")
    settings = wiring.load_settings()
    publisher = wiring.publisher(settings)
    publisher.publish(
        wiring.topics(settings).adjustments,
        adjustment.id.encode(),
        wiring.codec(settings).encode_adjustment(adjustment),
    )
    publisher.flush(FLUSH_TIMEOUT_S)
    typer.echo(f"{adjustment.id} is published")
    if identifier is not None:
        typer.echo(f"What became of it: meterline explain {identifier}", err=True)


def _pairs(option: str, given: list[str] | None, *, alone: bool = False) -> dict[str, str]:
    """``NAME=SOURCE`` arguments; with ``alone`` a NAME stands for itself."""
    pairs: dict[str, str] = {}
    for text in given or ():
        name, equals, source = text.partition("=")
        if not equals and alone:
            source = name
        if not name or not source:
            raise UsageError(f"{option} {text!r}: write {'NAME or NAME=COLUMN' if alone else 'FIELD=TEXT'}")
        if name in pairs:
            raise UsageError(f"{option} {name} is given twice")
        pairs[name] = source
    return pairs
