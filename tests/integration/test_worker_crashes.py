"""Workers that are killed, that join and leave, that sleep through their session: the end is always the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.traffic import Traffic, assert_each_counts_once
from tests.workers import Deployment, until


@contextmanager
def sending(traffic: Traffic, slices: int, things: int = 40) -> Iterator[threading.Event]:
    """Send in the background for as long as the block runs, and at least this many slices. Gives what stops it."""
    enough = threading.Event()
    failed: list[BaseException] = []

    def send() -> None:
        try:
            sent = 0
            while sent < slices or not enough.wait(0.25):
                traffic.send(things)
                sent += 1
        except BaseException as error:  # raised again where the test sees it
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield enough
    finally:
        enough.set()
        thread.join()
    if failed:
        raise failed[0]


def await_progress(deployment: Deployment, records: int = 20) -> None:
    """Wait until the workers have published something more."""
    outputs = (deployment.topics.summaries, deployment.topics.dispositions)
    before = deployment.records(*outputs)
    until(lambda: deployment.records(*outputs) >= before + records, "the workers publish")


def test_kill_9_in_mid_load_changes_nothing(stack: Any, namespace: str, tmp_path: Path) -> None:
    """With the state it left behind, and without any: then the journal is folded again, in silence where it was heard."""
    with Deployment(stack.kafka, namespace, tmp_path) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=2)
        with sending(traffic, slices=5):
            for _ in range(3):
                worker = deployment.worker("worker")
                await_progress(deployment)
                worker.kill()
            worker = deployment.worker("worker")
            await_progress(deployment)
        world = deployment.assert_as_specified()
        assert_each_counts_once(stack.kafka, traffic, world)

        worker.kill()
        outputs = (deployment.topics.summaries, deployment.topics.dispositions)
        floor, before = deployment.committed(), deployment.ends(*outputs)
        dead_before = deployment.records(deployment.topics.dead_letters)
        traffic.send(40)
        deployment.worker("another")
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())
        again = [
            ("shard", shard.shard, shard.version)
            for shard in map(traffic.codec.decode_shard, deployment.since(deployment.topics.summaries, before))
            if shard.version < floor[deployment.topics.journal, shard.shard]
        ] + [
            (one.disposition, one.partition, one.decided_offset)
            for one in map(traffic.codec.decode_disposition, deployment.since(deployment.topics.dispositions, before))
            if one.decided_offset < floor[deployment.topics.journal, one.partition]
        ]
        assert again == []
        assert deployment.records(*outputs) > sum(before.values()), "and what is new was published"
        assert deployment.records(deployment.topics.dead_letters) - dead_before < len(traffic.garbage)


def test_workers_that_come_and_go_and_sleep_end_in_the_same_digits(stack: Any, namespace: str, tmp_path: Path) -> None:
    with Deployment(stack.kafka, namespace, tmp_path, partitions=4) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=3)
        with sending(traffic, slices=5):
            first = deployment.worker("first")
            await_progress(deployment)
            second = deployment.worker("second")
            deployment.await_members(2)
            await_progress(deployment)
            third = deployment.worker("third")
            deployment.await_members(3)
            await_progress(deployment)
            first.kill()
            second.freeze()
            deployment.await_members(1)
            await_progress(deployment)
            second.thaw()
            first = deployment.worker("first")
            deployment.await_members(3)
            await_progress(deployment)
            third.stop()
            deployment.await_members(2)
            await_progress(deployment)
        world = deployment.assert_as_specified()
        assert_each_counts_once(stack.kafka, traffic, world)
        first.stop()
        second.stop()
