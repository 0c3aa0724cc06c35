"""``meterline audit``: is everything that was derived what the journal says?"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pipeline import wiring
from pipeline.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from pipeline.cli.audit_report import Paths
    from pipeline.kafka.admin import TopicState
    from pipeline.replay.audit import AuditSources


def audit(
    partitions: Annotated[
        list[int] | None, typer.Option("--partition", metavar="N", min=0, help="Only this partition; repeatable.")
    ] = None,
    sample: Annotated[
        float, typer.Option("--sample", metavar="SHARE", min=0.0, max=1.0, help="A share of the partitions, at random.")
    ] = 1.0,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Again and again, as 10m, until it is stopped.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report there.")] = None,
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="Write Prometheus metrics there.")
    ] = None,
    states: Annotated[
        list[Path] | None,
        typer.Option("--state", metavar="DIR", help="Workers' state directories; default: METERLINE_STATE."),
    ] = None,
    generation: Annotated[
        int | None, typer.Option("--generation", metavar="N", min=1, help="Which one; default: the live one.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", metavar="N", min=1, help="Default: one for each core.")
    ] = None,
    skip_clickhouse: Annotated[bool, typer.Option("--skip-clickhouse", help="Leave the tables out.")] = False,
) -> None:
    """Fold the journal again and compare with all that was derived.

    Independently of the worker, record by record, by the specification. Holds
    to that: the summary topic, ClickHouse, and the stores of workers in
    METERLINE_STATE. Everything may run meanwhile. What differs is named: where,
    which summary, what it must be and what it is. Exit code 1 when anything
    differs.

    With --every it keeps its fold and audits what has come since, round after
    round; --json and --metrics are written anew each time. Topics are compared
    in every round; ClickHouse and the stores for a fiftieth of the time each,
    so minutes may pass until an error there is seen.

    \b
    Examples:
      meterline audit
      meterline audit --partition 3 --json audit.json
      meterline audit --sample 0.25
      meterline audit --every 10m --metrics /var/lib/node_exporter/audit.prom
    """
    from pipeline.cli import audit_report
    from pipeline.replay.audit import audit as run
    from pipeline.replay.audit import audited_partitions, journal_of

    every_ms = None if every is None else _every_ms(every)
    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    sources = wiring.audit_sources(
        settings, generation, tuple(states or [_above_slots(settings.state)]), tables=not skip_clickhouse
    )
    journal = journal_of(sources)
    for number in partitions or ():
        if number >= journal.partitions:
            raise UsageError(f"--partition {number}: the journal has partitions 0 to {journal.partitions - 1}")
    wanted = audited_partitions(journal.partitions, partitions or [], sample, seed=os.getpid())
    paths = audit_report.Paths(report, metrics)
    if every_ms is not None:
        _stand(sources, wanted, journal, every_ms, paths)
    found = list(run(sources, wanted, journal, processes or os.cpu_count() or 1))
    audit_report.tell(found, paths)
    if any(one.differences for one in found):
        raise typer.Exit(1)


def _above_slots(state: Path) -> Path:
    """The directory of all workers' directories, where they share one."""
    return next(path for path in (state, *state.parents) if "{slot}" not in str(path))


def _every_ms(text: str) -> int:
    from pipeline.settings import duration_ms

    try:
        return duration_ms(text)
    except ValueError as error:
        raise UsageError(f"--every {text}: expected {error}") from error


def _stand(sources: AuditSources, partitions: list[int], journal: TopicState, every_ms: int, paths: Paths) -> NoReturn:
    """Round after round. What is away now may be there in the next one."""
    from pipeline.cli import audit_report
    from pipeline.replay.audit_standing import StandingAudit

    standing = StandingAudit(sources, partitions, journal)
    with contextlib.closing(standing):
        while True:
            began = time.monotonic()
            try:
                audit_report.tell(standing.round(), paths)
            except Unavailable as error:
                typer.echo(f"meterline: no audit this time: {error}", err=True)
            time.sleep(max(0.0, every_ms / 1000 - (time.monotonic() - began)))
