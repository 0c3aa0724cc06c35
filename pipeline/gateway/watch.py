"""Services that only look: whether something this gateway needs, or would like to have, answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)

FIRST_SAID = "not asked yet"


class Watch:
    """Asks again and again on a thread; ``ask`` raises when there is no answer. A Service (parts.py).

    ``needed``: without it the gateway is not ready; else its state is only told.
    """

    def __init__(self, name: str, ask: Callable[[], object], *, every_s: float = 2.0, needed: bool = True) -> None:
        self.name = name
        self.needed = needed
        self._ask = ask
        self._every_s = every_s
        self._said: str | None = FIRST_SAID
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"watches {self.name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def not_ready(self) -> str | None:
        return self._said

    async def _watch(self) -> None:
        while True:
            said = None
            try:
                await asyncio.to_thread(self._ask)
            except Exception as error:
                said = str(error)
            if (said is None) != (self._said is None):
                _log.warning("%s: %s", self.name, said) if said else _log.info("%s answers", self.name)
            self._said = said
            await asyncio.sleep(self._every_s)
