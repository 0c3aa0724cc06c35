"""Ports on 127.0.0.1 for the laptop stack.

Stacks and test runs of one user never choose the same port: each claims its own with a lock file for as long as it
runs, also while nothing listens there because a broker is being restarted. Others know nothing of claims: so whoever
starts a program on a port looks again (``is_free``) when the program ends early.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from pipeline.local.jars import cache
from pipeline.local.lock import InUse, Lock

# Below the range from which the kernel lends ports to outgoing connections (32768 and up on Linux), so that a
# remembered port is not lost to somebody's outgoing connection while the stack is down.
_LOW, _HIGH = 20_000, 32_000

_claims: dict[int, Lock] = {}
"""Held until this process ends, however it ends."""


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do; without it a port that was just closed looks taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(wanted: Iterable[int]) -> list[int]:
    """Claim the wanted ports, each replaced by a random one when somebody has it; 0 means any. All differ."""
    chosen: list[int] = []
    for port in wanted:
        suits = port != 0 and port not in chosen and _claim(port) and is_free(port)
        while not suits:
            port = random.randrange(_LOW, _HIGH)  # noqa: PLW2901
            # One that this process has claimed before may be about to be used by another part of it.
            suits = port not in _claims and _claim(port) and is_free(port)
        chosen.append(port)
    return chosen


def _claim(port: int) -> bool:
    """Whether this process has the claim on a port now."""
    if port not in _claims:
        try:
            _claims[port] = Lock(cache() / "ports" / str(port), f"port {port}")
        except InUse:
            return False
    return True
