"""A namespace that is rebuilt while it works: regular processes, traffic, a reader, and the commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.codec.records import Codec
from pipeline.domain.checks import check_cancellation
from pipeline.domain.events import Adjustment, MeterEvent
from pipeline.domain.generations import Generations
from pipeline.domain.limits import VALUE_UNIT, FoldRules
from pipeline.errors import UndecodableRecord
from pipeline.kafka.generations import GenerationLedger
from pipeline.kafka.topics import Topics
from tests.conftest import Stack
from tests.oracle import World, expected, read_topic
from tests.sinks import SinkGroup, SinkProcess, stored
from tests.traffic import Traffic, assert_each_counts_once
from tests.workers import Deployment, until

PARTITIONS = 3
WATCHED = "watched"
"""An event name of which every event is worth 1 and none is taken back: its numbers only ever grow."""
ENDS_WITHIN_S = 300.0
NAMED = ("INSTANCE", "SESSION_TIMEOUT")


class Command:
    """A ``meterline`` command in the background."""

    def __init__(
        self, arguments: tuple[str, ...], environ: dict[str, str], log: Path, largest_file: int | None = None
    ) -> None:
        """``largest_file``: in bytes; what is written beyond fails, as on a disk that is full."""
        self._log = log
        limit = () if largest_file is None else ("prlimit", f"--fsize={largest_file}")
        with log.open("ab") as file:
            self.run = subprocess.Popen(
                [*limit, sys.executable, "-m", "pipeline.cli", *arguments],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> int:
        """Wait for its end; the exit code."""
        try:
            return self.run.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(self.said) from error

    def kill(self) -> None:
        self.run.kill()
        self.run.wait(ENDS_WITHIN_S)

    def crew(self, role: str) -> list[int]:
        """The ids of its own workers or sinks."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                stat = (path / "stat").read_text().rpartition(")")[2].split()
                words = (path / "cmdline").read_bytes().split(b"\0")
                if int(stat[1]) == self.run.pid and role.encode() in words:
                    found.append(int(path.name))
        return found

    def kill_crew(self, role: str) -> None:
        """Kill one of its own workers or sinks as soon as there is one."""
        until(lambda: bool(self.crew(role)) or self.run.poll() is not None, f"a {role} of the rebuild")
        for pid in self.crew(role):
            os.kill(pid, signal.SIGKILL)


