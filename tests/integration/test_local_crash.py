"""kill -9 of the pieces of the laptop stack, each in a process of its own: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.local import ports
from pipeline.local.home import Home
from pipeline.local.kafka import Cluster
from pipeline.local.program import Broken
from pipeline.local.services import Running, await_ready, clickhouse_program, end

BATCH = 500


@contextlib.contextmanager
def endpoint(home: Home, port: int) -> Iterator[subprocess.Popen[bytes]]:
    program = clickhouse_program(home, port)
    running = [Running(program, program.start())]
    try:
        await_ready(running, 30)
        yield running[0].run
    finally:
        end(running)


def ask(port: int, sql: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}", data=sql.encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode().strip())


def test_kill_9_of_the_endpoint_loses_nothing_that_it_acknowledged(home: Path) -> None:
    """FAULTS D11: the data directory opens again, and every acknowledged insert is there, whole."""
    place, (port,) = Home.at(home).make(), ports.choose([0])
    acknowledged: list[int] = []
    with endpoint(place, port) as run:
        ask(port, "CREATE DATABASE d")
        ask(port, "CREATE TABLE d.t (batch Int64, n Int64) ENGINE = MergeTree ORDER BY (batch, n)")

        def insert() -> None:
            for batch in range(10_000):
                rows = "".join(f"{batch}\t{n}\n" for n in range(BATCH))
                try:
                    ask(port, f"INSERT INTO d.t FORMAT TSV\n{rows}")
                except OSError:
                    return
                acknowledged.append(batch)

        writer = threading.Thread(target=insert)
        writer.start()
        while len(acknowledged) < 25:
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
        writer.join()
    with endpoint(place, port):
        found = ask(port, "SELECT batch, count(), uniqExact(n) FROM d.t GROUP BY batch ORDER BY batch")
        counts = {int(row.split("\t")[0]): row.split("\t")[1:] for row in found.splitlines()}
        assert set(counts) >= set(acknowledged)
        assert set(map(tuple, counts.values())) == {(str(BATCH), str(BATCH))}


def test_a_second_owner_of_the_data_directory_is_refused(home: Path) -> None:
    """FAULTS D11: a clear word, and the first goes on undisturbed."""
    place, (port, other) = Home.at(home).make(), ports.choose([0, 0])
    with endpoint(place, port) as first:
        with pytest.raises(Broken, match=f"is in use by process {first.pid}"), endpoint(place, other):
            pass
        assert ask(port, "SELECT 1") == "1"


def test_a_taken_port_is_said(home: Path) -> None:
    (port,) = ports.choose([0])
    with endpoint(Home.at(home / "first").make(), port):
        argv = [sys.executable, "-m", "pipeline.local.clickhouse", "--data", str(home / "second"), "--port", str(port)]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert said.returncode == 1
        assert said.stderr == f"clickhouse: 127.0.0.1:{port}: Address already in use\n"


def test_sigterm_lets_a_running_insert_finish(home: Path) -> None:
    place, (port,) = Home.at(home).make(), ports.choose([0])
    with endpoint(place, port) as run:
        ask(port, "CREATE DATABASE d")
        ask(port, "CREATE TABLE d.t (n Int64) ENGINE = MergeTree ORDER BY n")
        answers: list[str] = []

        def insert() -> None:
            answers.append(ask(port, "INSERT INTO d.t SELECT number + sleepEachRow(0.02) FROM numbers(50)"))

        writer = threading.Thread(target=insert)
        writer.start()
        while ask(port, "SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == "0":
            time.sleep(0.01)
        run.terminate()
        writer.join()
        assert answers == [""]
        assert run.wait(20) == 0
    with endpoint(place, port):
        assert ask(port, "SELECT count() FROM d.t") == "50"


def test_a_large_result_takes_no_memory(home: Path) -> None:
    """Also in formats with a head and a foot, which are put together in a file."""
    place, (port,) = Home.at(home).make(), ports.choose([0])
    with endpoint(place, port) as run:
        ask(port, "SELECT 1 FORMAT JSON")
        before = most_memory_of(run.pid)
        for form, least in (("JSONCompact", 300_000_000), ("TSV", 300_000_000), ("Native", 300_000_000)):
            sql = f"SELECT number, repeat('x', 100) FROM numbers(3000000) FORMAT {form}"
            with urllib.request.urlopen(f"http://127.0.0.1:{port}", data=sql.encode(), timeout=60) as answer:
                size = sum(len(piece) for piece in iter(lambda: answer.read(1 << 20), b""))
            assert size > least
        assert most_memory_of(run.pid) - before < 250 << 20
        assert list((place.clickhouse / "results").iterdir()) == []


def most_memory_of(pid: int) -> int:
    """The highest resident size of a process so far, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("brokers", [1, 3])
