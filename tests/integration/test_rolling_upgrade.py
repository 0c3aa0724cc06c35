"""Two versions of the code at once: processes are replaced one by one, forth and back, while usage comes."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import warnings
from io import BytesIO
from pathlib import Path

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from tests.conftest import Stack
from tests.oracle import published
from tests.sinks import SinkGroup, SinkProcess, stored
from tests.traffic import Traffic, sending
from tests.workers import Deployment, running, until

ROOT = Path(__file__).parents[2]
BEFORE = "8bb9293"
"""An earlier state of the repository that writes the same formats. Raise it when formats change (schemas/README.md)."""
PARTITIONS = 4


def code_of(commit: str, directory: Path) -> Path:
    """An earlier state of the code, in a directory of its own; the present one in a copy without history."""
    packed = subprocess.run(
        ["git", "archive", commit, "pipeline", "schemas", "infra"], cwd=ROOT, capture_output=True, check=False
    )
    if packed.returncode != 0:
        warnings.warn(f"this clone has no {commit}: the code is upgraded to itself", stacklevel=2)
        return ROOT
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(directory, filter="data")
    where = [sys.executable, "-c", "import pipeline; print(pipeline.__file__)"]
    found = subprocess.run(where, env=os.environ | running(str(directory)), capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(directory)), "processes would run the present code in place of the earlier"
    return directory


def test_k2_forth_and_back_one_process_after_the_other(stack: Stack, namespace: str, home: Path) -> None:
    """FAULTS K2: each version takes the other's state, reads what it published, and the numbers are as specified."""
    old, new = str(code_of(BEFORE, home / "before")), str(ROOT)
    server = Server(stack.clickhouse, namespace)
    list(migrate(server))
    snapshots = {"SNAPSHOTS": (home / "snapshots").as_uri(), "SNAPSHOT_EVERY": "1s"}
    with Deployment(stack.kafka, namespace, home / "workers", partitions=PARTITIONS, **snapshots) as deployment:
        workers = {name: deployment.worker(name, old) for name in ("a", "b")}
        sink = SinkProcess(home, stack.kafka, stack.clickhouse, namespace, code=old)
        group = SinkGroup(stack.kafka, namespace)
        traffic = Traffic(stack.kafka, deployment.topics, PARTITIONS, seed=19)
        deployment.await_members(2)
        try:
            for code in (new, old):
                for name in ("a", "b"):
                    with sending(traffic, slices=4, things=40):
                        workers[name].stop()
                        workers[name] = deployment.worker(name, code)
                        deployment.await_members(2)
                until(lambda: group.behind() == 0, "the sink has done everything")
                with sending(traffic, slices=4, things=40):
                    sink.stop()
                    sink = SinkProcess(home, stack.kafka, stack.clickhouse, namespace, code=code)
                deployment.assert_as_specified()
                until(lambda: group.behind() == 0, "the sink has done everything")
                with connect(server) as client:
                    tables, topics = stored(client), published(stack.kafka, namespace)
                assert (tables.shards, tables.dispositions) == (topics.shards, topics.dispositions)
        finally:
            sink.end()
            group.close()
