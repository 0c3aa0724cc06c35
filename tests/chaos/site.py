"""A whole deployment of real processes on free ports: three brokers, ClickHouse, gateways, workers and a sink."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import stripe
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline import wiring
from pipeline.clickhouse.connection import Server
from pipeline.gateway.keys import made_key
from pipeline.kafka.topics import Topics, topics_of_generation
from pipeline.local import ports
from pipeline.local.home import Home
from pipeline.local.program import Program
from pipeline.local.services import Running, await_ready, clickhouse_program
from pipeline.settings import Settings
from tests.chaos.cluster import GatedCluster, gated_cluster
from tests.chaos.kept import Keeper
from tests.chaos.load import EVENT_NAMES, Access
from tests.gate import Gate
from tests.workers import until

NAMESPACE = "chaos"
SECRETS = "first:" + "0123456789abcdef" * 2
READY_WITHIN_S = 120.0
COMMAND = (sys.executable, "-m", "pipeline.cli")


class Shape(NamedTuple):
    """How much of everything."""

    partitions: int = 6
    workers: int = 3
    gateways: int = 2
    brokers: int = 3
    session_s: int = 6
    """The shortest that a broker allows by its own defaults."""


class Site:
    """Runs within ``standing``."""

    def __init__(self, home: Path, shape: Shape, cluster: GatedCluster, clickhouse: int, gate: Gate) -> None:
        self.home, self.shape, self.cluster = home, shape, cluster
        self.kafka = cluster.bootstrap
        """Past all gates."""
        self.server = Server(f"http://127.0.0.1:{clickhouse}", NAMESPACE)
        self.clickhouse_gate = gate
        self.keeper = Keeper()
        self.gateway_ports = tuple(ports.choose((0,) * shape.gateways))
        others = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
        self.environ = others | {
            "METERLINE_HOME": str(home / "no-laptop-stack"),
            "METERLINE_NAMESPACE": NAMESPACE,
            "METERLINE_KAFKA": self.kafka,
            "METERLINE_CLICKHOUSE": self.server.url,
            "METERLINE_PARTITIONS": str(shape.partitions),
            "METERLINE_REPLICATION": str(min(3, shape.brokers)),
            "METERLINE_SESSION_TIMEOUT": f"{shape.session_s}s",
            "METERLINE_SNAPSHOTS": (home / "snapshots").as_uri(),
            "METERLINE_SNAPSHOT_EVERY": "20s",
            "METERLINE_STATE": str(home / "state"),
            "METERLINE_GATEWAY_METRICS": "off",
            "METERLINE_GATEWAY_SECRETS": SECRETS,
        }
        mine = {name: text for name, text in self.environ.items() if name.startswith("METERLINE_")}
        self.settings = Settings.load(mine)
        quick = {"log_level": 0, "reconnect.backoff.max.ms": 300, "socket.timeout.ms": 3_000}
        self._client = AdminClient({"bootstrap.servers": self.kafka, **quick})
        self.key = ""

    @property
    def access(self) -> Access:
        return Access(self.gateway_ports, self.key, (self.cluster.through("EDGE"), self.kafka), NAMESPACE)

    def topics(self) -> Topics:
        """Of the live generation."""
        return topics_of_generation(NAMESPACE, wiring.ledger(self.settings).read().live)

    def command(self, *arguments: str, timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environ, capture_output=True, text=True, check=False, timeout=timeout_s
        )

    def programs(self, kind: str) -> list[Program]:
        """The processes of ours of one kind, each with its own settings."""
        inner, outside = self.cluster.through("INNER"), self.cluster.through("EDGE")
        own = {
            "worker": [
                # The first has no name among the workers, so its end moves partitions; a named one keeps them.
                {
                    "KAFKA": inner,
                    "STATE": str(self.home / "state" / f"worker-{n}"),
                    "INSTANCE": f"w{n}" if n > 1 else "",
                }
                for n in range(1, self.shape.workers + 1)
            ],
            "sink": [
                {
                    "KAFKA": inner,
                    "STATE": str(self.home / "sink"),
                    "CLICKHOUSE": self.clickhouse_gate.url,
                    "INSTANCE": "sink",
                }
            ],
            "gateway": [
                {"KAFKA": outside, "GATEWAY_LISTEN": f"127.0.0.1:{port}", "CLICKHOUSE": self.clickhouse_gate.url}
                for port in self.gateway_ports
            ],
        }[kind]
        return [
            Program(
                f"{kind}-{number}",
                (*COMMAND, kind),
                self.home / "logs" / f"{kind}-{number}.log",
                self.environ | {f"METERLINE_{name}": text for name, text in settings.items()},
                lambda: True,
            )
            for number, settings in enumerate(own, 1)
        ]

    def start(self) -> None:
        """Return when everything serves."""
        self.keeper.keep("broker", self.cluster.programs())
        port = int(self.server.url.rpartition(":")[2])
        self.keeper.keep("clickhouse", [clickhouse_program(Home.at(self.home), port)])
        await_ready([Running(one.program, one.run) for one in self.keeper.all], READY_WITHIN_S)
        for arguments in (("topics", "create"), ("clickhouse", "migrate")):
            done = self.command(*arguments)
            assert done.returncode == 0, done.stdout + done.stderr
        self.key = new_key(self.settings)
        for kind in ("worker", "sink", "gateway"):
            self.keeper.keep(kind, self.programs(kind))
        for port in self.gateway_ports:
            until(lambda port=port: serves(port), "a gateway serves")  # type: ignore[misc]
        self._make_meters()

    def is_whole(self) -> bool:
        """Whether every broker serves and every replica is in sync."""
        if not all(one.alive() for one in self.keeper.of("broker")):
            return False
        try:
            known = self._client.list_topics(timeout=3)
        except KafkaException:
            return False
        partitions = [part for topic in known.topics.values() for part in topic.partitions.values()]
        return len(known.brokers) == self.shape.brokers and all(
            len(part.isrs) == len(part.replicas) for part in partitions
        )

    def _make_meters(self) -> None:
        http = stripe.RequestsClient()
        url = f"http://127.0.0.1:{self.gateway_ports[0]}"
        client = stripe.StripeClient(self.key, base_addresses={"api": url, "meter_events": url}, http_client=http)
        for name in EVENT_NAMES:
            client.v1.billing.meters.create(
                {"display_name": name, "event_name": name, "default_aggregation": {"formula": "sum"}}
            )
        http.close()


def new_key(settings: Settings) -> str:
    """An API key, as ``meterline keys create`` makes one."""
    key, one = made_key(wiring.gateway_secrets(settings), time.time_ns() // 1_000_000, livemode=True, scopes=None)

    async def write() -> None:
        async with wiring.catalog_session(settings) as catalog:
            await catalog.write(one)

    asyncio.run(write())
    return str(key)


def serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def standing(home: Path, shape: Shape) -> Iterator[Site]:
    """A deployment that serves. At the end of the ``with`` every process of it is gone."""
    home.mkdir(parents=True, exist_ok=True)
    made = Home.at(home).make()
    (clickhouse,) = ports.choose((0,))
    with (
        gated_cluster(made.kafka, made.logs, shape.brokers) as cluster,
        Gate(f"http://127.0.0.1:{clickhouse}") as gate,
    ):
        site = Site(home, shape, cluster, clickhouse, gate)
        with site.keeper:
            site.start()
            yield site
