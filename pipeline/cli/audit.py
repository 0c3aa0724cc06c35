"""``meterline audit``: is everything that was derived what the journal says?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline import wiring
from pipeline.errors import UsageError


def audit(
    partitions: Annotated[
        list[int] | None, typer.Option("--partition", metavar="N", min=0, help="Only this partition; repeatable.")
    ] = None,
    sample: Annotated[
        float, typer.Option("--sample", metavar="SHARE", min=0.0, max=1.0, help="A share of the partitions, at random.")
    ] = 1.0,
    report: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole report there.")] = None,
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

    \b
    Examples:
      meterline audit
      meterline audit --partition 3 --json audit.json
      meterline audit --sample 0.25
    """
    from pipeline.cli import audit_report
    from pipeline.replay.audit import audit as run
    from pipeline.replay.audit import audited_partitions, journal_of

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    directories = tuple(states or [settings.state])
    sources = wiring.audit_sources(settings, generation, directories, tables=not skip_clickhouse)
    journal = journal_of(sources)
    for number in partitions or ():
        if number >= journal.partitions:
            raise UsageError(f"--partition {number}: the journal has partitions 0 to {journal.partitions - 1}")
    wanted = audited_partitions(journal.partitions, partitions or [], sample, seed=os.getpid())
    found = sorted(run(sources, wanted, journal, processes or os.cpu_count() or 1), key=lambda one: one.partition)
    audit_report.write(found)
    if report is not None:
        report.write_text(json.dumps(audit_report.as_object(found), ensure_ascii=False, indent=2) + "\n", "utf-8")
    if any(one.differences for one in found):
        raise typer.Exit(1)
