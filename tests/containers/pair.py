"""A Kafka and a ClickHouse for a run of the integration tests, in containers that testcontainers starts."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator

from confluent_kafka import KafkaException
from docker.errors import ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from pipeline.kafka.asking import admin_client
from pipeline.local import ports
from tests.containers import engine
from tests.workers import until

BROKER = {
    "CLUSTER_ID": "bWV0ZXJsaW5lLXRlc3RzLg",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
    "KAFKA_HEAP_OPTS": "-Xms64m -Xmx400m",
    # As on the laptop: half the time to start, and tests start many.
    "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}
"""What a broker of the tests has beside infra/kafka/broker.properties."""


def broker_properties() -> dict[str, str]:
    """infra/kafka/broker.properties as the variables from which the image makes properties."""
    text = (engine.ROOT / "infra" / "kafka" / "broker.properties").read_text()
    pairs = (line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in pairs}


def without_reaper() -> None:
    """Testcontainers' own reaper is an image too: where it cannot be had, we clean up alone, by name."""
    try:
        engine.client().images.get(testcontainers_config.ryuk_image)
    except ImageNotFound:
        testcontainers_config.ryuk_disabled = True


@contextlib.contextmanager
def started_pair() -> Iterator[tuple[str, str]]:
    """Kafka's bootstrap server and ClickHouse's URL, serving. Ports are fixed: a broker advertises its own."""
    without_reaper()
    kafka_port, clickhouse_port = ports.choose((0, 0))
    replicas = {
        f"KAFKA_{name}": "1"
        for name in (
            "OFFSETS_TOPIC_REPLICATION_FACTOR",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR",
            "TRANSACTION_STATE_LOG_MIN_ISR",
            "SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR",
            "SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR",
        )
    }
    kafka = (
        DockerContainer(engine.kafka_image())
        .with_name(f"{engine.PREFIX}kafka")
        .with_envs(**broker_properties() | BROKER | replicas)
        # One port inside and outside: to end a transaction, a broker calls itself by the address it advertises.
        .with_env("KAFKA_LISTENERS", f"PLAINTEXT://:{kafka_port},CONTROLLER://127.0.0.1:9093")
        .with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://127.0.0.1:{kafka_port}")
    )
    clickhouse = (
        DockerContainer(engine.clickhouse_image())
        .with_name(f"{engine.PREFIX}clickhouse")
        # The official image would otherwise keep its user without a password to itself; this port is the loopback's.
        .with_env("CLICKHOUSE_SKIP_USER_SETUP", "1")
    )
    # Testcontainers would publish them on every address of this machine.
    kafka.ports[f"{kafka_port}/tcp"] = ("127.0.0.1", kafka_port)  # type: ignore[assignment]
    clickhouse.ports["8123/tcp"] = ("127.0.0.1", clickhouse_port)  # type: ignore[assignment]
    with kafka, clickhouse:
        server = f"127.0.0.1:{kafka_port}"
        url = f"http://127.0.0.1:{clickhouse_port}"
        until(lambda: _answers(server), "the broker answers")
        until(lambda: serves(f"{url}/ping"), "ClickHouse answers")
        yield server, url


def serves(url: str) -> bool:
    """Whether this URL answers with 200 now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _answers(server: str) -> bool:
    try:
        return bool(admin_client({"bootstrap.servers": server, "log_level": 0}).list_topics(timeout=2).brokers)
    except KafkaException:
        return False
