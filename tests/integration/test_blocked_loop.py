"""FAULTS B3: a worker whose event loop stands still for longer than its session is late, and nothing else.

Heartbeats come from the consumer's own thread, so its group keeps it; nobody takes its partitions over meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import Stack
from tests.traffic import Traffic, assert_each_counts_once
from tests.workers import Deployment, until

REPOSITORY = Path(__file__).parents[2]
TOOK_OVER = "took over partitions"
SESSION_S = 3.0
SPINNING = """
import time
from pathlib import Path
from pipeline.worker.core import WorkerCore
fold = WorkerCore._fold
wanted, said = Path({wanted!r}), Path({said!r})
def folded(core, received):
    fold(core, received)
    if wanted.exists() and not said.exists():
        said.write_text("begun")
        until = time.monotonic() + {seconds}
        while time.monotonic() < until:
            pass
        said.write_text("over")
WorkerCore._fold = folded
"""


def test_b3_a_loop_that_stands_still_for_three_sessions_loses_nothing(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    wanted, said = tmp_path / "wanted", tmp_path / "said"
    (tmp_path / "code").mkdir()
    spinning = SPINNING.format(wanted=str(wanted), said=str(said), seconds=3 * SESSION_S)
    (tmp_path / "code" / "sitecustomize.py").write_text(spinning)
    with Deployment(stack.kafka, namespace, tmp_path, SESSION_TIMEOUT=f"{SESSION_S:.0f}s") as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=3)
        blocked = deployment.worker("blocked", code=f"{tmp_path / 'code'}{os.pathsep}{REPOSITORY}")
        other = deployment.worker("other")
        deployment.await_members(2)
        traffic.send(50)
        deployment.settle()
        takeovers = blocked.log.count(TOOK_OVER), other.log.count(TOOK_OVER)
        wanted.touch()
        traffic.send(100)
        until(lambda: said.exists() and said.read_text() == "over", "its loop stood still, and goes on")
        traffic.send(100)
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())
        assert (blocked.log.count(TOOK_OVER), other.log.count(TOOK_OVER)) == takeovers
