"""What an agent or a task of ours raises ends the process: Faust would swallow it and commit past the record."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pipeline import logs
from pipeline.errors import MeterlineError
from pipeline.stream.received import Stream

EXIT_REFUSED = 1
EXIT_CRASHED = 70
"""An unexpected exception: the supervisor starts the process again, and it recovers as after kill -9."""

log = logging.getLogger("meterline")

Step = Callable[[], Awaitable[None]]


def end_process(error: BaseException) -> None:
    """Say why and stop at once. Safe at any point: a start after this is a recovery as after kill -9."""
    if isinstance(error, MeterlineError):
        log.error("stopped: %s", error)
        code = EXIT_REFUSED
    else:
        log.error("crashed", exc_info=error)
        code = EXIT_CRASHED
    logs.drain()
    os._exit(code)


async def or_end_process(step: Step) -> None:
    """Run a step; a start after what it raises is a recovery as after kill -9."""
    try:
        await step()
    except Exception as error:
        end_process(error)


def agent_of(step: Callable[[Stream], Awaitable[None]]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """A Faust agent that runs ``step`` on its batches, which the step acknowledges itself."""

    async def agent(stream: Any) -> None:
        await or_end_process(lambda: step(stream.noack().events()))

    return agent


def task_of(step: Step) -> Callable[[], Coroutine[Any, Any, None]]:
    """A Faust task that runs ``step``."""

    async def task() -> None:
        await or_end_process(step)

    return task
