"""Every error that somebody plants is found and named: where, which summary, what it must be and what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.tables import derived
from pipeline.codec.digests import key_bytes
from pipeline.codec.records import Codec
from pipeline.domain.events import Disposition, SummaryShard
from pipeline.replay.audit_findings import shown_key
from pipeline.worker import layout
from pipeline.worker.store import Store
from tests.audits import Audited, auditing, differences, one_unit, only_difference, settle_some, shown
from tests.conftest import Stack
from tests.oracle import published
from tests.sinks import stored
from tests.workers import until


@pytest.fixture
def audited(stack: Stack, namespace: str, home: Path) -> Iterator[Audited]:
    with auditing(stack, namespace, home) as found:
        yield found


@pytest.fixture
def settled(audited: Audited) -> Audited:
    settle_some(audited)
    return audited


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
            f"INSERT INTO {table} SELECT * REPLACE ('nobody' AS customer)"
            f" FROM (SELECT * FROM {table} FINAL WHERE {this})",
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


def test_errors_among_dispositions_are_named(settled: Audited) -> None:
    """Deleted, changed, and forged: in their topic and in ClickHouse."""
    topics, codec = settled.deployment.topics, Codec()
    world = published(settled.stack.kafka, settled.deployment.namespace)
    changed, copied = sorted(one for one in world.dispositions.values() if one.disposition == "duplicate")[:2]
    counted = next(
        offset for offset in range(changed.decided_offset) if (changed.partition, offset) not in world.dispositions
    )
    producer = Producer({"bootstrap.servers": settled.stack.kafka, "linger.ms": 0})

    def plant(one: Disposition) -> None:
        key = f"{one.partition}:{one.offset}".encode()
        producer.produce(topics.dispositions, codec.encode_disposition(one), key, one.partition)
        assert producer.flush(30) == 0

    where = f"topic {topics.dispositions}"
    plant(copied)
    assert settled.audit("--skip-clickhouse")[0] == 0, "a copy is harmless"
    plant(changed._replace(customer="nobody"))
    _, report, said = settled.audit("--skip-clickhouse")
    found = differences(report)
    assert {place for place, _, _ in found} == {where}, said
    numbers = [{"name": "customer", "expected": changed.customer, "found": "nobody"}]
    what = f"the disposition of record {changed.partition}:{changed.offset}"
    assert [one["numbers"] for _, _, one in found if one["what"] == what] == [numbers]
    plant(changed)
    plant(changed._replace(offset=counted, decided_offset=counted))
    _, report, _ = settled.audit("--skip-clickhouse")
    forged = [one["what"] for _, _, one in differences(report) if one["kind"] == "unexpected"]
    assert forged == [f"the disposition of record {changed.partition}:{counted}"]

    table = derived("dispositions")
    this = {"partition": changed.partition, "offset": changed.offset}
    with connect(Server(settled.stack.clickhouse, settled.deployment.namespace)) as client:
        client.command(
            f"DELETE FROM {table} WHERE partition = {{partition:UInt32}} AND offset = {{offset:UInt64}}", this
        )
    _, report, _ = settled.audit()
    ((place, _, gone),) = [
        one for one in differences(report) if one[0].startswith("ClickHouse") and one[2]["kind"] == "missing"
    ]
    assert (place, gone["what"]) == (f"ClickHouse {table}", what)

    client = AdminClient({"bootstrap.servers": settled.stack.kafka})
    end = settled.deployment.ends(topics.dispositions)[topics.dispositions, changed.partition]
    for future in client.delete_records([TopicPartition(topics.dispositions, changed.partition, end)]).values():
        future.result(30)
    _, report, _ = settled.audit("--skip-clickhouse")
    missing = [one["what"] for place, _, one in differences(report) if one["kind"] == "missing"]
    mine = [key for key in world.dispositions if key[0] == changed.partition]
    assert len(missing) == len(mine), "retention takes nothing that is so young"


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

    tail = packed[: layout.TALLY_BYTES] + packed[layout.TALLY_BYTES : -1] + bytes([packed[-1] ^ 1])
    for place, value, what in (
        (key, tail, "the events of " + shown_key(key[1:])),
        (first_key(path, layout.LEDGER), None, "the ledger's entry of "),
        (first_key(path, layout.LEDGER), b"\x43" + bytes(24), "the ledger's entry of "),
        (first_key(path, layout.BODIES), flipped(path, layout.BODIES), "the record at offset "),
    ):
        before = read(path, place)
        write(path, place, value)
        assert only_difference(settled, "--skip-clickhouse")[2]["what"].startswith(what)
        write(path, place, before)

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


def first_key(path: Path, prefix: bytes) -> bytes:
    store = Store(path)
    key = next(key for key, _ in store.scan(prefix))
    store.close()
    return key


def flipped(path: Path, prefix: bytes) -> bytes:
    """The first value of a kind with one bit of its last byte changed."""
    value = read(path, first_key(path, prefix))
    return value[:-1] + bytes([value[-1] ^ 1])


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


def test_a_damaged_snapshot_is_named(audited: Audited, tmp_path: Path) -> None:
    home = tmp_path / "snapshots"
    audited.traffic.send(100)
    worker = audited.deployment.worker("worker", SNAPSHOTS=home.as_uri(), SNAPSHOT_EVERY="300ms")
    audited.settle()
    ends = audited.deployment.ends(audited.deployment.topics.journal)

    def covered() -> bool:
        found = [json.loads(path.read_text()) for path in home.rglob("*.json")]
        return all(
            any(one["origin"]["partition"] == at and one["cursor"] == end for one in found)
            for (_, at), end in ends.items()
        )

    until(covered, "every partition has a snapshot at its end")
    worker.kill()
    arguments = ("--skip-clickhouse", "--state", str(tmp_path / "nowhere"))
    report = audited.home / "audit.json"
    done = audited.run("--json", str(report), *arguments, METERLINE_SNAPSHOTS=home.as_uri())
    assert done.returncode == 0, done.stdout + done.stderr
    sides = [side["where"] for one in json.loads(report.read_text())["partitions"] for side in one["compared"]]
    assert sum(side.startswith("snapshot ") for side in sides) == 3

    newest = max(home.rglob("partition-0/*.json"))
    name, seal = next((name, seal) for name, seal in json.loads(newest.read_text())["files"].items() if ".sst" in name)
    file = newest.parent / "files" / f"{name}-{seal}"
    file.write_bytes(file.read_bytes()[:-1])
    done = audited.run("--json", str(report), *arguments, METERLINE_SNAPSHOTS=home.as_uri())
    ((where, partition, found),) = differences(json.loads(report.read_text()))
    assert (done.returncode, partition, found["kind"]) == (1, 0, "broken")
    assert where.startswith("snapshot ")
    assert found["what"].endswith("is damaged")