class Site:
    """A deployment with a worker and a sink that follow the live generation."""

    def __init__(self, stack: Stack, deployment: Deployment, client: Client) -> None:
        self.stack = stack
        self.deployment = deployment
        self.namespace = deployment.namespace
        self.home = deployment.home
        self.client = client
        self.traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=11)
        self.ledger = GenerationLedger({"bootstrap.servers": stack.kafka}, self.namespace, Codec())
        self._commands: list[Command] = []
        self._sent = [0]
        """How many events of WATCHED there are."""
        self._sinks: list[SinkProcess] = []
        self.worker = deployment.worker("worker")
        self.sink = self.start_sink()

    def supervise(self) -> None:
        """Start the worker again if it has ended, as its supervisor would."""
        self.worker.ends_by_itself = False
        if not self.worker.alive():
            self.worker = self.deployment.worker("worker")
            self.worker.ends_by_itself = False

    def end_of(self, command: Command) -> int:
        """The exit code of a command that closes a journal, which ends a worker that has a cancellation for it."""
        until(lambda: self.supervise() or command.run.poll() is not None, "the command ends", ENDS_WITHIN_S)
        return command.end()

    def start_sink(self) -> SinkProcess:
        named = {name: text for name in NAMED if (text := self.deployment.environ.get(f"METERLINE_{name}"))}
        self.sink = SinkProcess(self.home, self.stack.kafka, self.stack.clickhouse, self.namespace, **named)
        self._sinks.append(self.sink)
        return self.sink

    def command(self, *arguments: str, largest_file: int | None = None, **environ: str) -> Command:
        more = {f"METERLINE_{name}": text for name, text in environ.items()}
        own = {
            "METERLINE_CLICKHOUSE": self.stack.clickhouse,
            "METERLINE_STATE": str(self.home / "command"),
            "METERLINE_SINK_EVERY": "50ms",
        }
        log = self.home / f"command-{len(self._commands)}.log"
        one = Command(arguments, {**self.deployment.environ, **own, **more}, log, largest_file)
        self._commands.append(one)
        return one

    def rebuild(self, *arguments: str, largest_file: int | None = None, **environ: str) -> Command:
        return self.command("rebuild", "--processes", "1", *arguments, largest_file=largest_file, **environ)

    def generations(self) -> Generations:
        return self.ledger.read()

    @property
    def topics(self) -> Topics:
        """Of the live generation."""
        live = self.generations().live
        return Topics(self.namespace, live.number, live.journal)

    @property
    def rules(self) -> FoldRules:
        """Of the live generation."""
        return FoldRules.of_version(self.generations().live.fold)

    def age_ms(self) -> int:
        """How long ago the newest journal record was appended, by the broker's clock."""
        newest = max(read.appended_at_ms for read in read_topic(self.stack.kafka, self.topics.journal))
        return int(time.time() * 1000) - newest

    def end(self) -> None:
        for command in self._commands:
            for role in ("worker", "sink"):
                for pid in command.crew(role):
                    os.kill(pid, signal.SIGKILL)
            if command.run.poll() is None:
                command.kill()
        for sink in self._sinks:
            sink.end()

    def tell(self) -> None:
        for command in self._commands:
            print(f"--- {command.run.args}:\n{command.said[-3000:]}")
        for sink in self._sinks[-1:]:
            print(f"--- the end of the sink's log:\n{sink.log[-2000:]}")
        for log in (self.home / "command").rglob("*.log"):
            print(f"--- {log.name}:\n{log.read_text()[-2000:]}")

    def settle(self) -> None:
        """Wait until the live generation's worker and sink have done everything."""
        self.deployment.follow(self.topics)
        self.deployment.settle()
        group = SinkGroup(self.stack.kafka, self.namespace, self.topics)
        try:
            until(lambda: group.behind() == 0, "the sink has done everything")
        finally:
            group.close()

    def assert_exact(self, rules: FoldRules | None = None) -> None:
        """What the views show is what the specification says of the journal, in every field."""
        self.settle()
        world, _ = expected(self.stack.kafka, self.namespace, rules or self.deployment.rules, PARTITIONS)
        found = stored(self.client)
        assert found.shards == world.shards
        assert found.dispositions == world.dispositions

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Send events of WATCHED all the time and read their sums: they never shrink and never exceed what was sent."""
        stop, faults, sent = threading.Event(), list[str](), self._sent
        threads = [
            threading.Thread(target=self._send_watched, args=(stop, sent, faults)),
            threading.Thread(target=self._read_watched, args=(stop, sent, faults)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not faults, faults[:3]
        self.settle()
        with connect(Server(self.stack.clickhouse, self.namespace)) as client:
            assert _watched(client) == (sent[0], sent[0])

    def _send_watched(self, stop: threading.Event, sent: list[int], faults: list[str]) -> None:
        producer, codec = Producer({"bootstrap.servers": self.stack.kafka, "partitioner": "murmur2_random"}), Codec()
        while not stop.wait(0.03):
            number, now_ms = sent[0], int(time.time() * 1000)
            event = MeterEvent(f"w{number}", WATCHED, f"c{number % 5}", VALUE_UNIT, now_ms, (), True)
            sent[0] += 1  # before it is sent: a reader must not see more
            producer.produce(self.deployment.topics.journal, codec.encode_event(event), event.identifier)
            producer.poll(0)
        if producer.flush(60):
            faults.append("the broker does not take what is sent")

    def _read_watched(self, stop: threading.Event, sent: list[int], faults: list[str]) -> None:
        before = 0
        with connect(Server(self.stack.clickhouse, self.namespace)) as client:
            while not stop.wait(0.02):
                events, total = _watched(client)
                if not before <= events <= sent[0] or events != total:
                    faults.append(f"{events} events with a sum of {total} after {before}, and {sent[0]} were sent")
                before = max(before, events)


def assert_acted_on(kafka: str, traffic: Traffic, world: World) -> None:
    """What live workers do beside folding: each record that nobody can use has a letter, and each stray found home."""
    names, codec = traffic.topics, traffic.codec
    unusable = {}
    for topic, decode in ((names.journal, codec.decode_journal), (names.adjustments, codec.decode_adjustment)):
        for read in read_topic(kafka, topic):
            try:
                content = decode(read.value)
            except UndecodableRecord as error:
                unusable[topic, read.partition, read.offset] = error.reason
            else:
                if isinstance(content, Adjustment) and (reason := check_cancellation(content, content.id)):
                    unusable[topic, read.partition, read.offset] = reason
    letters = {}
    for read in read_topic(kafka, names.dead_letters):
        place = {name: text.decode() for name, text in read.headers.items()}
        letters[place["topic"], int(place["partition"]), int(place["offset"])] = place["reason"]
    assert unusable
    assert letters == unusable
    assert traffic.strays
    assert_each_counts_once(kafka, traffic, world, WATCHED)


def _watched(client: Client) -> tuple[int, int]:
    """(events, sum) of WATCHED as the views show them."""
    sql = "SELECT sum(count), sum(sum) FROM summary_shards WHERE event_name = {name:String}"
    ((events, total),) = client.query(sql, parameters={"name": WATCHED}).result_rows
    return int(events), int(total)


@contextlib.contextmanager
def site(stack: Stack, namespace: str, home: Path, *, partitions: int = PARTITIONS, **environ: str) -> Iterator[Site]:
    """Everything of it is gone at the end; its logs are shown when the test failed."""
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    snapshots = {"SNAPSHOTS": (home / "snapshots").as_uri(), "SNAPSHOT_EVERY": "5s"}
    with (
        Deployment(stack.kafka, namespace, home, partitions=partitions, **{**snapshots, **environ}) as deployment,
        connect(server) as client,
    ):
        found = Site(stack, deployment, client)
        try:
            yield found
        except BaseException:
            found.tell()
            raise
        finally:
            found.end()
