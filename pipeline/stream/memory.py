"""Giving back what malloc keeps.

Memtables, fetches and tables for ClickHouse come and go by the megabyte, in pieces that glibc does not return by
itself: they lie between others that live on. In a worker they add up to a fifth of its memory, and to more every hour.
"""

from __future__ import annotations

import asyncio
import ctypes

EVERY_S = 60.0


async def give_back_forever() -> None:
    """Return free pages to the operating system now and then. Where there is no glibc nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(EVERY_S)
        await asyncio.to_thread(trim, 0)
