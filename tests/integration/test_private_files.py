"""What worker and sink write is for their user only, wherever they are told to write it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Stack
from tests.sinks import SinkProcess
from tests.traffic import Traffic
from tests.workers import Deployment, until


@pytest.fixture
def open_handed() -> Iterator[None]:
    """A user whose new files everybody may read, as on most systems."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_handed")
def test_s29_state_and_snapshots_are_for_their_user_only(stack: Stack, namespace: str, tmp_path: Path) -> None:
    snapshots = tmp_path / "kept" / "snapshots"
    settings = {"SNAPSHOTS": snapshots.as_uri(), "SNAPSHOT_EVERY": "300ms"}
    with Deployment(stack.kafka, namespace, tmp_path, **settings) as deployment:
        Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=29).send(100)
        worker = deployment.worker("worker")
        sink = SinkProcess(tmp_path, stack.kafka, stack.clickhouse, namespace)
        try:
            until(lambda: len(list(snapshots.rglob("*.json"))) > 0, "there is a snapshot")
            until((tmp_path / "sink").exists, "the sink has a directory")
        finally:
            sink.end()
        worker.kill()
    written = [path for top in (worker.state, tmp_path / "sink", snapshots.parent) for path in (top, *top.rglob("*"))]
    assert {".sst", ".json"} <= {path.suffix for path in written}
    assert [str(path) for path in written if path.stat().st_mode & 0o077] == []
