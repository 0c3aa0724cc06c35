"""A worker that has a name keeps its partitions over a restart: nothing moves, nobody else is disturbed.

Of two living ones with one name the one that was there first ends and says why; the other goes on alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import Stack
from tests.traffic import Traffic, assert_each_counts_once, sending
from tests.workers import Deployment

TOOK_OVER = "took over partitions"


def test_a_named_worker_that_comes_back_in_time_moves_no_partition(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    """Killed -9 and started again within its session: the other worker takes nothing over, the numbers are right."""
    environ = {"SESSION_TIMEOUT": "20s"}
    with Deployment(stack.kafka, namespace, tmp_path / "workers", partitions=4, **environ) as deployment:
        first = deployment.worker("first", INSTANCE="worker-0")
        other = deployment.worker("other", INSTANCE="worker-1")
        deployment.await_members(2)
        traffic = Traffic(stack.kafka, deployment.topics, 4, 11, transactions=False)
        traffic.send(200)
        deployment.settle()
        rebalances = other.log.count(TOOK_OVER)
        first.kill()
        traffic.send(200)
        again = deployment.worker("first", INSTANCE="worker-0")
        deployment.assert_as_specified()
        assert other.log.count(TOOK_OVER) == rebalances
        assert TOOK_OVER in again.log
        again.stop()
        last = deployment.worker("first", INSTANCE="worker-0")
        traffic.send(50)
        deployment.assert_as_specified()
        assert other.log.count(TOOK_OVER) == rebalances
        assert last.alive()


TAKEN = re.compile(
    r"another living process is called worker-0 \(METERLINE_INSTANCE\), too: it has joined the group \S+ "
    r"after this one, as member worker-0-\S+, and goes on alone\. "
    r"Give every worker and every sink a METERLINE_INSTANCE of its own"
)


def test_of_two_living_workers_of_one_name_one_goes_on_alone(stack: Stack, namespace: str, tmp_path: Path) -> None:
    """FAULTS B7: the other ends, however often it is started, until the one that goes on is gone."""
    with Deployment(stack.kafka, namespace, tmp_path / "workers", INSTANCE="worker-0") as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, 12, transactions=False)
        first = deployment.worker("first")
        deployment.await_members(1)
        with sending(traffic, slices=4):
            second = deployment.worker("second")
            assert TAKEN.fullmatch(first.refusal())
            deployment.await_progress()
            took_over = second.log.count(TOOK_OVER)
            again = deployment.worker("first")
            assert again.run.wait(90) == 1
            again.ends_by_itself = False
            assert TAKEN.search(again.log.splitlines()[-1])
        assert_each_counts_once(deployment.kafka, traffic, deployment.assert_as_specified())
        assert second.log.count(TOOK_OVER) == took_over, "its partitions have stayed with it"
        second.kill()
        traffic.send(50)
        heir = deployment.worker("first")
        assert_each_counts_once(deployment.kafka, traffic, deployment.assert_as_specified())
        assert heir.alive()


def test_a_frozen_worker_ends_when_it_is_thawed_and_another_one_has_its_name(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    with Deployment(stack.kafka, namespace, tmp_path / "workers", INSTANCE="worker-0") as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, 13, transactions=False)
        traffic.send(100)
        frozen = deployment.worker("frozen")
        deployment.await_progress()
        frozen.freeze()
        deployment.await_members(0)
        successor = deployment.worker("successor")
        traffic.send(100)
        deployment.settle()
        frozen.thaw()
        assert TAKEN.fullmatch(frozen.refusal())
        traffic.send(50)
        assert_each_counts_once(deployment.kafka, traffic, deployment.assert_as_specified())
        assert successor.alive()
