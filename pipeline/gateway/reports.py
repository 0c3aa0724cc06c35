"""The asynchronous error reports of the stream: per meter and window of ten seconds, with Stripe's codes and samples.

The invalid events themselves are in the dead letters already, durable, when they come here. A report is made from
memory: a gateway that is killed takes the reports of its last window with it, never an event. Each gateway reports what
it saw itself, so a window may have as many reports as there are gateways.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from pipeline.domain.core_events import CoreEvent, RelatedObject
from pipeline.gateway.answers import encode
from pipeline.gateway.ids import object_id
from pipeline.gateway.moments import rfc_3339
from pipeline.gateway.usage import Fault

WINDOW_MS: Final = 10_000
SETTLED_AFTER_MS: Final = 1_000
"""A window is reported this long after its end, so that requests which began in it are in it."""
SAMPLES_MAX: Final = 10
"""Of each code in a report."""
METERS_MAX: Final = 10_000
"""Meters (and, without a meter, modes) in one window; more than that are only in the dead letters."""

ERROR_REPORT: Final = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND: Final = "v1.billing.meter.no_meter_found"

_log = logging.getLogger(__name__)

Announce = Callable[[CoreEvent], Awaitable[None]]


class Invalid(NamedTuple):
    """An event of a stream that its meter cannot take."""

    livemode: bool
    fault: Fault
    request: str
    """The request's Idempotency-Key, or its id: how the sender finds it again."""


class _Code:
    """What one report says of one kind of fault."""

    __slots__ = ("count", "samples")

    def __init__(self) -> None:
        self.count = 0
        self.samples: list[dict[str, Any]] = []


class _Key(NamedTuple):
    """What one report is about."""

    window_start_ms: int
    livemode: bool
    meter: str | None


class Reports:
    """A Service (parts.py). ``announce`` makes a core event durable; ``clock`` gives milliseconds since the epoch."""

    name = "error reports"

    def __init__(self, announce: Announce, clock: Callable[[], int]) -> None:
        self._announce, self._clock = announce, clock
        self._open: defaultdict[_Key, defaultdict[str, _Code]] = defaultdict(lambda: defaultdict(_Code))
        self._unsaid: deque[CoreEvent] = deque(maxlen=METERS_MAX)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._report_for_ever(), name="error reports")

    async def stop(self) -> None:
        """What is open is reported now."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._report(list(self._open))

    def not_ready(self) -> str | None:
        return None

    def add(self, found: Iterable[Invalid], now_ms: int) -> None:
        """Take invalid events into the report of the window in which they came."""
        window_start_ms = now_ms - now_ms % WINDOW_MS
        for livemode, fault, request in found:
            key = _Key(window_start_ms, livemode, None if fault.meter is None else fault.meter.id)
            if key not in self._open and len(self._open) >= METERS_MAX:
                continue
            code = self._open[key][fault.codes.report]
            code.count += 1
            if len(code.samples) < SAMPLES_MAX:
                code.samples.append({"error_message": fault.message, "request": {"identifier": request}})

    async def _report_for_ever(self) -> None:
        while True:
            now_ms = self._clock()
            await asyncio.sleep((WINDOW_MS - (now_ms - SETTLED_AFTER_MS) % WINDOW_MS) / 1000)
            settled_ms = self._clock() - SETTLED_AFTER_MS
            await self._report([key for key in self._open if key.window_start_ms + WINDOW_MS <= settled_ms])

    async def _report(self, keys: list[_Key]) -> None:
        """Each report is made once and keeps its id, however often it takes to make it durable."""
        self._unsaid.extend(self._event(key, self._open.pop(key)) for key in keys)
        while self._unsaid:
            try:
                await self._announce(self._unsaid[0])
            except Exception as error:
                _log.warning("%d error reports wait to be written: %s", len(self._unsaid), error)
                return
            self._unsaid.popleft()

    def _event(self, key: _Key, codes: dict[str, _Code]) -> CoreEvent:
        count = sum(code.count for code in codes.values())
        related = None
        if key.meter is not None:
            related = RelatedObject(key.meter, "billing.meter", f"/v1/billing/meters/{key.meter}")
        said = {
            "developer_message_summary": "There is 1 invalid event"
            if count == 1
            else f"There are {count} invalid events",
            "reason": {
                "error_count": count,
                "error_types": [
                    {"code": code, "error_count": one.count, "sample_errors": one.samples}
                    for code, one in sorted(codes.items())
                ],
            },
            "validation_end": rfc_3339(key.window_start_ms + WINDOW_MS),
            "validation_start": rfc_3339(key.window_start_ms),
        }
        return CoreEvent(
            object_id("event", livemode=key.livemode, operation="report", idempotency_key=None, secret=b""),
            NO_METER_FOUND if key.meter is None else ERROR_REPORT,
            self._clock(),
            key.livemode,
            related,
            encode(said).decode(),
        )
