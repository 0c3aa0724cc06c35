"""Snapshots: whole or absent, files copied once, damage noticed, other origins passed over."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.worker.partition import Origin
from pipeline.worker.reset import reset
from pipeline.worker.snapshots import KEPT, Snapshots, checkpoint_of
from pipeline.worker.store import Store
from pipeline.worker.stores import LocalStores

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


class KilledError(BaseException):
    """Nobody catches it, as nobody catches kill -9."""


class Killed:
    """Copies so many files; at the next one it writes ``written``, or all of it, and is killed."""

    def __init__(self, get_file: Callable[[str, str], None], copied: int, written: bytes | None) -> None:
        self.get_file, self.left, self.written = get_file, copied, written

    def __call__(self, source: str, place: str) -> None:
        if self.left or self.written is None:
            self.get_file(source, place)
        else:
            Path(place).write_bytes(self.written)
        if not self.left:
            raise KilledError
        self.left -= 1


class Untidy:
    """A temporary directory that nobody deletes: who would has been killed."""

    def __init__(self, dir: Path, prefix: str) -> None:  # noqa: A002  # as tempfile calls it
        self.path = tempfile.mkdtemp(dir=dir, prefix=prefix)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        """Leave it."""


def test_a10_a_restore_that_is_killed_at_any_file_leaves_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next start would take what is there for the partition's state."""
    live, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    live.write({b"a": b"1"})
    taken(snapshots, live, 7, tmp_path)
    state, get_file = tmp_path / "state", snapshots._files.get_file
    files = len(files_of(tmp_path / "snapshots"))
    for copied in range(files):
        for written in (b"", b"half of it", None):
            get = Killed(get_file, copied, written)
            with monkeypatch.context() as patch:
                patch.setattr(snapshots._files, "get_file", get)
                patch.setattr(tempfile, "TemporaryDirectory", Untidy)
                stores = LocalStores(state, snapshots)
                with pytest.raises(KilledError):
                    stores.restore(ORIGIN)
            assert not stores.stands(ORIGIN.partition), f"killed at file {copied} of {files}, with {written!r}"
    stores = LocalStores(state, snapshots)
    assert stores.restore(ORIGIN) == 7
    assert stores.open(ORIGIN.partition).get(b"a") == b"1"


def test_files_are_copied_once_and_old_snapshots_leave(tmp_path: Path) -> None:
    store, snapshots = Store(tmp_path / "live" / "p"), Snapshots(f"file://{tmp_path}/snapshots")
    store.write({b"a": b"1"})
    taken(snapshots, store, 1, tmp_path)
    first = {name for name in files_of(tmp_path / "snapshots") if ".sst" in name}
    for cursor in range(2, KEPT + 3):
        store.write({b"k%d" % cursor: b"x"})
        taken(snapshots, store, cursor, tmp_path)
        assert first <= files_of(tmp_path / "snapshots"), "the first file is part of every later snapshot"
        assert len(snapshots._sealed[ORIGIN.partition]) == cursor, "no file of a checkpoint before is held"
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


KILLED_WHILE_IT_COPIES = """
import os, signal, sys
from pathlib import Path
from pipeline.worker.partition import Origin
from pipeline.worker.snapshots import Snapshots
from pipeline.worker.stores import LocalStores

snapshots = Snapshots(sys.argv[2])
stores = LocalStores(Path(sys.argv[1]), snapshots)
store = stores.open(3)
store.write({b"a": b"1"})
origin = Origin("journal", "topic-id", 3, 8, "fold-1")
stores.keep(origin, 1, stores.checkpoint(store))
checkpoint = stores.checkpoint(store)
snapshots._files.get_file = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
snapshots.restore(origin, Path(sys.argv[1]) / "partition-4")
"""


def killed_while_it_copies(state: Path, snapshots: Path) -> set[str]:
    """A worker that was taking one snapshot and restoring another; what it left."""
    command = [sys.executable, "-c", KILLED_WHILE_IT_COPIES, str(state), f"file://{snapshots}"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    return {path.name.partition("-")[0] for path in state.iterdir() if path.is_dir()}


def test_what_a_worker_was_copying_when_it_was_killed_is_gone_after_the_next_start(tmp_path: Path) -> None:
    """A checkpoint's hard links would hold the files of that moment for ever."""
    state = tmp_path / "state"
    assert killed_while_it_copies(state, tmp_path / "snapshots") == {"partition", ".checkpoint", ".restore"}
    stores = LocalStores(state, Snapshots(f"file://{tmp_path}/snapshots"))
    assert [path.name for path in state.iterdir() if path.is_dir()] == ["partition-3"]
    assert stores.restore(dataclasses.replace(ORIGIN, partition=4)) is None


def test_what_a_living_worker_copies_stays_when_another_is_started_in_its_directory(tmp_path: Path) -> None:
    stores = LocalStores(tmp_path / "state", None)
    store = stores.open(3)
    checkpoint = stores.checkpoint(store)
    LocalStores(tmp_path / "state", None)
    assert checkpoint.exists()


def test_a_reset_takes_what_was_being_copied_along(tmp_path: Path) -> None:
    """Of a generation that was dropped, too, where no worker ever starts again."""
    state = tmp_path / "state"
    killed_while_it_copies(state, tmp_path / "snapshots")
    assert [path.name for path in reset(state)] == ["partition-3"]
    assert [path for path in state.iterdir() if path.is_dir()] == []
