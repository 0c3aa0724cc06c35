"""Ports on 127.0.0.1 for the laptop stack.

A free port can be taken by somebody else between the look and the use. So nothing here promises a port: whoever
starts a program on one asks again (``is_free``) when the program ends early, and chooses anew.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

# Below the range from which the kernel lends ports to outgoing connections (32768 and up on Linux), so that a
# remembered port is not lost to somebody's outgoing connection while the stack is down.
_LOW, _HIGH = 20_000, 32_000


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
    """The wanted ports, each replaced by a random free one when it is taken; 0 means any. All differ."""
    chosen: list[int] = []
    for port in wanted:
        candidate = port
        while candidate == 0 or candidate in chosen or not is_free(candidate):
            candidate = random.randrange(_LOW, _HIGH)
        chosen.append(candidate)
    return chosen
