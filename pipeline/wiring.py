"""The one place of assembly: settings in, connected parts out.

Imports stand inside the functions, so that a command pays only for what it uses.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.clickhouse.connection import Server
    from pipeline.codec.records import Codec
    from pipeline.gateway.catalog import CatalogMemory
    from pipeline.gateway.parts import Secrets
    from pipeline.kafka.client import MeterlineProducer
    from pipeline.kafka.lag import LagReader
    from pipeline.kafka.producer import DeliveryError, Publisher
    from pipeline.kafka.topics import Topics

HOME_DEFAULT = ".meterline"
CATALOG_READ_S = 30.0


def home_of(environ: Mapping[str, str]) -> Path:
    """The directory of the laptop stack: METERLINE_HOME, else .meterline in the working directory."""
    return Path(environ.get("METERLINE_HOME") or HOME_DEFAULT)


def settings_environ(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The METERLINE_* variables in force: those of the environment, else those that the laptop stack wrote down."""
    given = os.environ if environ is None else environ
    mine = {name: text for name, text in given.items() if name.startswith("METERLINE_")}
    return {**_written_by_stack(home_of(given) / "env"), **mine}


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
    from pipeline.kafka.producer import Publisher
    from pipeline.kafka.reading import partitions_of

    for topic in (topics(settings).journal, topics(settings).adjustments):
        partitions_of(quiet_kafka(settings), topic)
    return Publisher(quiet_kafka(settings), on_error)


def run_worker(settings: Settings) -> None:
    """Run one worker until a signal stops it."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one worker, one core; read when Polars is first imported
    from pipeline.stream.app import log_to_stderr
    from pipeline.worker.app import Worker, WorkerSettings
    from pipeline.worker.slots import claimed

    log_to_stderr()
    wanted = WorkerSettings(
        kafka=settings.librdkafka,
        namespace=settings.namespace,
        rules=settings.rules,
        state=claimed(settings.state),
        snapshots=settings.snapshots,
        snapshot_every_ms=settings.snapshot_every_ms,
        flush_every_ms=settings.flush_every_ms,
        flush_records=settings.flush_records,
        session_timeout_ms=settings.session_timeout_ms,
    )
    Worker(wanted, codec(settings)).run()


def run_sink(settings: Settings) -> None:
    """Run one sink until a signal stops it."""
    from pipeline.sink.app import Sink, SinkSettings
    from pipeline.stream.app import log_to_stderr

    log_to_stderr()
    wanted = SinkSettings(
        kafka=settings.librdkafka,
        namespace=settings.namespace,
        clickhouse=clickhouse(settings),
        work_dir=settings.state / "sink",
        every_ms=settings.sink_every_ms,
        rows=settings.sink_rows,
        event_log=settings.event_log,
        session_timeout_ms=settings.session_timeout_ms,
    )
    Sink(wanted, codec(settings)).run()


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


def lag_reader(settings: Settings) -> LagReader:
    """Tells how far the worker's and the sink's groups have come."""
    from pipeline.kafka.lag import LagReader

    return LagReader(quiet_kafka(settings))


def gateway_secrets(settings: Settings) -> Secrets:
    """The gateway's secrets by name, the signing one first. Raises SettingsError when there are none."""
    from pipeline.gateway.parts import Secrets

    text = settings.gateway_secrets.reveal()
    if not text:
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


def _written_by_stack(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    pairs = (line.removeprefix("export ").partition("=") for line in lines if line and not line.startswith("#"))
    return {name: text.strip("'\"") for name, _, text in pairs if name.startswith("METERLINE_")}
