"""The one place of assembly: settings in, connected parts out.

Imports stand inside the functions, so that a command pays only for what it uses.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError
from pipeline.logs import log_to_standard_error
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.clickhouse.connection import Server
    from pipeline.codec.records import Codec
    from pipeline.gateway.catalog import CatalogMemory
    from pipeline.gateway.parts import Secrets
    from pipeline.gateway.webhook_endpoints import Endpoint
    from pipeline.kafka.client import MeterlineProducer
    from pipeline.kafka.generations import GenerationLedger
    from pipeline.kafka.lag import LagReader
    from pipeline.kafka.producer import DeliveryError, Publisher
    from pipeline.kafka.topics import Topics
    from pipeline.replay.audit import AuditSources
    from pipeline.replay.following import Apart
    from pipeline.replay.ground import Ground

HOME_DEFAULT = ".meterline"
CATALOG_READ_S = 30.0


def home_of(environ: Mapping[str, str]) -> Path:
    """The directory of the laptop stack: METERLINE_HOME, else .meterline in the working directory."""
    return Path(environ.get("METERLINE_HOME") or HOME_DEFAULT)


def settings_environ(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The METERLINE_* variables in force: those of the environment, else those that the laptop stack wrote down."""
    given = os.environ if environ is None else environ
    mine = {name: text for name, text in given.items() if name.startswith("METERLINE_")}
    return {**_written_by_stack(home_of(given)), **mine}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings in force. Raises SettingsError that lists every fault."""
    return Settings.load(settings_environ(environ))


def topics(settings: Settings) -> Topics:
    """The names of the namespace's topics and groups."""
    from pipeline.kafka.topics import Topics

    return Topics(settings.namespace)


def codec(settings: Settings) -> Codec:
    """Writes Confluent framing where a schema registry is set, else Avro single-object encoding; reads both."""
    from pipeline.codec.records import Codec
    from pipeline.codec.registry import SchemaRegistry

    return Codec(SchemaRegistry(settings.schema_registry) if settings.schema_registry else None)


def register_schemas(settings: Settings) -> list[str]:
    """Register every schema with the schema registry, which must be set; returns the subjects."""
    from pipeline.codec.registry import SchemaRegistry

    return SchemaRegistry(settings.schema_registry).register_all()


def quiet_kafka(settings: Settings) -> dict[str, Any]:
    """How a command connects: librdkafka keeps its own log lines to itself, the command says what is wrong."""
    return {**settings.librdkafka, "log_level": 0}


def await_kafka(settings: Settings) -> None:
    """Raises Unavailable within seconds when no broker answers: requests would wait much longer and say less."""
    from pipeline.kafka.reading import await_answer

    await_answer(quiet_kafka(settings))


def publisher(settings: Settings, on_error: Callable[[DeliveryError], None] | None = None) -> Publisher:
    """Raises Unavailable when Kafka does not answer and Refusal when topics are missing, before anything is sent."""
    from pipeline.kafka.moving import MovingPublisher
    from pipeline.kafka.reading import partitions_of

    for topic in (topics(settings).journal, topics(settings).adjustments):
        partitions_of(quiet_kafka(settings), topic)
    return MovingPublisher(quiet_kafka(settings), settings.namespace, codec(settings), on_error)


def operator(settings: Settings) -> str:
    """Who gives commands here: the user that Kafka knows, else this machine's."""
    try:
        name = settings.kafka_user or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's
        name = str(os.getuid())
    return f"command line, {name}"


def ledger(settings: Settings) -> GenerationLedger:
    """Which generation is live is written there."""
    from pipeline.kafka.generations import GenerationLedger

    return GenerationLedger(settings.librdkafka, settings.namespace, codec(settings), operator(settings))


def live_topics(settings: Settings) -> Topics:
    """The names as the live generation sees them. Raises Unavailable."""
    from pipeline.kafka.topics import topics_of_generation

    return topics_of_generation(settings.namespace, ledger(settings).read().live)


