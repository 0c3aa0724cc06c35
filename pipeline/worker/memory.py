"""Giving back what malloc keeps.

A worker's memtables come and go by the hundred megabytes, in pieces that glibc does not return by itself: they lie
between others that live on. Unreturned, they add up to as much as the worker needs, and to a little more every hour.
"""

from __future__ import annotations

import asyncio
import ctypes

EVERY_S = 60.0


async def give_back_forever() -> None:
    """Return free pages to the operating system now and then. Without glibc nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(trim, 0)
