"""One line per request on standard error, and what an unexpected exception was.

A line has no path, no query string, no header, no body and no key: only the operation's name, the key's public id, the
request's id, and numbers. Lines are gathered and written together: one write per request would be a tenth of its cost.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable

from pipeline.logs import standard_error

GATHERED_S = 0.25
GATHERED_LINES = 200


class RequestLog:
    """Writes with ``write``, standard error unless said."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or standard_error().write
        self._lines: list[str] = []
        self._later: asyncio.TimerHandle | None = None

    def request(self, request_id: str, operation: str, key: str, status: int, took_s: float, sent: int) -> None:
        """One request's line. ``status`` 499: the client went away."""
        self._lines.append(f"{request_id} {operation} key={key} status={status} ms={took_s * 1e3:.1f} bytes={sent}")
        if len(self._lines) >= GATHERED_LINES:
            self.flush()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(GATHERED_S, self.flush)

    def exception(self, request_id: str, error: BaseException) -> None:
        """What nobody expected, with its traceback: for us, under the id that the client was told."""
        text = "".join(traceback.format_exception(error))
        self.say(f"{request_id} unexpected: {text}")

    def say(self, text: str) -> None:
        """A line of its own, at once."""
        self._lines.append(text)
        self.flush()

    def flush(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._lines:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            text = "".join(f"{now} {line}\n" for line in self._lines)
            self._lines.clear()
            self._write(text)
