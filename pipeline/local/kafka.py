"""Real Apache Kafka on this machine: one or three KRaft brokers, each a JVM that is broker and controller at once.

Listens on 127.0.0.1 only. The cluster's data is in ``<directory>/broker-<n>``; a broker that was killed finds there
everything that it acknowledged (a power cut is another matter: Kafka leaves flushing to the operating system).
"""

from __future__ import annotations

import base64
import functools
import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.errors import MeterlineError, UsageError
from pipeline.local.jars import java, kafka_jars
from pipeline.local.program import Program
from pipeline.local.resources import infra

# C1 code and the serial collector: ready in 3.0 s instead of 4.4 s, 290 MB resident instead of 335 MB, and half the
# CPU over the first million records, which is more than most laptop stacks ever see (measured, two cores).
_JVM = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster keeps its files and which ports its brokers have: one entry per broker in both port lists."""

    directory: Path
    logs: Path
    ports: tuple[int, ...]
    controller_ports: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.ports) == len(self.controller_ports) >= 1

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def programs(self) -> list[Program]:
        """The brokers, formatted and ready to start. Fetches Kafka's jars and formats new directories first."""
        command, jars = java(), kafka_jars()
        self._format(command, jars)
        return [self._broker(node, command, jars) for node in range(1, len(self.ports) + 1)]

    def ready(self) -> bool:
        """Whether every broker is registered and serves clients, and is ours: a port can have been taken by another."""
        try:
            found = _client(self.bootstrap).list_topics(timeout=1.0)
        except KafkaException:
            return False
        return str(found.cluster_id) == self._cluster_id() and len(found.brokers) == len(self.ports)

    def _cluster_id(self) -> str:
        lines = (self.directory / "broker-1" / "meta.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    def _broker(self, node: int, command: str, jars: Path) -> Program:
        name = f"kafka-{node}" if len(self.ports) > 1 else "kafka"
        argv = (
            command,
            *_JVM,
            *self._logging(name),
            *("-cp", f"{jars}/*", "kafka.Kafka", str(self._configure(node, self.directory / f"broker-{node}"))),
        )
        return Program(name, argv, self.logs / f"{name}.out", os.environ, self.ready, grace_s=15.0)

    def _logging(self, name: str) -> tuple[str, str]:
        return (
            f"-Dmeterline.log={self.logs / f'{name}.log'}",
            f"-Dlog4j2.configurationFile={infra('kafka', 'log4j2.xml')}",
        )

    def _configure(self, node: int, data: Path) -> Path:
        """Write the properties file of a broker whose records live in ``data``."""
        listeners = f"PLAINTEXT://127.0.0.1:{self.ports[node - 1]}"
        controller = f"CONTROLLER://127.0.0.1:{self.controller_ports[node - 1]}"
        voters = (f"{n}@127.0.0.1:{port}" for n, port in enumerate(self.controller_ports, 1))
        replicas, in_sync = (3, 2) if len(self.ports) >= 3 else (1, 1)
        own = {
            "node.id": node,
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"{listeners},{controller}",
            "advertised.listeners": listeners,
            "log.dirs": data,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
        }
        path = data.with_suffix(".properties")
        common = infra("kafka", "broker.properties").read_text()
        path.write_text(common + "\n" + "".join(f"{name}={value}\n" for name, value in own.items()))
        return path

    def _format(self, command: str, jars: Path) -> None:
        """Format every broker's directory if there are none yet: all of them, or none that anybody sees."""
        if self.directory.is_dir():
            known = len(list(self.directory.glob("broker-?")))
            if known != len(self.ports):
                # The voters of a KRaft quorum are settled by its first start.
                raise UsageError(
                    f"{self.directory} holds a cluster of {known} broker(s), not {len(self.ports)}: start it with "
                    f"--brokers {known}, or choose another --home"
                )
            return
        new = self.directory.with_name(f"{self.directory.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        running = []
        for node in range(1, len(self.ports) + 1):
            config = self._configure(node, new / f"broker-{node}")
            argv = [command, *_JVM, *self._logging("kafka-format"), "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
            # One word: an id may begin with a minus, and would be taken for an option.
            argv += ["format", f"--cluster-id={cluster_id}", "--config", str(config)]
            running.append(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        said = [process.communicate()[0].decode(errors="replace") for process in running]
        for process, text in zip(running, said, strict=True):
            if process.returncode != 0:
                raise MeterlineError(f"Kafka could not format {new}:\n{text}")
        new.rename(self.directory)


@functools.lru_cache(maxsize=4)
def _client(bootstrap: str) -> AdminClient:
    """One client for all questions, silent: librdkafka would report every refused connection of a starting broker."""
    # By default it would look for a restarted broker only every ten seconds.
    quick = {"reconnect.backoff.max.ms": 200, "socket.timeout.ms": 2000}
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **quick})


class Members:
    """Asks a cluster which members a consumer group has got since now.

    Those that it has now are gone, killed with an earlier run of the stack; the group keeps them for a session's time.
    """

    def __init__(self, bootstrap: str, group: str) -> None:
        self._client, self._group = _client(bootstrap), group
        self._gone = self._members()

    def count(self) -> int:
        """Members among whom partitions are shared out; 0 while that is not settled or nobody answers."""
        return len(self._members() - self._gone)

    def _members(self) -> set[str]:
        try:
            found = self._client.describe_consumer_groups([self._group], request_timeout=2.0)[self._group].result()
        except KafkaException:
            return set()
        return {member.member_id for member in found.members if found.state == ConsumerGroupState.STABLE}
