"""One number per process out of many that share a volume: the first that no living one has.

A replica has no name that outlives it, but its state should, and its place in its group: whoever starts next takes over
what the one before left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from pipeline.errors import Refusal, SettingsError

SLOT = "{slot}"
MOST = 1_000
IN_USE = "in-use"
"""A locked file; it says on which host, or in which container, it was locked last."""

_held: list[int] = []
"""Locks of this process, open until it ends: the kernel then releases them, however it ends."""


def claimed(state: Path, instance: str = "") -> tuple[Path, str]:
    """Directory and name with their ``{slot}`` replaced by the lowest number that is free; as they are without.

    Raises Refusal when all are in use.
    """
    if SLOT not in str(state):
        if SLOT in instance:
            raise SettingsError(f"METERLINE_INSTANCE={instance} needs a {SLOT} in METERLINE_STATE as well")
        return state, instance
    for number in range(1, MOST + 1):
        directory = Path(str(state).replace(SLOT, str(number)))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / IN_USE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.truncate(lock, 0)
        os.write(lock, socket.gethostname().encode())
        _held.append(lock)
        return directory, instance.replace(SLOT, str(number))
    raise Refusal(f"all {MOST} directories of METERLINE_STATE={state} are in use by running processes")


def names_here(state: Path, instance: str) -> frozenset[str]:
    """The names of the processes with these settings that run on this host or in this container; none without one."""
    if SLOT not in instance:
        return frozenset({instance} if instance else ())
    found = set()
    for number in range(1, MOST + 1):
        with contextlib.suppress(OSError):
            if Path(str(state).replace(SLOT, str(number)), IN_USE).read_text() == socket.gethostname():
                found.add(instance.replace(SLOT, str(number)))
    return frozenset(found)
