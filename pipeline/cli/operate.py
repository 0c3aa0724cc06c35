"""Commands that run and inspect the parts: ``topics``, ``worker``, ``sink``, ``tail``."""

from __future__ import annotations

import contextlib
import enum
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import wiring
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.replay.following import Apart

topics = typer.Typer(no_args_is_help=True, help="Create, check and describe the Kafka topics.")

worker = typer.Typer()

FOR_ITS_USER_ONLY = 0o077
"""What state and snapshots lack of every mode: usage is in them."""


@topics.command()
def create() -> None:
    """Create every topic that is missing.

    Does nothing to topics that exist: `meterline topics check` says whether
    they are as they should be. Gives the consumer groups their start offsets,
    and registers the schemas where METERLINE_SCHEMA_REGISTRY is set.
    METERLINE_PARTITIONS and METERLINE_REPLICATION say how many of each.

    \b
    Example:
      METERLINE_PARTITIONS=24 METERLINE_REPLICATION=3 meterline topics create
    """
    from pipeline.kafka import admin

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    live = wiring.ledger(settings).read().live
    partitions = live.partitions or settings.partitions
    created = admin.create(wiring.quiet_kafka(settings), settings.namespace, partitions, settings.replication, live)
    for name in created:
        typer.echo(f"created {name}")
    if not created:
        typer.echo("all topics exist")
    if settings.schema_registry:
        for subject in wiring.register_schemas(settings):
            typer.echo(f"registered {subject}")


@topics.command()
def check() -> None:
    """Compare the topics with what they should be.

    Says of every difference what mends it; exit code 1 when there is one.

    \b
    Example:
      meterline topics check && deploy-the-workers
    """
    from pipeline.kafka import admin

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    live = wiring.ledger(settings).read().live
    differences = admin.check(
        wiring.quiet_kafka(settings), settings.namespace, settings.partitions, settings.replication, live
    )
    for difference in differences:
        typer.echo(str(difference))
    if differences:
        raise typer.Exit(1)
    typer.echo("all topics are as they should be")


@topics.command()
def describe() -> None:
    """What each topic is for, and how it stands in the cluster.

    \b
    Example:
      meterline topics describe
    """
    from pipeline.kafka import admin
    from pipeline.kafka.topics import TABLE

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    names = wiring.live_topics(settings)
    present = admin.describe(wiring.quiet_kafka(settings), [names.name(topic) for topic in TABLE])
    for topic in TABLE:
        state = present.get(names.name(topic))
        stands = f"{state.partitions} partitions, {_retention(state.config)}" if state else "missing"
        typer.echo(f"{names.name(topic)}: {stands}")
        typer.echo(f"    records     {', '.join(topic.records) or 'any bytes'}")
        typer.echo(f"    key         {topic.key}")
        typer.echo(f"    written by  {', '.join(topic.written_by)}")
        typer.echo(f"    read by     {', '.join(topic.read_by)}")


@topics.command()
def grant(
    passwords: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Make the users too, with SCRAM; files kafka-USER hold their passwords."),
    ] = None,
) -> None:
    """Give each part's Kafka user its rights, and no others.

    The users are gateway, worker, sink and cli; what each may do follows from
    the table of topics. Needs brokers with an authorizer, and to be called as
    somebody who may alter them.

    \b
    Example:
      METERLINE_KAFKA_USER=admin METERLINE_KAFKA_PASSWORD_FILE=admin.txt meterline topics grant
    """
    from pipeline.kafka import access

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    if passwords is not None:
        found = {user: _first_line(passwords / f"kafka-{user}") for user in access.USERS}
        access.make_users(wiring.quiet_kafka(settings), found)
        typer.echo(f"users {', '.join(found)} have their passwords")
    typer.echo(f"granted {access.grant(wiring.quiet_kafka(settings), wiring.topics(settings))} rights")


def _first_line(path: Path) -> str:
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not text:
        raise UsageError(f"{path} is empty: nobody gets an empty password")
    return text


def _retention(config: dict[str, str]) -> str:
    if config.get("cleanup.policy") == "compact":
        return "the newest record of each key is kept"
    retention_ms = int(config.get("retention.ms", "-1"))
    return "kept for ever" if retention_ms < 0 else f"kept for {retention_ms // 86_400_000} days"


GenerationOption = Annotated[int | None, typer.Option(hidden=True, help="Not the live one, but this.")]
ParentOption = Annotated[int, typer.Option(hidden=True, help="With --generation: end when this process does.")]


