"""A worker that is killed while it takes its state from the snapshot store, and again."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tests.conftest import Stack
from tests.traffic import Traffic, assert_each_counts_once
from tests.workers import Deployment, until

TOOK_OVER = "took over partitions"
BALLAST_BYTES = 48 * 2**20
"""So that restoring takes long enough to be killed in."""


def newest(store: Path) -> dict[int, Path]:
    """The manifest of each partition's newest snapshot."""
    return {json.loads(path.read_text())["origin"]["partition"]: path for path in sorted(store.rglob("*.json"))}


def cursor_of(manifest: Path) -> int:
    return int(json.loads(manifest.read_text())["cursor"])


def make_heavy(manifest: Path) -> None:
    """Give a snapshot one more file, of which RocksDB knows nothing."""
    ballast = bytes(BALLAST_BYTES)
    content = json.loads(manifest.read_text())
    seal = content["files"]["ballast"] = hashlib.sha256(ballast).hexdigest()
    (manifest.parent / "files" / f"ballast-{seal}").write_bytes(ballast)
    manifest.write_text(json.dumps(content))


def kill_while_it_restores(deployment: Deployment, state: Path) -> None:
    """What is left of the copy proves that it was; a worker that was quicker begins without state again."""
    while True:
        worker = deployment.worker("worker", SNAPSHOT_EVERY="1h")
        before = worker.log.count(TOOK_OVER)
        until(
            lambda: any(state.glob(".restore-*/store/*")) or worker.log.count(TOOK_OVER) > before,  # noqa: B023
            "the worker restores a snapshot",
        )
        worker.kill()
        if any(state.glob(".restore-*")):
            return
        shutil.rmtree(state)


def test_a10_killed_while_it_restores_and_again(stack: Stack, namespace: str, tmp_path: Path) -> None:
    store = tmp_path / "snapshots"
    settings = {"SNAPSHOTS": store.as_uri(), "SNAPSHOT_EVERY": "300ms"}
    with Deployment(stack.kafka, namespace, tmp_path, **settings) as deployment:
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=10)
        traffic.send(150)
        worker = deployment.worker("worker")
        deployment.settle()
        ends = {number: end for (_, number), end in deployment.ends(deployment.topics.journal).items()}
        until(
            lambda: {number: cursor_of(path) for number, path in newest(store).items()} == ends,
            "every partition has a snapshot at its end",
        )
        worker.kill()
        shutil.rmtree(worker.state)
        for manifest in newest(store).values():
            make_heavy(manifest)
        traffic.send(60)
        for _ in range(3):
            kill_while_it_restores(deployment, worker.state)
        worker = deployment.worker("worker")
        assert_each_counts_once(stack.kafka, traffic, deployment.assert_as_specified())
        assert worker.log.count("restored the snapshot at offset") >= deployment.partitions
        assert not list(worker.state.glob(".restore-*"))
