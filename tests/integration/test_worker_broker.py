"""The broker dies in mid-load and comes back: the worker waits for it, loses nothing and doubles nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local import ports
from pipeline.local.kafka import Cluster
from pipeline.local.services import Running, await_ready, end
from tests.traffic import Traffic, assert_each_counts_once, sending
from tests.workers import Deployment


class Broker:
    """A broker of a test's own, which it may kill."""

    def __init__(self, home: Path) -> None:
        kafka, controller = ports.choose((0, 0))
        self.cluster = Cluster(home / "kafka", home / "logs", (kafka,), (controller,))
        home.mkdir(parents=True)
        (self.program,) = self.cluster.programs()
        self.run: subprocess.Popen[bytes] = self.program.start()
        await_ready([self._running], 90)

    @property
    def _running(self) -> Running:
        return Running(self.program, self.run)

    def kill(self) -> None:
        self.run.kill()
        self.run.wait()

    def start(self) -> None:
        self.run = self.program.start()
        await_ready([self._running], 90)

    def end(self) -> None:
        end([self._running])


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
