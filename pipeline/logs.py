"""The log of a process that serves: lines on standard error, which never hold it up.

A pipe that nobody reads is full after 64 KiB, and a write into it waits for ever. So a thread of its own writes; what
does not fit into its memory meanwhile is left out, and counted in the log as soon as somebody reads it again.
"""

from __future__ import annotations

import atexit
import collections
import logging
import os
import threading
import time
from typing import Any

WAITING_BYTES_MAX = 1024 * 1024
DRAINED_WITHIN_S = 5.0
"""A process that ends waits no longer for whoever reads its log."""


class Outlet:
    """Whole lines for a file descriptor, written by a thread. ``write`` never waits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._left_out = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > WAITING_BYTES_MAX:
                self._left_out += text.count("\n")
            else:
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Asked for by logging after each line; ``drain`` is what waits."""

    def drain(self, within_s: float) -> bool:
        """Wait until all is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting_bytes, within_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = b"".join(self._waiting)
                self._waiting.clear()
            self._out(data)
            with self._changed:
                self._waiting_bytes -= len(data)
                left_out, self._left_out = self._left_out, 0
                self._changed.notify_all()
            if left_out:
                now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
                self._out(f"{now}Z WARNING {__name__}: {left_out} lines left out: nobody read them\n".encode())

    def _out(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:  # whoever read it is gone, or its disk is full: the usage matters more
            return


_outlets: list[Outlet] = []


def standard_error() -> Outlet:
    """The process's one outlet to standard error."""
    if not _outlets:
        _outlets.append(Outlet(2))
        atexit.register(drain)
    return _outlets[0]


def log_to_standard_error() -> None:
    """One line per message, with UTC time: our own from infos on, everybody else's from warnings on."""
    logging.Formatter.converter = time.gmtime
    stream: Any = standard_error()
    logging.basicConfig(level=logging.WARNING, stream=stream, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s")
    logging.getLogger("meterline").setLevel(logging.INFO)


def drain() -> None:
    """What is said about a process's end should be read: to be called before an end that skips ``atexit``."""
    if _outlets:
        _outlets[0].drain(DRAINED_WITHIN_S)
