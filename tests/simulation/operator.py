"""Somebody who rebuilds, goes back and drops while all of it runs; killed at any call, the command is given again.

The steps are ``pipeline/replay/rebuild.py`` as they are. They block: the world goes on when they sleep (loop.wait).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from pipeline.domain.generations import Generation
from pipeline.errors import MeterlineError, Refusal
from pipeline.replay import comparison, coverage, rebuild, tables
from pipeline.replay.following import Apart
from pipeline.replay.tables import fill
from tests.simulation.checks import hold
from tests.simulation.ground import SimGround
from tests.simulation.hosts import Machine, SinkHost, WorkerHost
from tests.simulation.loop import Died, Host
from tests.simulation.plan import RULES

if TYPE_CHECKING:
    from tests.simulation.world import World

AGAIN_AFTER_S = 1.0
STARTED_AGAIN_AFTER_S = 0.5
LOCKED_WITHIN_S = 20.0


class Clock:
    """The module ``time`` of the steps."""

    def __init__(self, world: World) -> None:
        self._loop = world.loop

    def monotonic(self) -> float:
        return self._loop.now

    def sleep(self, seconds: float) -> None:
        self._loop.effect("sleep", "before")
        self._loop.wait(seconds)


@contextlib.contextmanager
def virtual_time(world: World) -> Iterator[None]:
    modules: tuple[Any, ...] = (rebuild, comparison, coverage, tables)
    kept = [module.time for module in modules]
    for module in modules:
        module.time = Clock(world)
    try:
        yield
    finally:
        for module, time in zip(modules, kept, strict=True):
            module.time = time


class Watching:
    """``pipeline.replay.rebuild.Watch``"""

    def __init__(self, world: World) -> None:
        self._world = world

    @contextlib.contextmanager
    def step(self, description: str, measured: bool = False) -> Iterator[Callable[[int, int, str], None]]:
        self._world.trace.say(self._world.loop.now, "operator", description)
        yield lambda done, total, note: None

    def go_without(self, error: MeterlineError) -> bool:
        return False

    def agree(self, found: comparison.Comparison) -> bool:
        hold("1 prefix determinism", found.equal, "a rebuild differs:", found.differences, found.dispositions)
        self._world.trace.reach("compared")
        return True


class SimCrew:
    """``pipeline.replay.crew.Crew``: its processes live no longer than the command."""

    def __init__(self, world: World, parent: Host, one: Generation, group: str = "") -> None:
        """``group``: of one sink alone, which copies everything once more."""
        self._world = world
        self._parent = parent
        self._one = one
        self._group = group
        self.size = 0 if group else 1 + one.partitions // 3
        self._again_at: dict[str, float] = {}

    @property
    def _machines(self) -> dict[str, Machine]:
        return self._world.crew

    def __enter__(self) -> Self:
        deadline = self._world.loop.now + LOCKED_WITHIN_S
        while any(not machine.host.dead for machine in self._machines.values()):
            if self._world.loop.now > deadline:
                raise Refusal("another command builds just now")
            self._world.loop.wait(0.1)
        kept = {name: machine.disks for name, machine in self._machines.items()}
        self._machines.clear()
        apart = Apart(self._one.number, 0)
        for name in (*(f"crew-{number}" for number in range(self.size)), "crew-sink"):
            kind = SinkHost if name == "crew-sink" else WorkerHost
            self._machines[name] = machine = kind(self._world, name, apart, self._parent, self._group)
            machine.disks = kept.get(name, machine.disks)
            machine.start()
        return self

    def tend(self) -> None:
        self._world.loop.effect("tend", "before")
        for name, machine in self._machines.items():
            if machine.refused is not None:
                raise Refusal(machine.refused)
            if machine.host.dead and self._world.loop.now >= self._again_at.setdefault(
                name, self._world.loop.now + STARTED_AGAIN_AFTER_S
            ):
                del self._again_at[name]
                machine.start()

    def keep_state(self, folded: Mapping[int, int]) -> bool:
        if not self._world.plan.shape.snapshots:
            return False
        deadline = self._world.loop.now + 20.0
        while any(self._reach(number) < offset for number, offset in folded.items()):
            if self._world.loop.now > deadline:
                return False
            for machine in self._machines.values():
                if isinstance(machine, WorkerHost) and not machine.host.dead:
                    machine.core.snapshot_due.set()
            self.tend()
            self._world.loop.wait(0.1)
        return True

    def _reach(self, partition: int) -> int:
        kept = self._world.snapshots[self._one.number].of
        return max(
            (one.cursor for origin, ones in kept.items() if origin.partition == partition for one in ones), default=0
        )

    def leave(self) -> None:
        for machine in self._machines.values():
            machine.stop(None)
        deadline = self._world.loop.now + 20.0
        while any(not machine.host.dead for machine in self._machines.values()) and self._world.loop.now < deadline:
            self._world.loop.wait(0.1)
        for machine in self._machines.values():
            machine.kill(None)

    def __exit__(self, *_: object) -> None:
        if not self._parent.dead:
            self.leave()


class Operator(Machine):
    """Gives commands, one after the other, each until it has come to its end."""

    def __init__(self, world: World, script: list[str]) -> None:
        super().__init__(world, "operator")
        self.script = script
        self._goal: int | None = None
        """The generation that the command is about, once it has begun."""

    def start(self) -> None:
        if self.host.dead and self.script:
            self.host = Host(self.name)
            self.world.loop.call_on(self.host, 0.0, self._work)

    def kill(self, restart_after: float | None) -> None:
        if not self.host.dead:
            self.host.dead = True
            self.world.trace.say(self.world.loop.now, self.name, "killed at", self.script[0])
            self.world.trace.reach(f"{self.script[0]} was killed")
            if restart_after is not None:
                self.world.loop.call_on(None, restart_after, self.start)

    def freeze(self, seconds: float) -> None:
        self.host.frozen_until = max(self.host.frozen_until, self.world.loop.now + seconds)

    def stop(self, restart_after: float | None) -> None:
        self.kill(restart_after)

    def _work(self) -> None:
        try:
            while self.script:
                self.world.trace.say(self.world.loop.now, self.name, "begins", self.script[0])
                getattr(self, "_" + self.script[0])()
                self.world.trace.reach(f"{self.script.pop(0)} came to its end")
                self._goal = None
        except Died:
            return
        except MeterlineError as error:
            self.world.trace.say(self.world.loop.now, self.name, "is told", error)
            shown = self.world.ledger.read().live.number == self.world.database.shown
            if self.world.truncated and shown and self.script[0] != "tables":
                self.script.clear()  # nothing can be built of it any more; what is half switched over is finished
            self.world.loop.call_on(None, AGAIN_AFTER_S, self.start)
        self.host.dead = True

    # As pipeline/cli/rebuild.py puts the steps together.

    def _rebuild(self) -> None:
        ground, watch = SimGround(self.world), Watching(self.world)
        one: Any = rebuild.unfinished(ground)
        if one is not None:
            with SimCrew(self.world, self.host, one) as crew:
                rebuild.switch(ground, one, crew, watch)
        else:
            one = rebuild.begin(ground, RULES.version, watch, accept=False)
            with SimCrew(self.world, self.host, one) as crew:
                rebuild.build(ground, one, crew, watch)
        self._clear()

    def _rollback(self) -> None:
        ground, watch = SimGround(self.world), Watching(self.world)
        if self._goal is None:
            self._goal = rebuild.former(ground).number
        if self.world.ledger.read().live.number == self._goal == ground.shown():
            return  # the list of generations says so
        one: Any = rebuild.unfinished(ground) or rebuild.former(ground)
        with SimCrew(self.world, self.host, one) as crew:
            rebuild.catch_up(ground, one, crew, watch)
            rebuild.switch(ground, one, crew, watch)
        self._clear()

    def _drop(self) -> None:
        ground = SimGround(self.world)
        former = self.world.ledger.read().former
        if self._goal is None and former is not None:
            self._goal = former.number
        if self._goal is not None:
            ground.drop(self._goal)

    def _tables(self) -> None:
        """ClickHouse has lost everything, and of the summary log compaction has left what was appended last."""
        if self._goal is None:
            self._goal = self.world.ledger.read().live.number
            self.world.steps.lose_tables()

        def sink_of(one: Generation, group: str) -> Any:
            return SimCrew(self.world, self.host, one, group)

        ground: Any = SimGround(self.world)
        fill(ground, sink_of, Watching(self.world), event_log=self.world.plan.shape.event_log)
        self._clear()

    def _clear(self) -> None:
        for machine in self.world.crew.values():
            machine.disks.clear()
