"""Workers that are killed, that join and leave, that sleep through their session: the end is always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.traffic import Traffic, assert_each_counts_once, sending
from tests.workers import Deployment


def test_kill_9_in_mid_load_changes_nothing(stack: Any, namespace: str, tmp_path: Path) -> None:
    """With the state it left behind, and without any: then it folds the journal again, silently where it was heard."""
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=2)
        with sending(traffic, slices=5):
            for _ in range(3):
                worker = deployment.worker("worker")
                deployment.await_progress()
                worker.kill()
            worker = deployment.worker("worker")
            deployment.await_progress()
        world = deployment.assert_as_specified()
        assert_each_counts_once(stack.kafka, traffic, world)

        worker.kill()
        outputs = (deployment.topics.summaries, deployment.topics.dispositions)
        floor, before = deployment.committed(), deployment.ends(*outputs)
        dead_before = deployment.records(deployment.topics.dead_letters)
        traffic.send(40)
        deployment.worker("another")
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())
        assert deployment.published_again(floor, before) == []
        assert deployment.records(*outputs) > sum(before.values()), "and what is new was published"
        assert deployment.records(deployment.topics.dead_letters) - dead_before < len(traffic.garbage)


def test_workers_that_come_and_go_and_sleep_end_in_the_same_digits(stack: Any, namespace: str, tmp_path: Path) -> None:
    with Deployment(stack.kafka, namespace, tmp_path, partitions=4) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=3)
        with sending(traffic, slices=5):
            first = deployment.worker("first")
            deployment.await_progress()
            second = deployment.worker("second")
            deployment.await_members(2)
            deployment.await_progress()
            third = deployment.worker("third")
            deployment.await_members(3)
            deployment.await_progress()
            first.kill()
            second.freeze()
            deployment.await_members(1)
            deployment.await_progress()
            second.thaw()
            first = deployment.worker("first")
            deployment.await_members(3)
            deployment.await_progress()
            third.stop()
            deployment.await_members(2)
            deployment.await_progress()
        world = deployment.assert_as_specified()
        assert_each_counts_once(stack.kafka, traffic, world)
        first.stop()
        second.stop()
