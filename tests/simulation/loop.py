"""One thread, virtual time: an asyncio loop whose clock jumps to the next thing to do, and whose hosts can die.

Production's coroutines run on it as they are. What ``asyncio.to_thread`` is given runs at some later virtual moment, so
that everything else can happen before and after it. Every callback belongs to the host in whose context it was made: a
dead host's callbacks never run again (no ``finally``, no ``except``: that is kill -9), a frozen one's wait.
Within a host the order of callbacks is asyncio's own; between hosts, time decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

HOST: contextvars.ContextVar[Host | None] = contextvars.ContextVar("host", default=None)


TURNS_MAX = 200_000


class Died(BaseException):
    """The host was killed in the middle of a call of its own."""


class Deadlock(Exception):
    """Nothing is left to do, or time is up, and what was waited for has not come."""


@dataclasses.dataclass(eq=False, slots=True)
class Host:
    """One run of one process."""

    name: str
    dead: bool = False
    frozen_until: float = 0.0

    def __repr__(self) -> str:
        return self.name


class Handle:
    """A callback that is due, in the context that it runs in. What asyncio's handles are, and no more."""

    __slots__ = ("args", "callback", "cancelled_yet", "context", "host")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.host = context.get(HOST)
        self.cancelled_yet = False

    def cancel(self) -> None:
        self.cancelled_yet = True

    def cancelled(self) -> bool:
        return self.cancelled_yet


class Waiting:
    """What a model returns from a call that blocks its thread until ``future`` is done: SimLoop.waiting."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future


class SimLoop(asyncio.AbstractEventLoop):
    """``delay(host, name)``: how long a call in a thread takes before, and after, it has its effect, in seconds."""

    def __init__(self, delay: Callable[[Host | None, str], float]) -> None:
        self.now = 0.0
        self.failure: BaseException | None = None
        self.turns = 0
        self._waiting: Waiting | None = None
        self.at_effect: Callable[[Host, str, str], None] = lambda host, name, when: None
        """Told before and after every call in a thread; may kill or freeze the host. Raises Died."""
        self._delay = delay
        self._ready: deque[Handle] = deque()
        self._heap: list[tuple[float, int, Handle]] = []
        self._made = 0
        self._deadline = 0.0
        self._tasks: list[asyncio.Task[Any]] = []

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.now

    get_debug = staticmethod(bool)  # False, and asked at every future

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback, *args, context=None):
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context)
        self._made += 1
        heapq.heappush(self._heap, (when, self._made, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None):
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # a dead host's never end
        self._tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failure = self.failure or context.get("exception") or RuntimeError(context["message"])

    def run_in_executor(self, executor, func, *args):
        host, future = HOST.get(), self.create_future()
        name = getattr(func.args[0], "func", func.args[0]).__name__.lstrip("_")
        self.call_later(self._delay(host, name), self._call, host, name, func, future)
        return future

    def _call(self, host: Host | None, name: str, func: Callable[[], Any], future: asyncio.Future[Any]) -> None:
        self._waiting = None
        try:
            self.effect(name, "before")
            result = func()
            self.effect(name, "after")
        except Died:
            return
        except Exception as error:
            self.call_later(self._delay(host, name), _settle, future, None, error)
            return
        if self._waiting is not None and result is not self._waiting:
            raise AssertionError(f"{name} blocks within: what it did after that, it did without waiting")
        if isinstance(result, Waiting):
            result.future.add_done_callback(lambda done: _settle(future, None, done.exception()))
        else:
            self.call_later(self._delay(host, name), _settle, future, result, None)

    # What the world asks of it.

    def on(self, host: Host | None, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine on a host."""
        context = contextvars.copy_context()
        context.run(HOST.set, host)
        return self.create_task(coro, context=context)

    def waiting(self, future: asyncio.Future[Any]) -> Waiting:
        """To be returned by what is called in a thread, and at once: the call is over when ``future`` is done."""
        self._waiting = Waiting(future)
        return self._waiting

    def call_on(self, host: Host | None, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call on a host after a delay."""
        context = contextvars.copy_context()
        context.run(HOST.set, host)
        self.call_later(delay, callback, *args, context=context)

    def effect(self, name: str, when: str) -> None:
        """A point in a host's run where it may die."""
        host = HOST.get()
        if host is not None:
            self.at_effect(host, name, when)
            if host.dead:
                raise Died

    def run_until(self, done: Callable[[], bool], deadline: float) -> None:
        """Let things happen until ``done``. Raises what any of them raised, or Deadlock."""
        self._deadline = deadline
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            self._go_on(done)
        finally:
            asyncio._set_running_loop(before)

    def wait(self, seconds: float) -> None:
        """Let time pass in the middle of a call: its host waits, all others go on. Not within a task. Raises Died."""
        host = HOST.get()
        assert host is not None
        until = self.now + seconds
        while not host.dead and self.now < (until := max(until, host.frozen_until)):
            self.call_at(until, _nothing, context=contextvars.Context())
            self._go_on(lambda moment=until: host.dead or self.now >= moment)
        if host.dead:
            raise Died

    def _go_on(self, done: Callable[[], bool]) -> None:
        ready, heap = self._ready, self._heap
        while not done():
            if not ready:
                if self.turns > TURNS_MAX or not heap or heap[0][0] > self._deadline:
                    raise Deadlock
                when, _, handle = heapq.heappop(heap)
                self.now = max(self.now, when)
                ready.append(handle)
            while ready:
                self._turn(ready.popleft())
                if self.failure is not None:
                    raise self.failure

    def _turn(self, handle: Handle) -> None:
        host = handle.host
        if handle.cancelled_yet or (host is not None and host.dead):
            return
        if host is not None and host.frozen_until > self.now:
            self._made += 1
            heapq.heappush(self._heap, (host.frozen_until, self._made, handle))
            return
        self.turns += 1
        handle.context.run(handle.callback, *handle.args)

    def close(self) -> None:
        """Let go of what never ended."""
        self._ready.clear()
        self._heap.clear()
        while self._tasks:
            task = self._tasks.pop()
            if not task.done():
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
        self._ready.clear()
        self._heap.clear()


def _nothing() -> None:
    """What is due when nothing but time has to pass."""


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
        future.exception()  # seen: whoever dies before it hears of it is no bug
    else:
        future.set_result(result)
