"""Worker processes of a test's own namespace: started, killed, frozen, and waited for until nothing is left to do.

Whoever starts workers does so within ``Deployment``'s ``with``: at its end every process is gone, by its id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.kafka import admin
from pipeline.kafka.topics import Topics
from pipeline.settings import Settings
from tests.oracle import World, expected, published, read_topic

PATIENCE_S = 180.0
"""More than anything takes; on a machine that does much else at the same time, too."""

REFUSES_WITHIN_S = 90.0

T = TypeVar("T")


def until(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


def patiently(ask: Callable[[], T]) -> T:
    """The answer of a broker, which may be away or only just back."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def running(code: str) -> dict[str, str]:
    """The environment in which another state of the repository is run, wherever one stands."""
    return {"PYTHONPATH": code, "PYTHONSAFEPATH": "1"}


class WorkerProcess:
    """One ``meterline worker``, with its state directory and its log."""

    def __init__(self, name: str, state: Path, environ: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.state = state
        self.ends_by_itself = True
        """Until somebody asks it to: then its end is no surprise."""
        self._log = log
        with log.open("ab") as file:
            self.run = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "worker"],
                env={**environ, "METERLINE_STATE": str(state)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def alive(self) -> bool:
        return self.run.poll() is None

    def kill(self) -> None:
        """As a power cut would: nothing is flushed, nothing is said."""
        self.ends_by_itself = False
        self.run.kill()
        assert self.run.wait(PATIENCE_S) == -signal.SIGKILL, self.log

    def stop(self) -> None:
        """Ask it to go; it goes in peace."""
        self.ends_by_itself = False
        self.run.terminate()
        code = self.run.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}:\n{self.log}"

    def freeze(self) -> None:
        self.run.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.run.send_signal(signal.SIGCONT)

    def refusal(self) -> str:
        """Wait for its end: exit code 1 and one line that says why. Returns that line."""
        self.ends_by_itself = False
        try:
            code = self.run.wait(REFUSES_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name} goes on:\n{self.log}") from error
        lines = [line for line in self.log.splitlines() if "stopped:" in line]
        assert (code, len(lines)) == (1, 1), self.log
        assert "Traceback" not in self.log
        return lines[0].partition("stopped: ")[2]

    def end(self) -> None:
        if self.alive():
            self.thaw()
            self.run.kill()
            self.run.wait()


