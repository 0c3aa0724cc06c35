"""The worker on real Kafka: whatever services send, it publishes what the specification says, and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.domain import outcomes
from pipeline.domain.events import Cancellation
from pipeline.domain.partitioning import partition_of
from pipeline.worker import layout
from pipeline.worker.store import Store
from tests.oracle import expected, read_topic
from tests.traffic import LARGE_BYTES, Traffic, assert_each_counts_once
from tests.workers import Deployment, WorkerProcess


def assert_buried(deployment: Deployment, traffic: Traffic) -> None:
    """Each record that nobody can read is a dead letter once, as it came, with where it came from and why."""
    letters = list(read_topic(deployment.kafka, deployment.topics.dead_letters))
    for topic, unreadable in (
        (deployment.topics.journal, traffic.garbage),
        (deployment.topics.adjustments, traffic.bad_adjustments),
    ):
        originals = {
            (read.partition, read.offset): (read.key, read.value)
            for read in read_topic(deployment.kafka, topic)
            if (read.key, read.value) in unreadable
        }
        assert originals
        buried = {}
        for letter in letters:
            if letter.headers["topic"].decode() == topic:
                place = int(letter.headers["partition"]), int(letter.headers["offset"])
                assert place not in buried
                original = letter.key, letter.value
                if "bytes" in letter.headers:  # too large even for a dead letter, so it ends early
                    original = originals[place]
                    assert letter.value == original[1][: len(letter.value)]
                    assert len(letter.value) > LARGE_BYTES
                    assert int(letter.headers["bytes"]) == len(original[1])
                assert letter.headers["reason"].decode() == unreadable[original]
                buried[place] = original
        assert buried == originals


def assert_strays_came_home_once(deployment: Deployment, traffic: Traffic) -> None:
    bodies = {traffic.codec.encode_event(stray): stray.identifier for stray in traffic.strays}
    copies = Counter(bodies.get(read.value) for read in read_topic(deployment.kafka, deployment.topics.journal))
    repeats = Counter(one.identifier for one in traffic.repeated)
    assert bodies
    assert all(copies[name] == 2 + repeats[name] for name in bodies.values())


def assert_adjustments_stand_in_the_journal(deployment: Deployment, traffic: Traffic) -> None:
    """Each once: next to its event, or a range in every partition; asked for when the adjustment was appended."""
    codec, partitions = traffic.codec, deployment.partitions
    wanted: Counter[tuple[int, bytes, Cancellation]] = Counter()
    for read in read_topic(deployment.kafka, deployment.topics.adjustments):
        if (read.key, read.value) not in traffic.bad_adjustments:
            asked = codec.decode_adjustment(read.value)
            body = Cancellation(*asked, requested_at_ms=read.appended_at_ms)
            if asked.identifier is not None:
                home = partition_of(asked.identifier, partitions)
                wanted[home, asked.identifier.encode(), body] += 1
            else:
                wanted.update((number, asked.id.encode(), body) for number in range(partitions))
    found: Counter[tuple[int, bytes, Cancellation]] = Counter()
    for read in read_topic(deployment.kafka, deployment.topics.journal):
        if (read.key, read.value) not in traffic.garbage:
            content = codec.decode_journal(read.value)
            if isinstance(content, Cancellation) and content.adjustment_id not in traffic.strays_cancelled:
                found[read.partition, read.key or b"", content] += 1
    assert found == wanted


def assert_stores_hold_the_books(deployment: Deployment, worker: WorkerProcess) -> None:
    """Invariant 2 as the stopped worker has it on disk: clock, cursor and accounts of the specification."""
    _, states = expected(deployment.kafka, deployment.namespace, deployment.rules, deployment.partitions)
    ends = deployment.ends(deployment.topics.journal)
    for number, state in states.items():
        store = Store(worker.state / f"partition-{number}")
        meta = json.loads(store.get(layout.META) or b"{}")
        store.close()
        assert (meta["cursor"], meta["clock_ms"]) == (ends[deployment.topics.journal, number], state.clock_ms)
        accounts = {name: [records, int(value)] for name, (records, value) in meta["accounts"].items()}
        assert {name: one for name, one in accounts.items() if one != [0, 0]} == {
            name: one for name, one in state.accounts.items() if one != [0, 0]
        }


def test_whatever_services_send_the_published_world_is_the_specified_one(
    stack: Any, namespace: str, tmp_path: Path
) -> None:
    with Deployment(stack.kafka, namespace, tmp_path, CANCEL_WINDOW="1500ms") as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=1)
        traffic.send_each()
        worker = deployment.worker("worker")
        for _ in range(4):
            traffic.send(200)
            deployment.settle()
        world = deployment.assert_as_specified()
        seen = {one.disposition for one in world.dispositions.values()}
        assert seen == set(outcomes.DISPOSITIONS) - {outcomes.COUNTED}, "the traffic shows everything there is"
        assert_each_counts_once(deployment.kafka, traffic, world)
        assert_buried(deployment, traffic)
        assert_strays_came_home_once(deployment, traffic)
        assert_adjustments_stand_in_the_journal(deployment, traffic)
        worker.stop()
        assert_stores_hold_the_books(deployment, worker)
