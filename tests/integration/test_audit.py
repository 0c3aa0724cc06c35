"""``meterline audit`` on real services: silent when all is well, standing, and clear about what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.tables import derived
from tests.audits import Audited, auditing, settle_some
from tests.conftest import Stack
from tests.traffic import sending
from tests.workers import until


@pytest.fixture
def audited(stack: Stack, namespace: str, home: Path) -> Iterator[Audited]:
    with auditing(stack, namespace, home) as found:
        yield found


@pytest.fixture
def settled(audited: Audited) -> Audited:
    settle_some(audited)
    return audited


def test_what_is_well_is_found_well(audited: Audited) -> None:
    audited.traffic.send_each()
    worker = audited.deployment.worker("worker")
    for _ in range(3):
        audited.traffic.send(200)
        audited.settle()
    code, report, said = audited.audit(processes=2)
    assert (code, report["equal"]) == (0, True), said
    worker.stop()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said
    sides = {side["where"].partition(" ")[0] for one in report["partitions"] for side in one["compared"]}
    assert sides == {"store", "topic", "ClickHouse", "the"}
    for one in report["partitions"]:
        decided = {side["digest"] for side in one["compared"] if "dispositions" in side["where"]}
        assert len(decided) == 1, "topic and tables have one digest of dispositions"
        digests = {side["digest"] for side in one["compared"] if side["digest"]}
        assert digests - decided == {one["digest"]}, "topic, tables, store and journal have one digest"
        store = next(side for side in one["compared"] if side["where"].startswith("store"))
        assert store["as_of"] == one["offsets"], "a worker that was stopped wrote down all it did"
        assert sum(account["records"] for account in one["accounts"].values()) == one["records"]


def test_no_false_alarm_while_traffic_and_rebalances_go_on(audited: Audited) -> None:
    deployment = audited.deployment
    audited.traffic.send_each()
    first = deployment.worker("first")
    with sending(audited.traffic, slices=10):
        for number in range(3):
            deployment.await_progress()
            code, report, said = audited.audit()
            assert (code, report["equal"]) == (0, True), said
            if number == 0:
                deployment.worker("second")
            elif number == 1:
                first.kill()
                deployment.worker("third")
    audited.settle()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said


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


def test_a_standing_audit_sees_what_goes_wrong_and_that_it_was_mended(audited: Audited) -> None:
    audited.traffic.send(100)
    audited.deployment.worker("worker")
    audited.settle()
    metrics, table = audited.home / "audit.prom", derived("summary_shards")

    def differing() -> int:
        lines = [line.split() for line in metrics.read_text().splitlines()] if metrics.exists() else []
        return next((int(words[1]) for words in lines if words[0] == "meterline_audit_differences"), -1)

    with audited.start("--every", "1s", "--metrics", str(metrics)) as standing:
        try:
            until(lambda: differing() == 0, "a first round")
            audited.traffic.send(100)
            audited.settle()
            with connect(Server(audited.stack.clickhouse, audited.deployment.namespace)) as client:
                change = "reinterpret(reinterpret(sum, 'Int256') {} 1, 'Decimal(76, 12)') AS sum"
                one = f"(SELECT * FROM {table} FINAL WHERE count > 0 ORDER BY version, shard LIMIT 1)"
                client.command(f"INSERT INTO {table} SELECT * REPLACE ({change.format('+')}) FROM {one}")
                until(lambda: differing() == 1, "the difference is seen")
                client.command(f"INSERT INTO {table} SELECT * REPLACE ({change.format('-')}) FROM {one}")
                until(lambda: differing() == 0, "it is seen that it was mended")
            assert standing.poll() is None
        finally:
            standing.kill()
