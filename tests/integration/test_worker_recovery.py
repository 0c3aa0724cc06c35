"""Where a worker goes on: at its store's cursor, from a snapshot, whatever the group's offset says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.oracle import published, read_topic, specified
from tests.traffic import Traffic, assert_each_counts_once
from tests.workers import Deployment, until


def test_a_clean_stop_leaves_nothing_to_do_again(stack: Any, namespace: str, tmp_path: Path) -> None:
    """And a start tells the group what is done, when the group does not know: else a lag would stay that is none."""
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=6)
        traffic.send(100)
        worker = deployment.worker("worker")
        deployment.settle()
        worker.stop()
        outputs = (deployment.topics.summaries, deployment.topics.dispositions, deployment.topics.dead_letters)
        before = deployment.ends(*outputs)

        forgetful = [TopicPartition(deployment.topics.journal, number, 0) for number in range(deployment.partitions)]
        client = AdminClient({"bootstrap.servers": stack.kafka})
        group = ConsumerGroupTopicPartitions(deployment.topics.worker_group, forgetful)
        for future in client.alter_consumer_group_offsets([group]).values():
            future.result(30)
        deployment.worker("worker")
        deployment.settle()
        assert deployment.ends(*outputs) == before


def test_invariant_5_nothing_is_committed_that_is_not_published(stack: Any, namespace: str, tmp_path: Path) -> None:
    """The topic of the summaries is gone: until it sees that and stops, the worker waits with all its records."""
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        topics = deployment.topics
        traffic = Traffic(stack.kafka, topics, deployment.partitions, seed=8)
        worker = deployment.worker("worker")
        until(lambda: "took over partitions" in worker.log, "the worker has its partitions")
        deployment.delete(topics.summaries)
        traffic.send(100)
        adjustments = deployment.ends(topics.adjustments)
        until(
            lambda: adjustments.items() <= deployment.committed().items() or not worker.alive(),
            "the worker routes and commits adjustments",
        )
        assert {done for (topic, _), done in deployment.committed().items() if topic == topics.journal} == {0}
        assert "`meterline topics create`" in worker.refusal()
        deployment.create_topics()
        deployment.worker("another")
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())


def test_a_snapshot_stands_for_a_journal_without_its_beginning(stack: Any, namespace: str, tmp_path: Path) -> None:
    store = tmp_path / "snapshots"
    settings = {"SNAPSHOTS": store.as_uri(), "SNAPSHOT_EVERY": "300ms"}
    with Deployment(stack.kafka, namespace, tmp_path, **settings) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=7)
        traffic.send(150)
        worker = deployment.worker("worker")
        deployment.settle()
        journal = deployment.topics.journal
        ends = deployment.ends(journal)

        def covered() -> bool:
            manifests = [json.loads(path.read_text()) for path in store.rglob("*.json")]
            cursors = {(journal, one["origin"]["partition"], one["cursor"]) for one in manifests}
            return all((*place, end) in cursors for place, end in ends.items())

        until(covered, "every partition has a snapshot at its end")
        worker.kill()
        records = list(read_topic(stack.kafka, journal))
        client = AdminClient({"bootstrap.servers": stack.kafka})
        for future in client.delete_records([TopicPartition(*place, end) for place, end in ends.items()]).values():
            future.result(30)

        traffic.send(100)
        deployment.worker("another")
        deployment.settle()
        records += read_topic(stack.kafka, journal)
        world, _ = specified(records, deployment.rules, deployment.partitions)
        found = published(stack.kafka, namespace)
        assert found.shards == world.shards
        assert found.dispositions == world.dispositions
