"""Commands that run and inspect the parts: ``topics``, ``worker``, ``sink``, ``tail``."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from pipeline import wiring
from pipeline.errors import UsageError

topics = typer.Typer(no_args_is_help=True, help="Create, check and describe the Kafka topics of the namespace.")


@topics.command()
def create() -> None:
    """Create every topic that is missing, and give the consumer groups their start offsets.

    Does nothing to topics that exist; `meterline topics check` says whether they are as they should be.
    METERLINE_PARTITIONS and METERLINE_REPLICATION say how many of each.

    \b
    Example:  METERLINE_PARTITIONS=24 METERLINE_REPLICATION=3 meterline topics create
    """
    from pipeline.kafka import admin

    settings = wiring.load_settings()
    created = admin.create(settings.librdkafka, settings.namespace, settings.partitions, settings.replication)
    for name in created:
        typer.echo(f"created {name}")
    if not created:
        typer.echo("all topics exist")


@topics.command()
def check() -> None:
    """Compare the topics with what they should be; exit code 1 when something differs, with what mends it.

    \b
    Example:  meterline topics check && deploy-the-workers
    """
    from pipeline.kafka import admin

    settings = wiring.load_settings()
    differences = admin.check(settings.librdkafka, settings.namespace, settings.partitions, settings.replication)
    for difference in differences:
        typer.echo(str(difference))
    if differences:
        raise typer.Exit(1)
    typer.echo("all topics are as they should be")


@topics.command()
def describe() -> None:
    """What each topic is for, who writes and reads it, and how it stands in the cluster.

    \b
    Example:  meterline topics describe
    """
    from rich.console import Console
    from rich.table import Table

    from pipeline.kafka import admin
    from pipeline.kafka.topics import TABLE, Topics

    settings = wiring.load_settings()
    names = Topics(settings.namespace)
    present = admin.describe(settings.librdkafka, [names.name(topic) for topic in TABLE])
    table = Table("topic", "records", "key", "written by", "read by", "partitions", "retention")
    for topic in TABLE:
        state = present.get(names.name(topic))
        table.add_row(
            names.name(topic),
            ", ".join(topic.records) or "any bytes",
            topic.key,
            ", ".join(topic.written_by),
            ", ".join(topic.read_by),
            str(state.partitions) if state else "missing",
            _retention(state.config) if state else "",
        )
    Console().print(table)


def _retention(config: dict[str, str]) -> str:
    if config.get("cleanup.policy") == "compact":
        return "newest of each key"
    retention_ms = int(config.get("retention.ms", "-1"))
    return "for ever" if retention_ms < 0 else f"{retention_ms // 86_400_000} d"


def worker() -> None:
    """Run one worker: it folds the journal partitions that Kafka gives it, until it is stopped.

    Start more of them for more speed, each with its own METERLINE_STATE directory. Killing one is safe at any moment.

    \b
    Example:  METERLINE_STATE=/var/lib/meterline/worker-1 meterline worker
    """
    wiring.run_worker(wiring.load_settings())


def sink() -> None:
    """Run one sink: it copies summaries, dispositions and the event log into ClickHouse, until it is stopped.

    \b
    Example:  METERLINE_CLICKHOUSE=http://clickhouse:8123 meterline sink
    """
    wiring.run_sink(wiring.load_settings())
