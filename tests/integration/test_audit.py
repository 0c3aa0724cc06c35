"""``meterline audit`` on real services: silent when all is well, and naming every error that somebody plants."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.tables import derived
from pipeline.codec.digests import key_bytes
from pipeline.codec.records import Codec
from pipeline.domain.events import SummaryShard
from pipeline.replay.audit_findings import shown_key
from pipeline.worker import layout
from pipeline.worker.store import Store
from tests.conftest import Stack
from tests.oracle import published
from tests.sinks import SinkGroup, SinkProcess, stored
from tests.traffic import Traffic, sending
from tests.workers import Deployment, until


class Audited:
    """A deployment with a worker and a sink, and what the audit says of it."""

    def __init__(self, stack: Stack, deployment: Deployment, home: Path) -> None:
        self.stack, self.deployment, self.home = stack, deployment, home
        self.traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=11)
        self.sink = SinkProcess(home, stack.kafka, stack.clickhouse, deployment.namespace)
        self.group = SinkGroup(stack.kafka, deployment.namespace)

    def settle(self) -> None:
        self.deployment.settle()
        until(lambda: self.group.behind() == 0, "the sink has done everything")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        mine = {
            "METERLINE_HOME": str(self.home / "no-laptop-stack"),
            "METERLINE_KAFKA": self.stack.kafka,
            "METERLINE_CLICKHOUSE": self.stack.clickhouse,
            "METERLINE_NAMESPACE": self.deployment.namespace,
            "METERLINE_STATE": str(self.home),
            "METERLINE_CANCEL_WINDOW": "1500ms",
            **environ,
        }
        command = [sys.executable, "-m", "pipeline.cli", "audit", *arguments]
        return subprocess.run(
            command, env={"PATH": os.environ["PATH"], **mine}, capture_output=True, text=True, check=False
        )

    def audit(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, report, and what a person reads."""
        report = self.home / "audit.json"
        done = self.run("--json", str(report), *arguments)
        assert report.exists(), done.stdout + done.stderr
        return done.returncode, json.loads(report.read_text()), done.stdout

    def end(self) -> None:
        self.sink.end()
        self.group.close()


@pytest.fixture
def audited(stack: Stack, namespace: str, home: Path) -> Iterator[Audited]:
    list(migrate(Server(stack.clickhouse, namespace)))
    with Deployment(stack.kafka, namespace, home, CANCEL_WINDOW="1500ms") as deployment:
        found = Audited(stack, deployment, home)
        try:
            yield found
        finally:
            found.end()


@pytest.fixture
def settled(audited: Audited) -> Audited:
    """Some traffic of every kind, done by all; the worker has stopped."""
    audited.traffic.send_each()
    worker = audited.deployment.worker("worker")
    for _ in range(2):
        audited.traffic.send(120)
        audited.settle()
    worker.stop()
    return audited


