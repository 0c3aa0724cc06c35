"""Processes that somebody keeps running: killed, frozen or ended by themselves, they come back as they were."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.local.program import Program, last_lines

ENDS_WITHIN_S = 30.0
LOOK_EVERY_S = 0.05
PAUSE_S = 0.5
"""Before one that ended by itself is started again."""


class Surprise(NamedTuple):
    """A process that ended though nobody had asked it to, or otherwise than it was asked to."""

    name: str
    code: int
    said: str
    """The last lines of its log."""


class Kept:
    """One process. ``kind`` is what it is to the world: gateway, worker, sink, broker, clickhouse."""

    def __init__(self, kind: str, program: Program) -> None:
        self.kind = kind
        self.program = program
        self.run: subprocess.Popen[bytes] = program.start()
        self.again_at = 0.0
        """Not started again before; a moment of the monotonic clock."""
        self.starts = 1
        self._expected = False
        self._changing = threading.RLock()

    @property
    def name(self) -> str:
        return self.program.name

    def alive(self) -> bool:
        return self.run.poll() is None

    def kill(self, away_s: float = 0.0) -> None:
        """As a power cut would; it is back no sooner than after ``away_s``. A dead one is waited for first."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not self.alive() and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        self._end(signal.SIGKILL, away_s)

    def stop(self) -> int:
        """Ask it to go; its exit code, -9 if it does not hear within ENDS_WITHIN_S. It comes back."""
        return self._end(signal.SIGTERM, 0.0)

    def _end(self, number: signal.Signals, away_s: float) -> int:
        with self._changing:
            if not self.alive():
                return self.run.returncode  # it has just been killed
            self._expected = True
            self.again_at = time.monotonic() + away_s
            self.run.send_signal(number)
            try:
                return self.run.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.run.kill()
                return self.run.wait(ENDS_WITHIN_S)

    def freeze(self) -> None:
        self.run.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.run.send_signal(signal.SIGCONT)

    def tend(self) -> Surprise | None:
        """Start it again if it has ended; what surprised whoever looks after it."""
        if not self._changing.acquire(blocking=False):
            return None  # somebody is just ending it
        try:
            if self.alive() or time.monotonic() < self.again_at:
                return None
            if not self._expected:
                self._expected, self.again_at = True, time.monotonic() + PAUSE_S
                return Surprise(self.name, self.run.returncode, last_lines(self.program.log, 4))
            self.run, self._expected = self.program.start(), False
            self.starts += 1
            return None
        finally:
            self._changing.release()

    def end(self) -> None:
        with self._changing:
            if self.alive():
                self.thaw()
                self.run.kill()
                self.run.wait()


class Keeper:
    """Looks after all of them for as long as the ``with`` lasts; at its end every one is gone."""

    def __init__(self) -> None:
        self.all: list[Kept] = []
        self.surprises: list[Surprise] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.rest()
        for one in self.all:
            one.end()

    def rest(self) -> None:
        """Start nothing any more."""
        self._over.set()
        self._thread.join()

    def keep(self, kind: str, programs: Iterable[Program]) -> None:
        for program in programs:
            self.all = [*self.all, Kept(kind, program)]

    def note(self, one: Surprise) -> None:
        self.surprises.append(one)

    def of(self, kind: str) -> list[Kept]:
        return [one for one in self.all if one.kind == kind]

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for one in self.all:
                surprise = one.tend()
                if surprise is not None:
                    self.surprises.append(surprise)
