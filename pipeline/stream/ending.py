"""What an agent or a task of ours raises ends the process: Faust would swallow it and commit past the record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pipeline.stream.app import end_process
from pipeline.stream.received import Stream

Step = Callable[[], Awaitable[None]]


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
