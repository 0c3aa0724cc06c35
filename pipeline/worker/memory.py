"""How glibc keeps freed memory. Elsewhere nothing is done."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8
ARENAS = 2
"""One for the main thread, which folds; one for all others. By default each thread that writes to a store, or empties
one, has an arena of its own, with room for all the memtables that were ever in it at once.
"""


def share_arenas() -> None:
    """To be called before there are threads."""
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, ARENAS)
