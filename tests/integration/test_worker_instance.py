"""A worker that has a name keeps its partitions over a restart: nothing moves, nobody else is disturbed."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Stack
from tests.traffic import Traffic
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
