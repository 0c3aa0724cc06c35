"""What a worker that was killed was copying: nobody goes on with it, and a checkpoint's hard links hold disk space."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

CHECKPOINT = ".checkpoint-"
RESTORE = ".restore-"
"""How the directories begin in which snapshots are made, and restored."""
COPYING = ".copying"
"""A locked file: who has the lock may be copying in its directory."""

_held: list[int] = []
"""Locks of this process, open until it ends: the kernel then releases them, however it ends."""


def leftovers(state: Path) -> list[Path]:
    """In a worker's directory; what is being copied at the moment is among them."""
    return [path for beginning in (CHECKPOINT, RESTORE) for path in state.glob(f"{beginning}*")]


def remove_leftovers(state: Path) -> None:
    """Remove them from a worker's directory, unless another process works in it, which is refused elsewhere."""
    state.mkdir(parents=True, exist_ok=True)
    lock = os.open(state / COPYING, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return
    _held.append(lock)
    for path in leftovers(state):
        shutil.rmtree(path, ignore_errors=True)