def ground(settings: Settings) -> Ground:
    """What commands about generations work on."""
    from pipeline.replay.ground import Ground

    return Ground(
        quiet_kafka(settings), settings.namespace, settings.replication, clickhouse(settings), ledger(settings)
    )


def snapshot_cursors(settings: Settings, number: int) -> Callable[[], Mapping[int, int]] | None:
    """Tells by partition how far the snapshots of a generation reach; None where there is no snapshot store."""
    from pipeline.replay.following import snapshots_of
    from pipeline.worker.snapshots import Snapshots

    url = snapshots_of(settings.snapshots, settings.namespace, number)
    return Snapshots(url).newest_cursors if url else None


def delete_snapshots(settings: Settings, number: int) -> None:
    """Those of one generation."""
    from pipeline.replay.following import snapshots_of
    from pipeline.worker.snapshots import Snapshots

    url = snapshots_of(settings.snapshots, settings.namespace, number)
    if url:
        Snapshots(url).delete_all()


def run_worker(settings: Settings, apart: Apart | None = None) -> None:
    """Run one worker of the live generation until a signal stops it; with ``apart`` of another one."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one worker, one core; read when Polars is first imported
    from pipeline.replay.following import part_of, rules_of, snapshots_of, state_of
    from pipeline.stream.slots import claimed
    from pipeline.worker.app import Worker, WorkerSettings
    from pipeline.worker.reset import reset

    log_to_standard_error()
    await_kafka(settings)
    part = part_of(ledger(settings), settings.namespace, apart)
    number = part.generation.number
    state, instance = claimed(settings.state, settings.instance)
    for gone in part.dropped:
        reset(state_of(state, gone))
    wanted = WorkerSettings(
        kafka=settings.librdkafka,
        topics=part.topics,
        acting=apart is None,
        before=tuple(topics.worker_group for topics in part.others),
        alone=part.alone,
        rules=rules_of(part.generation, settings.rules),
        state=state_of(state, number),
        snapshots=snapshots_of(settings.snapshots, settings.namespace, number),
        snapshot_every_ms=settings.snapshot_every_ms,
        flush_every_ms=settings.flush_every_ms,
        flush_records=settings.flush_records,
        session_timeout_ms=settings.session_timeout_ms,
        instance=instance,
    )
    Worker(wanted, codec(settings), part.fate).run()


def run_sink(settings: Settings, apart: Apart | None = None, group: str = "") -> None:
    """Run one sink of the live generation until a signal stops it; with ``apart`` of another one.

    ``group``: a consumer group of its own, which copies everything beside the regular sinks.
    """
    from pipeline.sink.lean import load_no_pandas
    from pipeline.stream.memory import share_one_arena

    share_one_arena()
    load_no_pandas()
    from pipeline.replay.following import part_of
    from pipeline.sink.app import Sink, SinkSettings
    from pipeline.stream.slots import claimed

    log_to_standard_error()
    await_kafka(settings)
    part = part_of(ledger(settings), settings.namespace, apart)
    state, instance = claimed(settings.state, settings.instance)
    shared = apart is None or bool(group)
    wanted = SinkSettings(
        kafka=settings.librdkafka,
        topics=part.topics,
        group=group or part.topics.sink_group,
        shared=shared,
        before=() if group else tuple(topics.sink_group for topics in part.others),
        clickhouse=clickhouse(settings),
        work_dir=state / "sink",
        every_ms=settings.sink_every_ms,
        rows=settings.sink_rows,
        event_log=settings.event_log and (shared or part.moves),
        session_timeout_ms=settings.session_timeout_ms,
        instance=instance,
    )
    Sink(wanted, codec(settings), part.fate).run()


def producer(settings: Settings, on_error: Callable[[DeliveryError], None] | None = None) -> MeterlineProducer:
    """The public client on this deployment. Raises as ``publisher`` does."""
    from pipeline.kafka.client import MeterlineProducer

    await_kafka(settings)
    registry = settings.schema_registry or None
    return MeterlineProducer(
        quiet_kafka(settings), namespace=settings.namespace, schema_registry=registry, on_error=on_error
    )


def clickhouse(settings: Settings) -> Server:
    """Where ClickHouse is, and who we are there."""
    from pipeline.clickhouse.connection import Server

    return Server(
        settings.clickhouse, settings.namespace, settings.clickhouse_user, settings.clickhouse_password.reveal()
    )


def audit_sources(
    settings: Settings, generation: int | None, states: tuple[Path, ...], *, tables: bool
) -> AuditSources:
    """What an audit compares: of one generation, or of the live one. ``states``: directories of workers' stores.

    Raises Refusal for a generation that is not there.
    """
    from pipeline.kafka.topics import topics_of_generation
    from pipeline.replay.audit import AuditSources
    from pipeline.replay.following import rules_of, snapshots_of
    from pipeline.worker.inspection import inspected

    known = ledger(settings).read()
    wanted = known.live if generation is None else known.of(generation)
    snapshots = snapshots_of(settings.snapshots, settings.namespace, wanted.number)
    return AuditSources(
        kafka=quiet_kafka(settings),
        topics=topics_of_generation(settings.namespace, wanted),
        rules=rules_of(wanted, settings.rules),
        codec=functools.partial(codec, settings),
        clickhouse=clickhouse(settings) if tables else None,
        images=functools.partial(inspected, states, snapshots, wanted.number),
    )


def lag_reader(settings: Settings) -> LagReader:
    """Tells how far the worker's and the sink's groups have come."""
    from pipeline.kafka.lag import LagReader

    return LagReader(quiet_kafka(settings))


def run_gateway(settings: Settings) -> int:
    """Run one gateway until a signal stops it; the exit code."""
    from pipeline.gateway.assembly import run
    from pipeline.gateway.parts import GatewaySettings

    wanted = GatewaySettings(
        kafka=quiet_kafka(settings),
        namespace=settings.namespace,
        rules=settings.rules,
        secrets=gateway_secrets(settings),
        clickhouse=clickhouse(settings),
        listen=settings.gateway_listen,
        metrics=settings.gateway_metrics,
        requests_max=settings.gateway_requests,
        webhooks=webhook_endpoints(settings),
        event_log=settings.event_log,
    )
    return run(wanted, codec(settings))


def webhook_endpoints(settings: Settings) -> tuple[Endpoint, ...]:
    """Where events are sent. Raises SettingsError that names the line."""
    from pipeline.gateway.webhook_endpoints import read_endpoints

    try:
        return read_endpoints(settings.webhooks.reveal())
    except ValueError as error:
        raise SettingsError(f"settings: METERLINE_WEBHOOKS: expected {error}") from error


def gateway_secrets(settings: Settings) -> Secrets:
    """The gateway's secrets by name, the signing one first. Raises SettingsError when there are none."""
    from pipeline.gateway.parts import Secrets

    if not (text := settings.gateway_secrets.reveal()):
        raise SettingsError(
            "METERLINE_GATEWAY_SECRETS is empty: give every gateway the same, for example "
            'METERLINE_GATEWAY_SECRETS="2026:$(openssl rand -hex 32)"'
        )
    return Secrets({name: secret.encode() for name, _, secret in (part.partition(":") for part in text.split(","))})


@contextlib.asynccontextmanager
async def catalog_session(settings: Settings) -> AsyncIterator[CatalogMemory]:
    """The catalog, read to its end, for a command that changes it. Raises as ``publisher`` does."""
    from pipeline.gateway.catalog import CatalogMemory
    from pipeline.kafka.acknowledged import Acknowledged
    from pipeline.kafka.reading import partitions_of

    kafka, names = quiet_kafka(settings), topics(settings)
    partitions_of(kafka, names.catalog)
    journal = Acknowledged(kafka)
    catalog = CatalogMemory(kafka, names, codec(settings), journal)
    await catalog.start()
    try:
        await catalog.ready(CATALOG_READ_S)
        yield catalog
    finally:
        await catalog.stop()
        await journal.close()


def _written_by_stack(home: Path) -> dict[str, str]:
    from pipeline.local.home import Home

    return {name: text for name, text in Home.at(home).read_env().items() if name.startswith("METERLINE_")}
