"""Snapshots: whole or absent, files copied once, damage noticed, other origins passed over."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.worker.partition import Origin
from pipeline.worker.snapshots import KEPT, Snapshots, checkpoint_of
from pipeline.worker.store import Store

ORIGIN = Origin("journal", "topic-id", 3, 8, "fold-1")


def files_of(home: Path) -> set[str]:
    return {path.name for path in (home / "partition-3" / "files").iterdir()}


def taken(snapshots: Snapshots, store: Store, cursor: int, home: Path) -> None:
    snapshots.take(ORIGIN, cursor, checkpoint_of(store, home))


def test_a_snapshot_restores_what_was_written(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    store.write({b"a": b"1", b"b": b"2"})
    taken(snapshots, store, 7, tmp_path)
    store.write({b"a": b"changed later"})
    assert snapshots.newest_cursor(ORIGIN) == 7
    assert snapshots.restore(ORIGIN, tmp_path / "restored" / "p") == 7
    restored = Store(tmp_path / "restored" / "p")
    assert (restored.get(b"a"), restored.get(b"b")) == (b"1", b"2")


def test_files_are_copied_once_and_old_snapshots_leave(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    store.write({b"a": b"1"})
    taken(snapshots, store, 1, tmp_path)
    first = {name for name in files_of(tmp_path / "snapshots") if ".sst" in name}
    for cursor in range(2, KEPT + 3):
        store.write({b"k%d" % cursor: b"x"})
        taken(snapshots, store, cursor, tmp_path)
        assert first <= files_of(tmp_path / "snapshots"), "the first file is part of every later snapshot"
    manifests = sorted(path.name for path in (tmp_path / "snapshots" / "partition-3").glob("*.json"))
    assert manifests == [f"{cursor:020d}.json" for cursor in range(3, KEPT + 3)]


def test_a_damaged_snapshot_is_passed_over_for_an_older_one(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    store.write({b"a": b"1"})
    taken(snapshots, store, 1, tmp_path)
    before = files_of(tmp_path / "snapshots")
    store.write({b"b": b"2"})
    taken(snapshots, store, 2, tmp_path)
    newer = next(name for name in files_of(tmp_path / "snapshots") - before if ".sst" in name)
    damaged = tmp_path / "snapshots" / "partition-3" / "files" / newer
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    assert snapshots.restore(ORIGIN, tmp_path / "restored") == 1
    damaged.unlink()
    assert snapshots.restore(ORIGIN, tmp_path / "restored-again") == 1


def test_another_origin_is_no_origin(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    taken(snapshots, store, 1, tmp_path)
    for other in ({"topic_id": "recreated"}, {"fold": "fold-2"}, {"partitions": 16}):
        assert snapshots.restore(dataclasses.replace(ORIGIN, **other), tmp_path / "restored") is None
    assert not (tmp_path / "restored").exists()


def test_a_damaged_manifest_is_passed_over_and_leaves_with_the_next_snapshot(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    home = tmp_path / "snapshots" / "partition-3"
    for cursor in (1, 2, 3):
        store.write({b"k%d" % cursor: b"x"})
        taken(snapshots, store, cursor, tmp_path)
    for cursor, damage in ((2, b"{}"), (3, b"not json")):
        (home / f"{cursor:020d}.json").write_bytes(damage)
    assert snapshots.newest_cursor(ORIGIN) == 1
    assert snapshots.restore(ORIGIN, tmp_path / "restored") == 1
    assert snapshots.fetch_newest(3, tmp_path / "fetched") == (3, f"{home}/{3:020d}.json is damaged")
    taken(snapshots, store, 4, tmp_path)
    assert sorted(path.name for path in home.glob("*.json")) == [f"{cursor:020d}.json" for cursor in (1, 4)]
