"""A worker that gets no more memory ends, comes back, and has lost nothing."""

from __future__ import annotations

import resource
import sys
import time
from itertools import count
from pathlib import Path

from pipeline.codec.records import Codec
from pipeline.domain.events import MeterEvent
from pipeline.domain.limits import VALUE_UNIT
from pipeline.kafka.producer import Publisher
from pipeline.local.program import Program
from pipeline.local.supervisor import Supervisor
from tests.conftest import Stack
from tests.workers import Deployment, until

ROOM_BYTES = 64 * 2**20
A_SLICE = 5_000
TOOK_OVER = "took over"


def address_space_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmSize:")[2].split()[0]) * 1024


def test_a13_a_worker_without_memory_ends_and_its_supervisor_brings_it_back(
    stack: Stack, namespace: str, tmp_path: Path
) -> None:
    """All that it holds back until a flush does not fit; the one that follows has room again."""
    held_back = {"FLUSH_EVERY": "5s", "FLUSH_RECORDS": "5000000"}
    with Deployment(stack.kafka, namespace, tmp_path / "workers", partitions=2, **held_back) as deployment:
        log = tmp_path / "worker.log"
        environ = deployment.environ | {"METERLINE_STATE": str(tmp_path / "state")}
        argv = (sys.executable, "-m", "pipeline.cli", "worker")
        supervisor = Supervisor(lambda: None)
        supervisor.start([Program("worker", argv, log, environ, lambda: True)])
        try:
            until(lambda: TOOK_OVER in log.read_text(), "the worker has its partitions")
            (row,) = supervisor.rows()
            assert row.identity is not None
            limit = address_space_bytes(row.identity.pid) + ROOM_BYTES
            resource.prlimit(row.identity.pid, resource.RLIMIT_AS, (limit, limit))
            publisher, numbers = Publisher({"bootstrap.servers": stack.kafka}), count()

            def has_come_back() -> bool:
                send_wide(publisher, deployment, numbers)
                supervisor.tend()
                return supervisor.rows()[0].restarts > 0

            until(has_come_back, "the worker has ended and was started again")
            assert supervisor.rows()[0].last_exit not in (None, 0)
            until(lambda: log.read_text().count(TOOK_OVER) > 1, "it has its partitions again")
            world = deployment.assert_as_specified()
            assert sum(shard.count for shard in world.shards.values()) == next(numbers)
        finally:
            supervisor.end()


def send_wide(publisher: Publisher, deployment: Deployment, numbers: count[int]) -> None:
    """Events of which each has a tally of its own, with much to remember."""
    codec, now_ms = Codec(), time.time_ns() // 1_000_000
    messages = []
    for _ in range(A_SLICE):
        number = next(numbers)
        dimensions = tuple((key, f"{number:0>90}") for key in "abcd")
        event = MeterEvent(f"wide-{number}", "wide", f"customer {number}", VALUE_UNIT, now_ms, dimensions, True)
        messages.append((event.identifier.encode(), codec.encode_event(event)))
    publisher.publish_batch(deployment.topics.journal, -1, messages)
    publisher.flush(60)
