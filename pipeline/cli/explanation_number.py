"""The explanation of a sum, for people, programs and spreadsheets."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator

from pipeline.cli.answers import UNBROKEN_WIDTH
from pipeline.cli.explanation import Behind
from pipeline.clickhouse.explained import number_explained
from pipeline.clickhouse.explanation import UNDECIDED
from pipeline.clickhouse.explanation_number import Line, NumberExplanation
from pipeline.clickhouse.windows import moment_text
from pipeline.domain import outcomes
from pipeline.domain.values import value_text

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins like this for a formula."""

_COLUMNS = ("timestamp", "at", "identifier", "dimensions", "value", "what became of it", "counts", "running total")
_NUMBERS = frozenset({"value", "counts", "running total"})


def write(answer_format: str, found: NumberExplanation, late: Behind, *, event_log: bool) -> None:
    """To standard output. In a CSV, only the events: what is said about them goes to standard error."""
    if answer_format == "json":
        sys.stdout.write(json.dumps(number_explained(found, late.records), ensure_ascii=False, indent=2) + "\n")
        return
    out = sys.stdout
    if answer_format == "csv":
        _write_csv(found)
        out = sys.stderr
    else:
        _write_table(found)
    for sentence in _sentences(found, late, event_log=event_log):
        out.write(sentence + "\n")


def _cells(found: NumberExplanation, line: Line) -> tuple[str, ...]:
    return (
        moment_text(line.timestamp_ms, found.query.zone),
        line.at,
        line.identifier,
        " ".join(f"{name}={value}" for name, value in line.dimensions),
        "" if line.value is None else value_text(line.value),
        fate_text(line),
        value_text(line.value or 0) if line.counts else "",
        value_text(line.running_total),
    )


def fate_text(line: Line) -> str:
    """What became of an event, in words."""
    fate = line.fate
    if fate is None:
        return "counted" if line.counts else "not summarised yet"
    return {
        outcomes.DUPLICATE: f"duplicate of {fate.first_at}",
        outcomes.DUPLICATE_DIFFERS: f"duplicate of {fate.first_at} with other content",
        outcomes.CANCELLED: f"cancelled by {fate.adjustment_id}, decided at {fate.decided_at}",
        outcomes.REJECTED: f"rejected: {fate.reason}",
        outcomes.REROUTED: "came to the wrong partition: sent on to its own",
    }.get(fate.disposition, fate.disposition)


def _write_table(found: NumberExplanation) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if not found.lines:
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for line in found.lines:
        table.add_row(*_cells(found, line))
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else UNBROKEN_WIDTH).print(table)


def _write_csv(found: NumberExplanation) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(name.replace(" ", "_") for name in _COLUMNS)
    for line in found.lines:
        rows.writerow(
            cell if name in _NUMBERS else harmless(cell)
            for name, cell in zip(_COLUMNS, _cells(found, line), strict=True)
        )


def harmless(cell: str) -> str:
    """A text that no spreadsheet computes: what producers write may begin like a formula."""
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _sentences(found: NumberExplanation, late: Behind, *, event_log: bool) -> Iterator[str]:
    if found.lines_left_out:
        yield f"{found.lines_left_out:,} more events are not shown; the totals know of them."
    for name in (outcomes.COUNTED, *sorted(set(found.totals) - {outcomes.COUNTED})):
        if name in found.totals:
            events, value = found.totals[name]
            shown = {UNDECIDED: "not summarised yet"}.get(name, name)
            yield f"{shown}: {events:,} event{'s' if events != 1 else ''}, value {value_text(value)}"
    if found.has_no_events:
        yield (
            f"Of {found.served_count:,} events that are served, ClickHouse has none in its event log: "
            + (
                "they came while it was off, or the sink has not read them yet (`meterline status`)."
                if event_log
                else "it is off (METERLINE_EVENT_LOG). Start the sink with METERLINE_EVENT_LOG=on: it reads the journal"
                " from its beginning, and then every sum can be explained."
            )
        )
    yield _verdict(found)
    if late.said:
        yield late.said


def _verdict(found: NumberExplanation) -> str:
    made = f"{value_text(found.sum)} of {found.count:,} event{'s' if found.count != 1 else ''}"
    if found.is_equal:
        return f"sum: {made}, exactly what `meterline query` answers"
    served = f"{value_text(found.served_sum)} of {found.served_count:,}"
    return f"sum: {made}, but `meterline query` answers {served}: `meterline audit` says which of them is wrong"
