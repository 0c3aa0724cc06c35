"""The services a benchmark runs on, and a deployment of its own on them: topics, tables, processes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupState, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.kafka import admin
from pipeline.kafka.topics import TABLE, Topics
from pipeline.local.home import Home
from pipeline.local.services import Ports, end, start_services

PARTITIONS = 8
PATIENCE_S = 900.0
_LOOK_EVERY_S = 0.05
_numbers = itertools.count(1)


def until(holds: Callable[[], bool], what: str, every_s: float = _LOOK_EVERY_S) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(every_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """Kafka's bootstrap servers, ClickHouse's URL, and a directory for what processes keep."""

    kafka: str
    clickhouse: str
    directory: Path
    clickhouse_pid: int | None
    """None when ClickHouse is somebody else's."""
    say: Callable[[str], None]
    """Called with what is being done."""

    @contextlib.contextmanager
    def deployment(self, name: str) -> Iterator[Deployment]:
        """A fresh namespace with its topics and tables, gone afterwards."""
        deployment = Deployment(self, f"bench_{os.getpid()}_{next(_numbers)}_{name}")
        config = deployment.config
        self.say("topics and tables")
        admin.create(config, deployment.namespace, PARTITIONS, replication=1)
        list(migrate(deployment.server))
        try:
            yield deployment
        finally:
            client = AdminClient(config)
            for future in client.delete_topics([deployment.topics.name(topic) for topic in TABLE]).values():
                future.result()
            with connect(deployment.server, database="default") as engine:
                engine.command(f"DROP DATABASE {deployment.namespace}")


@contextlib.contextmanager
def own_stage(say: Callable[[str], None]) -> Iterator[Stage]:
    """A broker and the ClickHouse engine in a temporary home on free ports; both end with the context."""
    with tempfile.TemporaryDirectory(prefix="meterline-bench-") as directory:
        services = start_services(Home.at(Path(directory)).make(), Ports.any(brokers=1), say)
        try:
            pid = next(one.run.pid for one in services.running if one.program.name == "clickhouse")
            yield Stage(services.kafka, services.clickhouse, Path(directory), pid, say)
        finally:
            end(services.running)


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """One benchmark's namespace."""

    stage: Stage
    namespace: str

    @property
    def topics(self) -> Topics:
        return Topics(self.namespace)

    @property
    def config(self) -> dict[str, Any]:
        """How librdkafka connects."""
        return {"bootstrap.servers": self.stage.kafka, "log_level": 0}

    @property
    def server(self) -> Server:
        return Server(self.stage.clickhouse, self.namespace)

    def say(self, what: str) -> None:
        self.stage.say(what)

    @contextlib.contextmanager
    def run(self, role: str, **variables: str) -> Iterator[RoleProcess]:
        """A worker or a sink in a process of its own, killed at the end. ``variables``: METERLINE_* without it."""
        directory = self.stage.directory / self.namespace
        directory.mkdir(exist_ok=True)
        environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
        own = {
            "HOME": str(directory),  # where no laptop stack has written down its own addresses
            "KAFKA": self.stage.kafka,
            "CLICKHOUSE": self.stage.clickhouse,
            "NAMESPACE": self.namespace,
            "PARTITIONS": str(PARTITIONS),
            "STATE": str(directory / f"{role}-state"),
            **variables,
        }
        environ |= {f"METERLINE_{name}": text for name, text in own.items()}
        log = directory / f"{role}.log"
        with log.open("wb") as file:
            run = subprocess.Popen([sys.executable, "-m", "pipeline.cli", role], env=environ, stdout=file, stderr=file)
        try:
            yield RoleProcess(self, role, run, log)
        finally:
            run.kill()
            run.wait()


@dataclasses.dataclass(frozen=True, slots=True)
class RoleProcess:
    """A running worker or sink."""

    deployment: Deployment
    role: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def await_log(self, words: str) -> None:
        until(lambda: words in self.checked_log(), f"{self.role}: {words}", 0.02)

    def await_group(self) -> None:
        """Return when the process is in its group with all partitions: from now on it reads."""
        client = AdminClient(self.deployment.config)
        group = self.deployment.topics.group(self.role)

        def stable() -> bool:
            self.checked_log()
            found = client.describe_consumer_groups([group])[group].result()
            return bool(found.members) and found.state == ConsumerGroupState.STABLE

        until(stable, f"{self.role} is in its group")

    def checked_log(self) -> str:
        """What it said so far. AssertionError when it has ended: nobody asked it to."""
        said = self.log.read_text(errors="replace")
        assert self.process.poll() is None, f"the {self.role} ended:\n{said}"
        return said


class Progress:
    """How far a role has come with a topic, by the offsets that it committed."""

    def __init__(self, deployment: Deployment, role: str, topic: str) -> None:
        group = deployment.topics.group(role)
        self._consumer = Consumer({**deployment.config, "group.id": group, "enable.auto.commit": False})
        self._places = [TopicPartition(topic, number) for number in range(PARTITIONS)]

    def committed(self) -> int:
        """Sum over the partitions."""
        places = self._consumer.committed(self._places, timeout=30)
        return sum(max(0, place.offset) for place in places)

    def end(self) -> int:
        """Sum of the offsets behind the last records."""
        return sum(self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in self._places)

    def await_end(self, of: RoleProcess) -> None:
        goal = self.end()

        def there() -> bool:
            of.checked_log()
            return self.committed() >= goal

        until(there, f"{of.role} has committed {goal:,} records")

    def close(self) -> None:
        self._consumer.close()
