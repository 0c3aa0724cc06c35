"""Keeps the programs of a stack running: what ends is started again, after a pause that doubles from time to time.

Nothing here waits long: ``tend`` looks once at every program, and whoever drives the stack calls it again and again.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pipeline.local.program import Identity, Program, stop
from pipeline.local.services import Running
from pipeline.local.standing import ProgramRow

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_HOPEFUL_AFTER_S, _SETTLED_AFTER_S = 5.0, 60.0


@dataclass(slots=True)
class Charge:
    """One program under supervision and its present run. Times are of the monotonic clock, in seconds."""

    program: Program
    running: Running
    since_s: float = field(default_factory=time.monotonic)
    restarts: int = 0
    ended_early: int = 0
    last_exit: int | None = None
    pause_s: float = _FIRST_PAUSE_S
    again_at_s: float | None = None
    identity: Identity | None = None

    def __post_init__(self) -> None:
        self.identity = Identity.of(self.running.run.pid)

    def tend(self, now_s: float, served: Callable[[], bool]) -> bool:
        """Notice the end of the run, and start the next when its pause is over and what it needs is ``served``.

        Whether anything changed.
        """
        if self.again_at_s is None:
            if self.running.run.poll() is None:
                return self._settle(now_s)
            self.last_exit = self.running.run.returncode
            self.ended_early += 1
            self.again_at_s = now_s + self.pause_s
            self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
            self.identity = None
            return True
        if now_s < self.again_at_s or not served():
            return False
        self.running = Running(self.program, self.program.start())
        self.identity = Identity.of(self.running.run.pid)
        self.since_s, self.again_at_s = now_s, None
        self.restarts += 1
        return True

    def _settle(self, now_s: float) -> bool:
        """Forgive earlier ends once the program has run for a while."""
        if not self.ended_early or now_s - self.since_s < _SETTLED_AFTER_S:
            return False
        self.pause_s, self.ended_early = _FIRST_PAUSE_S, 0
        return True


class Supervisor:
    """All programs of one stack. ``on_change`` hears of every change.

    Programs that are taken over or started together are one stage: they are stopped together, last stage first.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._stages: list[list[Charge]] = []
        self._on_change = on_change

    def take_over(self, running: Iterable[Running]) -> None:
        """From now on restart these when they end."""
        self._stages.append([Charge(one.program, one) for one in running])
        self._on_change()

    def start(self, programs: Iterable[Program]) -> None:
        stage: list[Running] = []
        self._stages.append([])
        for program in programs:
            stage.append(Running(program, program.start()))
            # One by one: should the next not start, this one is known already and gets stopped.
            self._stages[-1] = [Charge(one.program, one) for one in stage]
        self._on_change()

    def tend(self) -> None:
        """Look at every program once."""
        now_s = time.monotonic()
        changed = False
        for number, stage in enumerate(self._stages):
            # A consumer that starts while Kafka is away only ends again.
            served = functools.partial(self._serving, number)
            for charge in stage:
                changed |= charge.tend(now_s, served)
        if changed:
            self._on_change()

    def not_ready(self) -> list[Program]:
        """Those of the last stage that do not run, or do not serve yet as far as they can tell."""
        return [
            charge.program
            for charge in (self._stages[-1] if self._stages else [])
            if charge.again_at_s is not None or not charge.program.ready()
        ]

    def failing(self, times: int) -> Program | None:
        """The first program that ended this often in short order, and does not look as if that were over."""
        now_s = time.monotonic()
        return next(
            (
                charge.program
                for charge in self._charges()
                if charge.ended_early >= times
                and (charge.again_at_s is not None or now_s - charge.since_s < _HOPEFUL_AFTER_S)
            ),
            None,
        )

    def end(self) -> None:
        """Stop everything."""
        while self._stages:
            stage = self._stages.pop()
            identities = [charge.identity for charge in stage if charge.identity is not None]
            stop(identities, max((charge.program.grace_s for charge in stage), default=0.0))
            for charge in stage:
                charge.running.run.wait()
            self._on_change()

    def _serving(self, stages: int) -> bool:
        """Whether the programs of the first so many stages all run and serve."""
        before = (charge for stage in self._stages[:stages] for charge in stage)
        return all(charge.again_at_s is None and charge.program.ready() for charge in before)

    def _charges(self) -> list[Charge]:
        return [charge for stage in self._stages for charge in stage]

    def rows(self) -> tuple[ProgramRow, ...]:
        """What runs."""
        return tuple(
            ProgramRow(one.program.name, one.program.log, one.identity, one.restarts, one.last_exit)
            for one in self._charges()
        )
