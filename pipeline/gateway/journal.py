"""The gateway's one publisher, as a Service (parts.py): closed when the last request has been answered."""

from __future__ import annotations

import asyncio

from pipeline.kafka.acknowledged import Acknowledged

CLOSED_WITHIN_S = 2.0


class Journal:
    """Never keeps the gateway from being ready: a publisher that fails says so to every request, and recovers alone."""

    name = "journal"

    def __init__(self, acknowledged: Acknowledged) -> None:
        self._acknowledged = acknowledged

    async def start(self) -> None:
        """Nothing to wait for: librdkafka connects when it is used."""

    async def stop(self) -> None:
        """Every request has been answered by now; what nobody waits for may be given up."""
        try:
            async with asyncio.timeout(CLOSED_WITHIN_S):
                await self._acknowledged.close()
        except TimeoutError:
            return

    def not_ready(self) -> str | None:
        return None
