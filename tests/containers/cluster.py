"""Three brokers, and gateways and workers of our image, as containers that a test kills, freezes and cuts off.

On the network ``inside`` they reach one another by name; through a second one, which each has for itself, the test
reaches them from this machine. Who is cut off from ``inside`` is alone, and can still be looked at.
"""

from __future__ import annotations

import itertools
from functools import partial
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from docker.models.containers import Container

from pipeline.local import ports
from tests.containers import engine
from tests.containers.pair import BROKER, broker_properties
from tests.workers import patiently, until

BROKERS = (1, 2, 3)
REPLICAS = {
    "KAFKA_DEFAULT_REPLICATION_FACTOR": "3",
    "KAFKA_MIN_INSYNC_REPLICAS": "2",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "3",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "3",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "2",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "3",
    "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "2",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": ",".join(f"{n}@kafka-{n}:9093" for n in BROKERS),
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_LISTENERS": "INSIDE://:19092,OUTSIDE://:9092,CONTROLLER://:9093",
    "KAFKA_REPLICA_LAG_TIME_MAX_MS": "5000",
    "KAFKA_HEAP_OPTS": "-Xms64m -Xmx320m",
}
INSIDE_SERVERS = ",".join(f"kafka-{n}:19092" for n in BROKERS)
_numbers = itertools.count(1)