def differences(report: dict[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """(where, partition, difference)"""
    return [
        (side["where"], one["partition"], difference)
        for one in report["partitions"]
        for side in one["compared"]
        for difference in side["differences"]
    ]


def only_difference(audited: Audited, *arguments: str) -> tuple[str, int, dict[str, Any]]:
    code, report, said = audited.audit(*arguments)
    (found,) = differences(report)
    assert (code, report["equal"], report["differences"]) == (1, False, 1), said
    assert found[2]["what"] in said, "a person reads it too"
    return found


def one_unit(found: dict[str, Any], name: str) -> None:
    """The difference is that number alone, and is one unit of 10^-12."""
    (number,) = found["numbers"]
    assert number["name"] == name
    assert Decimal(number["found"]) - Decimal(number["expected"]) == Decimal("1E-12")


def shown(shard: SummaryShard) -> str:
    return shown_key(key_bytes(shard.key))


def test_what_is_well_is_found_well(audited: Audited) -> None:
    audited.traffic.send_each()
    worker = audited.deployment.worker("worker")
    for _ in range(3):
        audited.traffic.send(200)
        audited.settle()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said
    worker.stop()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said
    sides = {side["where"].partition(" ")[0] for one in report["partitions"] for side in one["compared"]}
    assert sides == {"store", "topic", "ClickHouse", "the"}
    for one in report["partitions"]:
        digests = {side["digest"] for side in one["compared"] if side["digest"]}
        assert digests == {one["digest"]}, "topic, tables, store and journal have one digest"
        store = next(side for side in one["compared"] if side["where"].startswith("store"))
        assert store["as_of"] == one["offsets"], "a worker that was stopped wrote down all it did"
        assert sum(account["records"] for account in one["accounts"].values()) == one["records"]


def test_no_false_alarm_while_traffic_and_rebalances_go_on(audited: Audited) -> None:
    deployment = audited.deployment
    audited.traffic.send_each()
    deployment.worker("first")
    with sending(audited.traffic, slices=10):
        for number in range(3):
            deployment.await_progress()
            code, report, said = audited.audit()
            assert (code, report["equal"]) == (0, True), said
            if number == 0:
                deployment.worker("second")
            elif number == 1:
                deployment.worker("first").kill()
                deployment.worker("third")
    audited.settle()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said


def test_errors_in_clickhouse_are_named(settled: Audited) -> None:
    table = derived("summary_shards")
    with connect(Server(settled.stack.clickhouse, settled.deployment.namespace)) as client:
        world = stored(client)
        several = sorted(one for one in world.shards.values() if one.count > 0)
        digit, gone, taken_back = several[0], several[1], several[2]

        def where(shard: SummaryShard) -> dict[str, Any]:
            return {"version": shard.version, "shard": shard.shard, "customer": shard.key.customer}

        this = "version = {version:UInt64} AND shard = {shard:UInt32} AND customer = {customer:String}"
        unit = "reinterpret(reinterpret(sum, 'Int256') + 1, 'Decimal(76, 12)') AS sum"
        client.command(
            f"INSERT INTO {table} SELECT * REPLACE ({unit}) FROM (SELECT * FROM {table} FINAL WHERE {this})",
            parameters=where(digit),
        )
        place, partition, found = only_difference(settled)
        assert (place, partition) == (f"ClickHouse {table}", digit.shard)
        assert (found["kind"], found["what"]) == ("differs", shown(digit))
        one_unit(found, "sum")
        back = "reinterpret(reinterpret(sum, 'Int256') - 1, 'Decimal(76, 12)') AS sum"
        client.command(
            f"INSERT INTO {table} SELECT * REPLACE ({back}) FROM (SELECT * FROM {table} FINAL WHERE {this})",
            parameters=where(digit),
        )
        assert settled.audit()[0] == 0

        client.command(f"DELETE FROM {table} WHERE {this}", parameters=where(gone))
        place, partition, found = only_difference(settled)
        assert (place, partition, found["kind"]) == (f"ClickHouse {table}", gone.shard, "missing")
        assert found["what"] == shown(gone)
        assert {"name": "version", "expected": str(gone.version), "found": ""} in found["numbers"]

        client.command(
            f"INSERT INTO {table} SELECT * REPLACE ('nobody' AS customer) FROM (SELECT * FROM {table} FINAL WHERE {this})",
            parameters=where(taken_back),
        )
        _, report, _ = settled.audit()
        added = [one for _, _, one in differences(report) if one["kind"] == "unexpected"]
        assert [one["what"] for one in added] == [shown(taken_back).replace(taken_back.key.customer, "nobody")]

        client.command(
            f"INSERT INTO {table} SELECT * REPLACE (1000 AS shard) FROM (SELECT * FROM {table} FINAL WHERE {this})",
            parameters=where(taken_back),
        )
        _, report, said = settled.audit()
        assert "1000" in said
        assert report["differences"] == 3


def test_errors_in_the_topic_are_named(settled: Audited) -> None:
    topics = settled.deployment.topics
    world = published(settled.stack.kafka, settled.deployment.namespace)
    several = sorted(one for one in world.shards.values() if one.count > 0)
    gone, digit, later, forged = several[:4]
    producer = Producer({"bootstrap.servers": settled.stack.kafka, "linger.ms": 0})
    codec = Codec()

    def plant(shard: SummaryShard, *, tombstone: bool = False) -> None:
        key = key_bytes(shard.key) + shard.shard.to_bytes(2, "big")
        producer.produce(topics.summaries, None if tombstone else codec.encode_shard(shard), key, shard.shard)
        assert producer.flush(30) == 0

    where = f"topic {topics.summaries}"
    plant(gone, tombstone=True)
    place, partition, found = only_difference(settled, "--skip-clickhouse")
    assert (place, partition, found["kind"], found["what"]) == (where, gone.shard, "missing", shown(gone))
    plant(gone)
    assert settled.audit("--skip-clickhouse")[0] == 0

    plant(digit._replace(sum=digit.sum + 1))
    _, report, said = settled.audit("--skip-clickhouse")
    assert all(one["what"].startswith(shown(digit)) for _, _, one in differences(report)), said
    one_unit(differences(report)[-1][2], "sum")
    plant(digit)

    plant(later._replace(version=later.version + 10_000))
    _, report, _ = settled.audit("--skip-clickhouse")
    numbers = [one["numbers"] for _, _, one in differences(report) if one["what"] == shown(later)]
    assert numbers == [[{"name": "version", "expected": str(later.version), "found": str(later.version + 10_000)}]]
    plant(forged._replace(key=forged.key._replace(customer="nobody")))
    _, report, _ = settled.audit("--skip-clickhouse")
    unexpected = [one["what"] for _, _, one in differences(report) if one["kind"] == "unexpected"]
    assert unexpected == [shown(forged).replace(forged.key.customer, "nobody")]


def test_errors_in_the_workers_store_are_named(settled: Audited) -> None:
    path = next(path for path in sorted(settled.home.glob("worker/partition-*")) if list(tallies_in(path)))
    number = int(path.name.rpartition("-")[2])
    key, packed = next(iter(tallies_in(path)))
    tally = layout.unpack_tally(packed)
    changed = dataclasses.replace(tally, sum=tally.sum + 1)
    write(path, key, layout.pack_tally(changed) + packed[layout.TALLY_BYTES :])
    place, partition, found = only_difference(settled, "--skip-clickhouse")
    assert (place, partition, found["kind"]) == (f"store {path}", number, "differs")
    assert found["what"] == shown_key(key[1:])
    one_unit(found, "sum")
    write(path, key, packed)
    assert settled.audit("--skip-clickhouse")[0] == 0

    write(path, key, None)
    assert only_difference(settled, "--skip-clickhouse")[2]["kind"] == "missing"
    write(path, key, packed)

    meta = read(path, layout.META)
    document = json.loads(meta)
    for change, what in (
        ({"digest": "0" * 32}, "the digest that the worker kept"),
        ({"clock_ms": document["clock_ms"] + 1}, "the fold's clock"),
        ({"origin": {**document["origin"], "topic_id": "another"}}, "it is the state of something else"),
        ({"origin": {**document["origin"], "fold": "fold-0"}}, "it is the state of something else"),
        ({"accounts": {**document["accounts"], "duplicate": [10**6, "1"]}}, "the account duplicate"),
    ):
        write(path, layout.META, json.dumps(document | change).encode())
        assert only_difference(settled, "--skip-clickhouse")[2]["what"] == what
    write(path, layout.META, meta)
    assert settled.audit("--skip-clickhouse")[0] == 0


def tallies_in(path: Path) -> Iterator[tuple[bytes, bytes]]:
    store = Store(path)
    try:
        yield from [(key, value) for key, value in store.scan(layout.TALLY) if layout.unpack_tally(value).count]
    finally:
        store.close()


def read(path: Path, key: bytes) -> bytes:
    store = Store(path)
    value = store.get(key)
    store.close()
    assert value is not None
    return value


def write(path: Path, key: bytes, value: bytes | None) -> None:
    store = Store(path)
    store.write({key: value})
    store.flush()
    store.close()


def test_what_cannot_be_audited_is_refused(settled: Audited) -> None:
    deployment = settled.deployment
    done = settled.run("--partition", "3")
    assert (done.returncode, "the journal has partitions 0 to 2" in done.stderr) == (2, True)
    client = AdminClient({"bootstrap.servers": settled.stack.kafka})
    for future in client.delete_records([TopicPartition(deployment.topics.journal, 1, 2)]).values():
        future.result(30)
    done = settled.run()
    assert done.returncode == 1
    assert "begins at offset 2: older usage was deleted from the journal" in done.stderr
    assert settled.run("--partition", "0", "--partition", "2").returncode == 0
    done = settled.run("--partition", "0", METERLINE_CANCEL_WINDOW="3h")
    assert done.returncode == 1
    assert "the fold's version" in done.stdout
