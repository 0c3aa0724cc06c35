"""Forgetting a worker's local state. Nothing is lost: snapshots and the journal bring it back."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from pipeline.errors import Refusal
from pipeline.worker.leftovers import leftovers


def stores_in(state: Path) -> list[Path]:
    """The directories of this worker's partition stores."""
    return sorted(path for path in state.glob("partition-*") if path.is_dir())


def reset(state: Path) -> list[Path]:
    """Delete the stores in a worker's directory; returns what was deleted. Raises Refusal while a worker uses one."""
    stores = stores_in(state)
    for store in stores:
        if _in_use(store):
            raise Refusal(f"the store {store} is in use by a running worker; stop it first: `meterline down`")
    for path in [*stores, *leftovers(state)]:
        shutil.rmtree(path)
    return stores


def _in_use(store: Path) -> bool:
    """RocksDB holds a POSIX lock on its LOCK file as long as it is open."""
    lock = store / "LOCK"
    if not lock.exists():
        return False
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
