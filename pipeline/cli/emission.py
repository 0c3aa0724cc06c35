"""The work behind ``meterline emit``: from a file's lines to records that Kafka acknowledged."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import typer

from pipeline import wiring
from pipeline.cli.bad_lines import SHOWN_MAX, BadLines
from pipeline.cli.lines import BadLine, Lines, Row, csv_header, csv_rows, json_rows
from pipeline.cli.mapping import EventMapping
from pipeline.cli.progress import progress
from pipeline.domain import checks
from pipeline.domain.checks import check_event
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import DIMENSIONS_MAX, IDENTIFIER_CHARS_MAX
from pipeline.errors import UsageError
from pipeline.kafka.producer import DeliveryError, Publisher
from pipeline.settings import Settings

FLUSH_TIMEOUT_S = 120.0
STEP_EVERY = 2_000
"""Lines between two looks at the progress bar."""

_TEXT = f"it has more than {IDENTIFIER_CHARS_MAX} characters or one that cannot be seen"
EXPLAINED = {
    checks.INVALID_IDENTIFIER: f"the identifier cannot be used: {_TEXT}",
    checks.INVALID_EVENT_NAME: f"the event name cannot be used: {_TEXT}",
    checks.NO_CUSTOMER: "the customer is empty",
    checks.INVALID_CUSTOMER: f"the customer cannot be used: {_TEXT}",
    checks.TOO_MANY_DIMENSIONS: f"more than {DIMENSIONS_MAX} dimensions",
    checks.INVALID_DIMENSION: f"a dimension cannot be used: its name is empty, or {_TEXT}",
    checks.TOO_MANY_DIGITS: "the value has too many digits",
    checks.TIMESTAMP_TOO_OLD: "the timestamp is older than METERLINE_MAX_EVENT_AGE allows",
    checks.TIMESTAMP_IN_FUTURE: "the timestamp is further in the future than METERLINE_MAX_EVENT_AHEAD allows",
}
"""For each reason of the fold's checks, what to look at."""


class Emission:
    """One run of ``emit``."""

    def __init__(self, settings: Settings, mapping: EventMapping, rejects: Path | None) -> None:
        self._mapping = mapping
        self._bad = BadLines(rejects)
        self._codec = wiring.codec(settings)
        self._topic = wiring.topics(settings).journal
        self._settings = settings
        self._published = 0
        self._refused = 0

    def run(self, path: Path, delimiter: str | None) -> bool:
        """Publish the file, JSON lines or with a ``delimiter`` CSV. True when a line or a record was refused."""
        started = time.monotonic()
        with _opened(path) as file, self._bad:
            lines = Lines(file)
            rows = self._rows(lines, delimiter)
            publisher = wiring.publisher(self._settings, self._delivery_failed)
            try:
                self._publish(rows, lines, publisher, _size(file))
            except KeyboardInterrupt:
                typer.echo(f"interrupted at line {lines.number:,}: the same command sends the rest", err=True)
                raise
            finally:
                publisher.flush(FLUSH_TIMEOUT_S)
                self._report(time.monotonic() - started)
        return bool(self._bad.count or self._refused)

    def _rows(self, lines: Lines, delimiter: str | None) -> Iterator[Row | BadLine]:
        if delimiter is None:
            return json_rows(lines)
        header = csv_header(lines, delimiter)
        if unused := self._mapping.accept_header(header):
            typer.echo(f"columns not used: {', '.join(unused)} (keep one with --dimension NAME)", err=True)
        return csv_rows(lines, delimiter, header)

    def _publish(self, rows: Iterator[Row | BadLine], lines: Lines, publisher: Publisher, size: int | None) -> None:
        with progress("publishing", size) as step:
            for count, row in enumerate(rows):
                event = row if isinstance(row, BadLine) else self._event_of(row)
                if isinstance(event, BadLine):
                    self._bad.add(event)
                else:
                    publisher.publish(self._topic, event.identifier.encode(), self._codec.encode_event(event))
                    self._published += 1
                if count % STEP_EVERY == 0:
                    step(lines.bytes_read, f"{self._published:,} events")
            step(lines.bytes_read, f"{self._published:,} events")

    def _event_of(self, row: Row) -> MeterEvent | BadLine:
        """The event, held to the same checks that the fold will hold it to when it is appended."""
        event = self._mapping.event_of(row)
        if isinstance(event, BadLine):
            return event
        reason = check_event(event, int(time.time() * 1000), self._settings.rules)
        if reason is None:
            return event
        return BadLine(row.line, row.text, reason, EXPLAINED[reason])

    def _delivery_failed(self, failure: DeliveryError) -> None:
        self._refused += 1
        if self._refused <= SHOWN_MAX:
            typer.echo(f"Kafka did not take {failure}", err=True)

    def _report(self, seconds: float) -> None:
        acknowledged = self._published - self._refused
        refused = f", {self._refused:,} not taken by Kafka" if self._refused else ""
        typer.echo(f"{acknowledged:,} events published{refused}, {self._bad.summary()}, in {seconds:.1f} s")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        if sys.stdin.isatty():
            typer.echo("reading JSON lines from the keyboard; end with Ctrl-D", err=True)
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _size(file: BinaryIO) -> int | None:
    """Bytes of a regular file; None for a pipe, whose end nobody knows."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