def _apart(generation: int | None, parent: int) -> Apart | None:
    from pipeline.replay.following import Apart

    return None if generation is None else Apart(generation, parent)


@worker.callback(invoke_without_command=True)
def run(context: typer.Context, generation: GenerationOption = None, parent: ParentOption = 0) -> None:
    """Run one worker: it folds journal partitions.

    Kafka shares the partitions out among all workers of the namespace: start
    more of them for more speed, each with its own METERLINE_STATE directory.
    Killing one is safe at any moment. A worker that cannot be sure of the
    numbers stops with exit code 1 and says which command mends it.

    \b
    Example:
      METERLINE_STATE=/var/lib/meterline/worker-1 meterline worker
    """
    if context.invoked_subcommand is None:
        os.umask(FOR_ITS_USER_ONLY)
        wiring.run_worker(wiring.load_settings(), _apart(generation, parent))


@worker.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete the stopped worker's local state in METERLINE_STATE.

    The next start takes it from a snapshot or folds the journal again, and
    ends in the same numbers.

    \b
    Example:
      METERLINE_STATE=/var/lib/meterline/worker-1 meterline worker reset --yes
    """
    from pipeline.worker.reset import reset as delete
    from pipeline.worker.reset import stores_in

    state = wiring.load_settings().state
    homes = [state, *sorted(state.glob("g*"))]
    stores = [store for home in homes for store in stores_in(home)]
    if not stores:
        typer.echo(f"there is no state in {state}")
        return
    if not yes:
        typer.confirm(f"Delete the state of {len(stores)} partitions in {state}?", abort=True)
    deleted = sum(len(delete(home)) for home in homes)
    typer.echo(f"deleted the state of {deleted} partitions in {state}")


def sink(
    generation: GenerationOption = None,
    parent: ParentOption = 0,
    group: Annotated[str, typer.Option(hidden=True, help="Copy everything, in a consumer group of its own.")] = "",
) -> None:
    """Run one sink: it copies results into ClickHouse.

    Summaries, dispositions and (unless METERLINE_EVENT_LOG=off) the journal
    itself. Waits for as long as it takes when ClickHouse is away. Runs until
    it is stopped; start more of them for more speed.

    \b
    Example:
      METERLINE_CLICKHOUSE=http://clickhouse:8123 meterline sink
    """
    os.umask(FOR_ITS_USER_ONLY)
    wiring.run_sink(wiring.load_settings(), _apart(generation, parent), group)


class TopicName(enum.StrEnum):
    """What ``tail`` can follow, by the names of ``Topics``."""

    JOURNAL = "journal"
    ADJUSTMENTS = "adjustments"
    SUMMARIES = "summaries"
    DISPOSITIONS = "dispositions"
    CATALOG = "catalog"
    CORE_EVENTS = "core-events"
    DEAD_LETTERS = "dead-letters"


def tail(
    topic: Annotated[TopicName, typer.Argument(help="Which of the namespace's topics.")],
    start: Annotated[
        str, typer.Option("--from", metavar="beginning|end|OFFSET", help="Where to begin in each partition.")
    ] = "end",
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more at the end of the log.")] = True,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Stop after this many records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line; values as exact text.")] = False,
) -> None:
    """Follow a topic, decoded. Ctrl-C stops.

    Each line begins with partition:offset and the time at which the broker
    appended the record. Reads beside all consumer groups and disturbs nobody.

    \b
    Examples:
      meterline tail journal
      meterline tail dispositions --from beginning --no-follow --json
      meterline tail journal --partition 3 --from 1200 -n 5
    """
    from pipeline.cli import records
    from pipeline.kafka.reading import read

    begin: Any = start if start in ("beginning", "end") else None
    if begin is None:
        if not start.isascii() or not start.isdigit():
            raise UsageError(f"--from is beginning, end or an offset, not {start!r}")
        begin = int(start)
    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    name = getattr(wiring.live_topics(settings), topic.value.replace("-", "_"))
    show = records.as_json if as_json else records.as_line
    decode = records.decoder(topic.value, wiring.codec(settings))
    with contextlib.closing(read(wiring.quiet_kafka(settings), name, begin, partition=partition, follow=follow)) as log:
        for record in itertools.islice(log, limit):
            typer.echo(show(record, decode(record)))