def test_kill_9_of_a_broker_loses_no_acknowledged_record(home: Path, brokers: int) -> None:
    """FAULTS C1 with three brokers, C3 with one."""
    place = Home.at(home).make()
    chosen = ports.choose([0] * (2 * brokers))
    cluster = Cluster(place.kafka, place.logs, tuple(chosen[:brokers]), tuple(chosen[brokers:]))
    running = [Running(program, program.start()) for program in cluster.programs()]
    try:
        await_ready(running, 60)
        client = AdminClient({"bootstrap.servers": cluster.bootstrap})
        client.create_topics([NewTopic("t", 2, brokers)])["t"].result(30)
        acknowledged: list[int] = []
        config = {"bootstrap.servers": cluster.bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 0}
        producer = Producer({**config, "delivery.timeout.ms": 60_000, "linger.ms": 2, "reconnect.backoff.max.ms": 300})

        def send(first: int, last: int) -> None:
            for n in range(first, last):
                done = lambda error, _, n=n: acknowledged.append(n) if error is None else None  # noqa: E731
                producer.produce("t", str(n).encode(), on_delivery=done)
                producer.poll(0)

        send(0, 5_000)
        while len(acknowledged) < 1_000:
            producer.poll(0.05)
        victim = running[0]
        os.kill(victim.run.pid, signal.SIGKILL)
        victim.run.wait()
        send(5_000, 8_000)
        running[0] = Running(victim.program, victim.program.start())
        await_ready(running, 60)
        assert producer.flush(60) == 0
        assert len(acknowledged) == 8_000
        assert read_all(cluster.bootstrap, 2) >= set(acknowledged)
    finally:
        end(running)


def read_all(bootstrap: str, partitions: int) -> set[int]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition("t", n, 0) for n in range(partitions)])
    found, open_ends = set(), set(range(partitions))
    try:
        while open_ends:
            for message in consumer.consume(5_000, 1.0):
                if message.error() is None:
                    found.add(int(message.value() or b""))
                else:
                    open_ends.discard(int(message.partition() or 0))
    finally:
        consumer.close()
    return found


def test_what_answers_on_our_ports_must_be_ours(home: Path) -> None:
    """A broker and an endpoint of somebody else on the same ports: not ready, whatever they answer."""
    theirs, ours = Home.at(home / "theirs").make(), Home.at(home / "ours").make()
    port, controller, http_port = ports.choose([0, 0, 0])
    running = [
        Cluster(theirs.kafka, theirs.logs, (port,), (controller,)).programs()[0],
        clickhouse_program(theirs, http_port),
    ]
    started = [Running(program, program.start()) for program in running]
    try:
        await_ready(started, 60)
        our_cluster = Cluster(ours.kafka, ours.logs, (port,), (controller,))
        our_cluster.programs()
        assert not our_cluster.ready()
        assert not clickhouse_program(ours, http_port).ready()
    finally:
        end(started)


def test_another_number_of_brokers_is_refused(home: Path) -> None:
    from pipeline.errors import UsageError

    place = Home.at(home).make()
    (place.kafka / "broker-1").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds a cluster of 1 broker"):
        Cluster(place.kafka, place.logs, (1, 2, 3), (4, 5, 6)).programs()
