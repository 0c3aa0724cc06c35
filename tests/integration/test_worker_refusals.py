"""Invariant 8: where numbers could be wrong the worker stops, with exit code 1 and one line that says what helps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    NewPartitions,
    NewTopic,
)

from pipeline.codec.records import Codec
from pipeline.kafka.topics import JOURNAL, topic_config
from pipeline.worker.cluster import KafkaCluster
from pipeline.worker.opening import Opening
from pipeline.worker.stores import LocalStores
from tests.traffic import Traffic
from tests.workers import Deployment, until


@pytest.fixture
def deployment(stack: Any, namespace: str, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(stack.kafka, namespace, tmp_path, partitions=2) as deployment:
        yield deployment


@pytest.fixture
def client(stack: Any) -> AdminClient:
    return AdminClient({"bootstrap.servers": stack.kafka})


def wait(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        future.result(30)


def send(deployment: Deployment, count: int = 40) -> None:
    traffic = Traffic(deployment.kafka, deployment.topics, deployment.partitions, seed=5)
    for _ in range(count):
        traffic._new()
    traffic.flush()


def leave_state(deployment: Deployment) -> None:
    """Open the partitions once, as a worker does, in the directory of ``worker``."""
    config = {"bootstrap.servers": deployment.kafka}
    stores = LocalStores(deployment.home / "worker", None)
    opening = Opening(KafkaCluster(config), stores, deployment.topics, deployment.rules, Codec())
    for number in range(deployment.partitions):
        opening.open(number, 0).close()


def recreate(deployment: Deployment, client: AdminClient) -> None:
    deployment.delete(deployment.topics.journal)
    topic = NewTopic(deployment.topics.journal, deployment.partitions, 1, config=topic_config(JOURNAL, 1))
    wait(client.create_topics([topic]))
    until(lambda: deployment.topics.journal in client.list_topics(timeout=10).topics, "the topic is back")


def add_partition(deployment: Deployment, client: AdminClient) -> None:
    wait(client.create_partitions([NewPartitions(deployment.topics.journal, 3)]))


def truncate(deployment: Deployment, client: AdminClient) -> None:
    """Delete the records of partition 0, as retention would."""
    end = deployment.ends(deployment.topics.journal)[deployment.topics.journal, 0]
    wait(client.delete_records([TopicPartition(deployment.topics.journal, 0, end)]))


def test_state_of_other_rules(deployment: Deployment) -> None:
    leave_state(deployment)
    refusal = deployment.worker("worker", MAX_EVENT_AGE="34d").refusal()
    assert "written by another fold" in refusal
    assert "METERLINE_MAX_EVENT_AGE" in refusal
    assert "`meterline rebuild`" in refusal


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (recreate, ["deleted and created again"]),
        (add_partition, ["has 3 partitions", "has 2", "`meterline topics create`"]),
    ],
)
def test_state_of_another_journal(
    deployment: Deployment, client: AdminClient, change: Callable[[Deployment, AdminClient], None], words: list[str]
) -> None:
    leave_state(deployment)
    change(deployment, client)
    refusal = deployment.worker("worker").refusal()
    for word in words:
        assert word in refusal


def test_a_journal_without_its_beginning_and_no_state(deployment: Deployment, client: AdminClient) -> None:
    send(deployment)
    truncate(deployment, client)
    refusal = deployment.worker("worker").refusal()
    assert "begins at offset" in refusal
    assert "METERLINE_SNAPSHOTS" in refusal


def test_a_group_that_has_read_further_than_the_journal_reaches(deployment: Deployment, client: AdminClient) -> None:
    """As after a broker that came back without its newest records."""
    leave_state(deployment)
    place = TopicPartition(deployment.topics.journal, 0, 7)
    wait(client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(deployment.topics.worker_group, [place])]))
    refusal = deployment.worker("worker").refusal()
    assert "ends at offset 0, but records up to 7 were folded" in refusal
    assert "METERLINE_NAMESPACE" in refusal


def test_a_topic_that_does_not_stamp_its_records(deployment: Deployment) -> None:
    deployment.configure(deployment.topics.journal, "message.timestamp.type", "CreateTime")
    refusal = deployment.worker("worker").refusal()
    assert "message.timestamp.type=LogAppendTime" in refusal
    assert "`meterline topics check`" in refusal


def test_no_topics(stack: Any, namespace: str, tmp_path: Path) -> None:
    deployment = Deployment(stack.kafka, namespace, tmp_path)
    worker = deployment.worker("worker")
    try:
        assert "`meterline topics create`" in worker.refusal()
    finally:
        worker.end()


def test_a_store_that_is_in_use(deployment: Deployment, stack: Any, namespace: str) -> None:
    """Two deployments that share a state directory by mistake: the first goes on, the second stops."""
    first = deployment.worker("worker")
    deployment.await_members(1)
    with Deployment(stack.kafka, f"{namespace[:30]}_b", deployment.home, partitions=2) as other:
        refusal = other.worker("worker").refusal()
    assert "in use by another worker" in refusal
    assert "METERLINE_STATE" in refusal
    assert first.alive()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (recreate, "there is no topic|created again while this worker ran"),  # it may look while there is none
        (add_partition, "has 3 partitions and .* has 2"),
    ],
)
def test_a_journal_that_changes_under_a_running_worker(
    deployment: Deployment, client: AdminClient, change: Callable[[Deployment, AdminClient], None], words: str
) -> None:
    send(deployment)
    worker = deployment.worker("worker")
    deployment.settle()
    change(deployment, client)
    send(deployment)
    assert re.search(words, worker.refusal())


def test_a_journal_that_loses_records_in_front_of_a_running_worker(deployment: Deployment, client: AdminClient) -> None:
    send(deployment)
    worker = deployment.worker("worker")
    deployment.settle()
    worker.freeze()
    send(deployment)  # the broker answers a waiting fetch with the first of these
    send(deployment)
    truncate(deployment, client)
    send(deployment)
    worker.thaw()
    refusal = worker.refusal()
    assert "deleted" in refusal