class Cluster:
    """All containers of one test module. ``disk_mb``: the size of each broker's disk, which is in memory."""

    def __init__(self, disk_mb: int) -> None:
        self._name = f"{engine.PREFIX}cluster{next(_numbers)}-"
        self._disk_mb = disk_mb
        self._ports = dict(zip(BROKERS, ports.choose((0,) * len(BROKERS)), strict=True))
        self.servers = ",".join(f"127.0.0.1:{port}" for port in self._ports.values())
        self.config = {"bootstrap.servers": self.servers, "log_level": 0, "reconnect.backoff.max.ms": 500}
        self._made: list[Any] = []
        self._volumes: list[Any] = []
        self._inside: dict[str, Container] = {}
        """By their names on the inside network."""
        self.brokers: dict[int, Container] = {}

    def __enter__(self) -> Self:
        docker = engine.client()
        try:
            self.inside = docker.networks.create(f"{self._name}inside", driver="bridge", internal=True)
            self._made.append(self.inside)
            for number in BROKERS:
                self.brokers[number] = self._broker(number)
            self._client = AdminClient(self.config)
            self.await_whole()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            self.show_logs()
        self._end()

    def show_logs(self) -> None:
        for container in (one for one in self._made if isinstance(one, Container)):
            print(f"--- {container.name}:\n{container.logs(tail=25).decode(errors='replace')}")

    def _end(self) -> None:
        # Containers first: a network or a volume that is in use stays.
        for one in reversed(self._made):
            if isinstance(one, Container):
                one.remove(force=True, v=True)
        for one in (*self._made, *self._volumes):
            if not isinstance(one, Container):
                one.remove()

    def _broker(self, number: int) -> Container:
        environ = broker_properties() | BROKER | REPLICAS
        environ["KAFKA_NODE_ID"] = str(number)
        advertised = f"INSIDE://kafka-{number}:19092,OUTSIDE://127.0.0.1:{self._ports[number]}"
        environ["KAFKA_ADVERTISED_LISTENERS"] = advertised
        return self._run(
            f"kafka-{number}",
            engine.kafka_image(),
            None,
            environ,
            {"9092/tcp": ("127.0.0.1", self._ports[number])},
            {self._disk(number).name: {"bind": "/var/lib/kafka/data"}},
        )

    def _disk(self, number: int) -> Any:
        """A volume of a fixed size, kept mounted by a container that does nothing else: its memory would be gone."""
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"size={self._disk_mb}m,mode=0777"}
        volume = engine.client().volumes.create(f"{self._name}disk-{number}", driver="local", driver_opts=options)
        self._volumes.append(volume)
        keeper = engine.client().containers.create(
            engine.own_image(),
            ["-c", "import signal; signal.pause()"],
            entrypoint="python",
            name=f"{self._name}keeper-{number}",
            user="1000",
            network_mode="none",
            volumes={volume.name: {"bind": "/disk"}},
        )
        self._made.append(keeper)
        keeper.start()
        return volume

    def on_disk(self, number: int, code: str) -> str:
        """Run a line of Python where broker ``number``'s disk is mounted at /disk; what it prints."""
        return engine.docker_cli("exec", f"{self._name}keeper-{number}", "python", "-c", code).strip()

    def _run(
        self,
        name: str,
        image: str,
        command: list[str] | None,
        environ: dict[str, str],
        published: dict[str, Any] | None = None,
        volumes: dict[str, Any] | None = None,
        **options: Any,
    ) -> Container:
        """A container on both networks, ``name`` being its name inside."""
        # None for several: they would find each other by name on that one, too.
        outside = engine.client().networks.create(f"{self._name}outside-{name}", driver="bridge")
        self._made.append(outside)
        made = engine.client().containers.create(
            image,
            command,
            name=f"{self._name}{name}",
            hostname=name,
            environment=environ,
            network=outside.name,
            ports=published or {},
            volumes=volumes or {},
            **options,
        )
        self._made.append(made)
        self._inside[name] = made
        self.inside.connect(made, aliases=[name])
        made.start()
        return made

    # Ours.

    def part(self, name: str, command: str, **environ: str) -> Container:
        """A process of our image: ``worker`` or ``gateway``. ``environ``: settings by the second part of their name."""
        mine = {"METERLINE_KAFKA": INSIDE_SERVERS} | {f"METERLINE_{key}": text for key, text in environ.items()}
        return self._run(
            name,
            engine.own_image(),
            [command],
            mine,
            read_only=True,
            tmpfs={"/tmp": "mode=1777"},
            cap_drop=["ALL"],
            # What cannot be sure ends itself; that it is started again is a supervisor's part.
            restart_policy={"Name": "on-failure"},
        )

    def gateway(self, name: str, **environ: str) -> tuple[Container, str]:
        """A gateway, and its URL from here."""
        (port,) = ports.choose((0,))
        mine = {"METERLINE_KAFKA": INSIDE_SERVERS, "METERLINE_GATEWAY_LISTEN": "0.0.0.0:8484"}
        mine |= {f"METERLINE_{key}": text for key, text in environ.items()}
        published = {"8484/tcp": ("127.0.0.1", port)}
        made = self._run(name, engine.own_image(), ["gateway"], mine, published, read_only=True)
        return made, f"http://127.0.0.1:{port}"

    # What is done to them.

    def cut(self, container: Container) -> None:
        """Take it off the inside network: what it sends there goes nowhere, and nothing is said to anybody."""
        self.inside.disconnect(container)

    def join(self, container: Container) -> None:
        """Put it back on the inside network, under its name."""
        (name,) = (name for name, one in self._inside.items() if one == container)
        self.inside.connect(container, aliases=[name])

    def heal(self) -> None:
        """Bring everybody back: started, running on, and on the network; wait until no replica is out of sync."""
        for container in self._inside.values():
            container.reload()
            if container.status == "paused":
                container.unpause()
            elif container.status == "exited":
                container.start()
            container.reload()
            if self.inside.name not in container.attrs["NetworkSettings"]["Networks"]:
                self.join(container)
        self.await_whole()

    # What they say.

    def await_whole(self) -> None:
        """Wait until every broker serves and every replica is in sync."""
        until(self._is_whole, "three brokers, every replica in sync", 180)

    def _is_whole(self) -> bool:
        try:
            known = self._client.list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [part for topic in known.topics.values() for part in topic.partitions.values()]
        return len(known.brokers) == len(BROKERS) and all(len(part.isrs) == len(part.replicas) for part in partitions)

    def leader(self, topic: str, partition: int = 0) -> int:
        """The broker that leads a partition now."""
        known = patiently(partial(self._client.list_topics, topic, timeout=10)).topics[topic]
        return int(known.partitions[partition].leader)

    def coordinator(self, group: str) -> int:
        """The broker that looks after a consumer group."""
        found = patiently(lambda: self._client.describe_consumer_groups([group])[group].result(20))
        return int(found.coordinator.id)
