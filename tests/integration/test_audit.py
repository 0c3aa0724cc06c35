"""``meterline audit`` on real services: silent when all is well, standing, and clear about what it cannot do."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.tables import derived
from pipeline.codec.records import Codec
from pipeline.domain.limits import FoldRules
from pipeline.replay.audit import AuditSources, journal_of
from pipeline.replay.audit_standing import StandingAudit
from pipeline.worker import layout
from pipeline.worker.inspection import inspected
from pipeline.worker.store import Store
from tests.audits import Audited, auditing, settle_some
from tests.conftest import Stack
from tests.traffic import sending
from tests.workers import until

LOOK_AGAIN_S = 600.0
"""Tables may cost ClickHouse a fiftieth of the time: a busy machine, where a look takes seconds, waits for minutes."""


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


def test_what_is_left_out_of_a_round_stands_as_it_was_found(settled: Audited) -> None:
    """Stores and tables take turns. Until they are looked at again, what was wrong there is told in every round."""
    table = derived("summary_shards")
    path = next(path for path in sorted(settled.home.glob("worker/partition-*")) if meta_of(path))
    meta = meta_of(path)
    wrong_meta = json.dumps(json.loads(meta) | {"digest": "0" * 32}).encode()

    def change(by: str, written: bytes) -> None:
        with connect(Server(settled.stack.clickhouse, settled.deployment.namespace)) as client:
            one = f"(SELECT * FROM {table} FINAL WHERE count > 0 ORDER BY version, shard LIMIT 1)"
            more = f"reinterpret(reinterpret(sum, 'Int256') {by} 1, 'Decimal(76, 12)') AS sum"
            client.command(f"INSERT INTO {table} SELECT * REPLACE ({more}) FROM {one}")
        store = Store(path)
        store.write({layout.META: written})
        store.flush()
        store.close()

    with standing(settled, share=0.0) as early, standing(settled, share=1.0) as watchful:
        assert wrong_places(early) == wrong_places(watchful) == set()
        change("+", wrong_meta)
        assert wrong_places(early) == set(), "it never looks again"
        until(lambda: wrong_places(watchful) == {"store", "ClickHouse"}, "both are seen")
        with standing(settled, share=0.0) as late:
            assert wrong_places(late) == {"store", "ClickHouse"}
            change("-", meta)
            assert wrong_places(late) == {"store", "ClickHouse"}, "as it was found"
        until(lambda: wrong_places(watchful) == set(), "it is seen that both were mended")


def meta_of(path: Path) -> bytes:
    store = Store(path)
    meta = store.get(layout.META)
    store.close()
    return meta or b""


@contextlib.contextmanager
def standing(audited: Audited, share: float) -> Iterator[StandingAudit]:
    """In this process."""
    stack, deployment = audited.stack, audited.deployment
    sources = AuditSources(
        kafka={"bootstrap.servers": stack.kafka, "log_level": 0},
        topics=deployment.topics,
        rules=FoldRules(cancel_window_ms=1_500),
        codec=Codec,
        clickhouse=Server(stack.clickhouse, deployment.namespace),
        images=functools.partial(inspected, (audited.home,), "", 1),
    )
    with contextlib.closing(StandingAudit(sources, range(deployment.partitions), journal_of(sources), share)) as found:
        yield found


def wrong_places(audit: StandingAudit) -> set[str]:
    return {one.where.partition(" ")[0] for found in audit.round() for one in found.differences}


@pytest.mark.timeout(1_500)
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
                until(lambda: differing() == 1, "the difference is seen", LOOK_AGAIN_S)
                client.command(f"INSERT INTO {table} SELECT * REPLACE ({change.format('-')}) FROM {one}")
                until(lambda: differing() == 0, "it is seen that it was mended", LOOK_AGAIN_S)
            assert standing.poll() is None
        finally:
            standing.kill()
