"""Asking Kafka, or a snapshot store, until it answers. Who ended instead would start, ask the same, and end again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import Unavailable

AGAIN_S = 1.0
SAY_AGAIN_S = 60.0

log = logging.getLogger("meterline")

_T = TypeVar("_T")


async def when_answered(ask: Callable[[], _T]) -> _T:
    """What ``ask`` returns, in a thread, however often it has to be asked while what it asks is away."""
    started, said_at = time.monotonic(), 0.0
    while True:
        try:
            found = await asyncio.to_thread(ask)
            break
        except Unavailable as error:
            now = time.monotonic()
            if now - said_at >= SAY_AGAIN_S:
                log.warning("no answer for %.0f s now, asking on: %s", now - started, error)
                said_at = now
        await asyncio.sleep(AGAIN_S)
    if said_at:
        log.warning("there is an answer after %.0f s", time.monotonic() - started)
    return found
