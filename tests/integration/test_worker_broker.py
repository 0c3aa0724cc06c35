"""The broker dies in mid-load and comes back: the worker waits for it, loses nothing and doubles nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.traffic import Traffic, assert_each_counts_once, sending
from tests.workers import Deployment


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker")
    try:
        yield broker
    finally:
        broker.end()


def test_the_broker_dies_in_mid_load(broker: Broker, namespace: str, tmp_path: Path) -> None:
    with Deployment(broker.cluster.bootstrap, namespace, tmp_path / "workers") as deployment:
        traffic = Traffic(deployment.kafka, deployment.topics, deployment.partitions, seed=4, transactions=False)
        with sending(traffic, slices=5):
            deployment.worker("worker")
            deployment.await_progress()
            broker.kill()
            broker.start()
            deployment.await_progress()
        assert_each_counts_once(deployment.kafka, traffic, deployment.assert_as_specified())
