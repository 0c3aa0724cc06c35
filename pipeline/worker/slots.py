"""One directory per worker out of many that share a volume: the first that no living worker uses.

A replica has no name that outlives it, but its state should: whoever starts next takes over what the one before left.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.errors import Refusal

SLOT = "{slot}"
MOST = 1_000

_held: list[int] = []
"""Locks of this process, open until it ends: the kernel then releases them, however it ends."""


def claimed(state: Path) -> Path:
    """``state`` with its ``{slot}`` replaced by the lowest number that is free; as it is where it has none.

    Raises Refusal when all are in use.
    """
    if SLOT not in str(state):
        return state
    for number in range(1, MOST + 1):
        directory = Path(str(state).replace(SLOT, str(number)))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _held.append(lock)
        return directory
    raise Refusal(f"all {MOST} directories of METERLINE_STATE={state} are in use by running workers")