class Deployment:
    """One namespace: its topics, its workers, and what is expected of them."""

    def __init__(self, kafka: str, namespace: str, home: Path, *, partitions: int = 3, **environ: str) -> None:
        """``environ``: settings by the second part of their variable, as ``CANCEL_WINDOW="2s"``."""
        self.kafka = kafka
        self.namespace = namespace
        self.topics = Topics(namespace)
        self.home = home
        self.partitions = partitions
        mine = {
            "METERLINE_HOME": str(home / "no-laptop-stack"),
            "METERLINE_KAFKA": kafka,
            "METERLINE_NAMESPACE": namespace,
            "METERLINE_PARTITIONS": str(partitions),
            "METERLINE_SESSION_TIMEOUT": "3s",
            "METERLINE_FLUSH_EVERY": "30ms",
            **{f"METERLINE_{name}": text for name, text in environ.items()},
        }
        self.rules: FoldRules = Settings.load(mine).rules
        self.environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")} | mine
        self._started: list[WorkerProcess] = []
        self._client = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
        self._consumer = self._new_consumer()

    def _new_consumer(self) -> Consumer:
        group = self.topics.worker_group
        quiet = {"enable.auto.commit": False, "log_level": 0}
        return Consumer({"bootstrap.servers": self.kafka, "group.id": group, **quiet})

    def follow(self, topics: Topics) -> None:
        """From now on look at the workers of another generation."""
        if topics != self.topics:
            self.topics = topics
            self._consumer.close()
            self._consumer = self._new_consumer()

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self.create_topics()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in self._started:
            worker.end()
        self._consumer.close()
        if error is not None:
            for worker in self._started:
                print(f"--- the end of {worker.name}'s log:\n{worker.log[-4000:]}")

    def worker(self, name: str, code: str = "", **environ: str) -> WorkerProcess:
        """Start a worker. One of the same name finds the state that the one before left behind.

        ``code``: a directory with another state of the repository, whose code it runs.
        """
        more = {f"METERLINE_{setting}": text for setting, text in environ.items()}
        if code:
            more |= running(code)
        worker = WorkerProcess(name, self.home / name, self.environ | more, self.home / f"{name}.log")
        self._started = [*(one for one in self._started if one.name != name), worker]
        return worker

    def create_topics(self) -> None:
        """Those that are missing."""
        admin.create({"bootstrap.servers": self.kafka}, self.namespace, self.partitions, 1)

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        for future in self._client.delete_topics([topic]).values():
            future.result(30)
        until(lambda: topic not in self._client.list_topics(timeout=10).topics, f"{topic} is gone")

    def configure(self, topic: str, name: str, text: str) -> None:
        """Set one entry of a topic's configuration, and wait until the broker knows it."""
        entry = ConfigEntry(name, text, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self._client.incremental_alter_configs([resource]).values():
            future.result(30)
        until(
            lambda: admin.describe({"bootstrap.servers": self.kafka}, [topic])[topic].config[name] == text,
            f"{topic} has {name}={text}",
        )

    def places(self, *topics: str) -> list[TopicPartition]:
        known = patiently(partial(self._consumer.list_topics, timeout=30)).topics
        return [TopicPartition(topic, number) for topic in topics for number in sorted(known[topic].partitions)]

    def ends(self, *topics: str) -> dict[tuple[str, int], int]:
        """The offset after the last record of each partition."""
        return {
            (place.topic, place.partition): patiently(partial(self._consumer.get_watermark_offsets, place, 30))[1]
            for place in self.places(*topics)
        }

    def records(self, *topics: str) -> int:
        """How many records were ever appended to these topics."""
        return sum(self.ends(*topics).values())

    def committed(self) -> dict[tuple[str, int], int]:
        """The worker group's offsets."""
        wanted = self.places(self.topics.journal, self.topics.adjustments)
        places = patiently(partial(self._consumer.committed, wanted, 30))
        return {(place.topic, place.partition): max(0, place.offset) for place in places}

    def is_quiet(self) -> bool:
        """Whether all that was appended is done; in this order, because doing may append."""
        died = [worker.name for worker in self._started if worker.ends_by_itself and not worker.alive()]
        assert not died, f"{died} ended by themselves"
        done = self.committed()
        return done == self.ends(self.topics.journal, self.topics.adjustments)

    def await_members(self, count: int) -> None:
        """Wait until this many workers share the journal's partitions out among them, and nobody comes or goes."""
        until(lambda: self._members() == count, f"{count} workers in the group")

    def _members(self) -> int:
        group = self.topics.worker_group
        try:
            found = self._client.describe_consumer_groups([group], request_timeout=10)[group].result(15)
        except KafkaException:
            # Its coordinator is moving, and a client goes on asking the one that it knows.
            self._client = AdminClient({"bootstrap.servers": self.kafka, "log_level": 0})
            return 0
        return len(found.members) if found.state == ConsumerGroupState.STABLE else 0

    def await_progress(self, records: int = 20) -> None:
        """Wait until the workers have published something more."""
        outputs = (self.topics.summaries, self.topics.dispositions)
        before = self.records(*outputs)
        until(lambda: self.records(*outputs) >= before + records, "the workers publish")

    def settle(self) -> None:
        """Wait until nothing is left to do."""
        try:
            until(self.is_quiet, "the workers have done everything")
        except AssertionError as error:
            ends = self.ends(self.topics.journal, self.topics.adjustments)
            behind = {place: (done, ends[place]) for place, done in self.committed().items() if done != ends[place]}
            raise AssertionError(f"{error}; done and to do: {behind}") from error

    def assert_as_specified(self) -> World:
        """Wait until everything is done; then what is published is what the specification says. Returns that."""
        self.settle()
        world, _ = expected(self.kafka, self.namespace, self.rules, self.partitions)
        assert self.is_quiet(), "somebody appended something meanwhile"
        found = published(self.kafka, self.namespace)
        assert found.shards == world.shards
        assert found.dispositions == world.dispositions
        return found

    def since(self, topic: str, ends: Mapping[tuple[str, int], int]) -> Iterator[bytes | None]:
        """The values of a topic from earlier ends on."""
        return (read.value for read in read_topic(self.kafka, topic) if read.offset >= ends[topic, read.partition])

    def published_again(
        self, floor: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]
    ) -> list[tuple[str, int, int]]:
        """(what, partition, offset) of outputs behind these ends that are of the journal below these offsets."""
        codec, journal = Codec(), self.topics.journal
        shards = map(codec.decode_shard, self.since(self.topics.summaries, ends))
        dispositions = map(codec.decode_disposition, self.since(self.topics.dispositions, ends))
        found = [("shard", one.shard, one.version) for one in shards]
        found += [(one.disposition, one.partition, one.decided_offset) for one in dispositions]
        return [one for one in found if one[2] < floor[journal, one[1]]]
