"""What malloc keeps, kept small.

Memtables, fetches and tables for ClickHouse come and go by the megabyte, in pieces that glibc does not return by
itself: they lie between others that live on. In a worker they add up to a fifth of its memory, and to more every hour.
"""

from __future__ import annotations

import asyncio
import ctypes

EVERY_S = 60.0
_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def share_one_arena() -> None:
    """All threads to come take memory from where the first one does. To be called before libraries start theirs.

    Otherwise glibc gives each thread an arena of its own, up to eight for each processor of the machine, and each has
    its own holes: what one thread gave back is of no use to another. Where there is no glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


async def give_back_forever() -> None:
    """Return free pages to the operating system now and then. Where there is no glibc nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(trim, 0)
