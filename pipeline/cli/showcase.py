"""The acts of the demo, one after the other, as a person sees them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer
from clickhouse_connect.driver.client import Client

from pipeline import wiring
from pipeline.cli import showcase_text as text
from pipeline.cli.progress import Step, progress
from pipeline.clickhouse.connection import connect, translated
from pipeline.clickhouse.queries import SummaryQuery
from pipeline.clickhouse.summaries import summaries
from pipeline.clickhouse.windows import Unit
from pipeline.demo.catching_up import CatchingUp
from pipeline.demo.flights import EVENT_NAME, TIME_ZONE, Flight, airlines, flights, month_of
from pipeline.demo.oracle import Cell, Figures, differences, expected_table
from pipeline.kafka.client import MeterlineProducer
from pipeline.settings import Settings

STEP_EVERY = 2_000
RESENT_AFTER = 1_000
"""A second copy comes this many events after the first."""
FLUSH_TIMEOUT_S = 60.0

APPENDED_SQL = "SELECT count() FROM meter_events FINAL WHERE livemode AND event_name = {event_name:String}"

DISPOSITIONS_SQL = """
SELECT record, disposition, count()
FROM dispositions
WHERE livemode AND event_name = {event_name:String}
GROUP BY record, disposition
"""


class Showcase:
    """One run of the demo on a stack that is up: the laptop's ``own_stack``, or any other deployment."""

    def __init__(self, settings: Settings, directory: Path, at_most: int, *, own_stack: bool, command: str) -> None:
        self._own_stack = own_stack
        self._command = command
        self._settings = settings
        self._directory = directory
        self._at_most = at_most
        self._waiting = CatchingUp(wiring.lag_reader(settings), wiring.live_topics(settings))
        self._cancelled: list[Flight] = []
        self._sent_twice = 0

    def run(self) -> bool:
        """True when ClickHouse and the plain computation are equal digit for digit."""
        with progress("adding up the CSV, plainly", self._at_most) as step:
            expected = expected_table(self._noting_cancelled(step))
        early = [flight for flight in self._cancelled if flight.cancelled_early]
        late = [flight for flight in self._cancelled if not flight.cancelled_early]
        with wiring.producer(self._settings) as producer:
            self._take_back(producer, early, "taking back, too early")
            self._publish(producer)
            self._take_back(producer, late, "taking back, afterwards")
        with progress("folding", None) as step:
            self._waiting.journal(lambda done, total: step(done, f"{done:,} records", total))
        with progress("into ClickHouse", None) as step:
            self._waiting.sink(lambda done, total: step(done, f"{done:,} records", total))
        return self._compare(expected, len(early))

    def _noting_cancelled(self, step: Step) -> Iterator[Flight]:
        for count, flight in enumerate(flights(self._directory, self._at_most), 1):
            if not flight.departed:
                self._cancelled.append(flight)
            if count % STEP_EVERY == 0:
                step(count)
            yield flight
        step(self._at_most)

    def _take_back(self, producer: MeterlineProducer, some: list[Flight], description: str) -> None:
        """Publish adjustments, and wait until they stand in the journal: what follows really comes after them."""
        with progress(description, len(some)) as step:
            for flight in some:
                producer.adjust(flight.adjustment)
            producer.flush(FLUSH_TIMEOUT_S)
            self._waiting.adjustments(lambda done, total: step(done, f"{len(some):,} adjustments", total))

    def _publish(self, producer: MeterlineProducer) -> None:
        with progress("publishing flights", self._at_most) as step:
            for count, flight in enumerate(self._with_copies(flights(self._directory, self._at_most)), 1):
                producer.emit(flight.event)
                if count % STEP_EVERY == 0:
                    step(count - self._sent_twice, f"{count:,} events, {self._sent_twice:,} of them again")
            producer.flush(FLUSH_TIMEOUT_S)
            step(self._at_most, f"{self._at_most + self._sent_twice:,} events, {self._sent_twice:,} of them again")

    def _with_copies(self, all_flights: Iterable[Flight]) -> Iterator[Flight]:
        """The flights, and some of them once more a little later, as when an acknowledgement was lost."""
        copies: deque[tuple[int, Flight]] = deque()
        for count, flight in enumerate(all_flights):
            yield flight
            if flight.sent_twice:
                copies.append((count + RESENT_AFTER, flight))
            while copies and copies[0][0] <= count:
                self._sent_twice += 1
                yield copies.popleft()[1]
        for _, flight in copies:
            self._sent_twice += 1
            yield flight

    def _compare(self, expected: dict[Cell, Figures], early: int) -> bool:
        server = wiring.clickhouse(self._settings)
        with translated(server):
            client = connect(server)
            found = _summaries(client)
            appended, fates = _fates(client)
        wrong = differences(expected, found)
        counted = sum(figures.flights for figures in found.values())
        balanced, accounts = text.accounts(fates, appended, counted, early)
        typer.echo(text.table(found, airlines(self._directory)))
        typer.echo(text.proof(expected, wrong))
        typer.echo(accounts)
        if self._cancelled:
            example = self._cancelled[len(self._cancelled) // 2]
            typer.echo(text.further(self._settings, example, own_stack=self._own_stack, command=self._command))
        return balanced and not wrong


def _summaries(client: Client) -> dict[Cell, Figures]:
    """What ClickHouse says: departures and miles per carrier and month."""
    query = SummaryQuery(
        EVENT_NAME, per_customer=True, window=Unit.MONTH, zone=TIME_ZONE, aggregations=("count", "sum")
    )
    return {
        (str(row.customer), month_of(row.window.start_ms)): Figures(row.values["count"] or 0, row.values["sum"] or 0)
        for row in summaries(client, query)
    }


def _fates(client: Client) -> tuple[int, Counter[tuple[str, str]]]:
    """How many events the journal has, and how many records ended otherwise than counted, by (record, disposition)."""
    name = {"event_name": EVENT_NAME}
    ((appended,),) = client.query(APPENDED_SQL, parameters=name).result_rows
    rows = client.query(DISPOSITIONS_SQL, parameters=name).result_rows
    return appended, Counter({(record, disposition): count for record, disposition, count in rows})
