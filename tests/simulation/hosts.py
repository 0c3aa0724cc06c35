"""The processes of a world: our real steps, on models of everything around them.

A rebuild's workers will be a third kind beside ``WorkerHost`` and ``SinkHost``: with topics of its own to write.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from pipeline.errors import MeterlineError, Refusal
from pipeline.sink.feed import Feed, FeedLimits
from pipeline.sink.tabulation import Tabulator
from pipeline.worker.core import CoreLimits, WorkerCore
from pipeline.worker.opening import Opening
from tests.simulation.broker import SimOutlet
from tests.simulation.groups import SESSION_S, Coordinator, Member
from tests.simulation.loop import Host
from tests.simulation.plan import RULES
from tests.simulation.stores import Disk, SimStores

if TYPE_CHECKING:
    from tests.simulation.world import World


Step = Callable[[], Awaitable[None]]


class Machine:
    """Where one process runs, dies and is started again."""

    def __init__(self, world: World, name: str, coordinator: Coordinator) -> None:
        self.world = world
        self.name = name
        self.coordinator = coordinator
        self.disk = Disk()
        self.host = Host(name, dead=True)
        self.member: Member | None = None
        self.refused: str | None = None
        self.starts = 0

    def start(self) -> None:
        if not self.host.dead or self.refused is not None:
            return
        for files in self.disk.stores.values():
            lost = files.crash(self.world.chance.of(f"disk {self.name}"))
            if lost:
                self.world.trace.reach("a crash lost writes")
        self.starts += 1
        self.host = Host(self.name)
        self.world.trace.say(self.world.loop.now, self.name, "starts")
        self.member = self._member(self.host)
        member = self.member
        for step in (member.rebalance_forever, member.fetch_forever, member.commit_forever, *self._steps(member)):
            self._run(step)
        self.coordinator.join(self.member)

    def _run(self, step: Step) -> None:
        host = self.host
        self.world.loop.on(host, self._watched(host, step))

    async def _watched(self, host: Host, step: Step) -> None:
        try:
            await step()
        except Refusal as error:
            self.world.refused(self, str(error))
        except MeterlineError as error:
            self.world.trace.say(self.world.loop.now, self.name, "stopped by", type(error).__name__)
            self.kill(0.1)
        except Exception as error:  # a violation, or a bug
            self.world.loop.failure = self.world.loop.failure or error

    def kill(self, restart_after: float | None) -> None:
        """kill -9. The group hears of it when the session times out."""
        host, member, loop = self.host, self.member, self.world.loop
        if host.dead or member is None:
            return
        host.dead = True
        self.world.trace.say(loop.now, self.name, "killed")
        loop.call_on(None, SESSION_S, self.coordinator.silent, member)
        if restart_after is not None:
            loop.call_on(None, restart_after, self.start)

    def freeze(self, seconds: float) -> None:
        host, member, loop = self.host, self.member, self.world.loop
        if host.dead or member is None:
            return
        host.frozen_until = max(host.frozen_until, loop.now + seconds)
        self.world.trace.say(loop.now, self.name, "frozen for", seconds)
        if seconds > SESSION_S:
            loop.call_on(None, SESSION_S, self.coordinator.silent, member)

    def stop(self, restart_after: float) -> None:
        """SIGTERM: leaves in peace."""
        if self.host.dead or self.member is None:
            return
        host, member = self.host, self.member
        self._run(lambda: self._leave(host, member, restart_after))

    async def _leave(self, host: Host, member: Member, restart_after: float) -> None:
        self.world.trace.say(self.world.loop.now, self.name, "asked to stop")
        await self._last_words()
        await member.commit()
        self.coordinator.leave(member)
        self.world.trace.reach("left in peace")
        host.dead = True
        self.world.loop.call_on(None, restart_after, self.start)

    async def _last_words(self) -> None:
        """What is done before a stop."""

    def _member(self, host: Host) -> Member:
        raise NotImplementedError

    def _steps(self, member: Member) -> list[Step]:
        raise NotImplementedError


class WorkerHost(Machine):
    """``pipeline.worker.core.WorkerCore``"""

    core: WorkerCore
    outlet: SimOutlet

    def _member(self, host: Host) -> Member:
        world, shape = self.world, self.world.plan.shape
        self.outlet = SimOutlet(world.broker, host)
        stores = SimStores(
            self.disk,
            world.snapshots if shape.snapshots else None,
            world.chance.of(f"disk {self.name}"),
            world.trace,
            lambda partition, cursor: world.wrote(self.name, partition, cursor),
            world.loop.effect,
        )
        opening = Opening(world.broker, stores, world.topics, RULES, world.codec)
        limits = CoreLimits(shape.flush_every_ms, shape.flush_records, shape.snapshot_every_ms)
        self.core = core = WorkerCore(limits, world.codec, world.topics, self.outlet, opening, stores)
        member = Member(
            host,
            self.coordinator,
            shape.batch_records,
            lambda: core.take_over(member),
            lambda place: core.start_offset(place[1]) if place[0] == world.topics.journal else None,
        )
        return member

    def _steps(self, member: Member) -> list[Step]:
        core, topics = self.core, self.world.topics
        steps = [
            lambda: core.fold_all(member.stream(topics.journal)),
            lambda: core.route_all(member.stream(topics.adjustments)),
            core.flush_forever,
            core.watch_journal,
        ]
        return [*steps, core.snapshot_forever] if core.stores.snapshots_kept else steps

    async def _last_words(self) -> None:
        await self.core.flush_last()


class SinkHost(Machine):
    """The feeds of ``pipeline.sink``."""

    def _member(self, host: Host) -> Member:
        return Member(host, self.coordinator, self.world.plan.shape.batch_records)

    def _steps(self, member: Member) -> list[Step]:
        world, topics = self.world, self.world.topics
        tabulator = Tabulator(world.codec)
        limits = FeedLimits(every_ms=100, rows=world.plan.shape.insert_rows)
        outlet = SimOutlet(world.broker, member.host)
        tabulate = {
            topics.summaries: tabulator.summaries,
            topics.dispositions: tabulator.dispositions,
            topics.adjustments: tabulator.adjustments,
            topics.journal: tabulator.journal,
        }
        steps: list[Step] = []
        for topic in sorted({topic for topic, _ in self.coordinator.places}):
            letters = topics.dead_letters if topic in (topics.summaries, topics.dispositions) else None
            feed = Feed(topic, tabulate[topic], limits, world.database, outlet, letters)
            steps += [partial(_gather, feed, member, topic), feed.flush_forever]
        return steps


async def _gather(feed: Feed, member: Member, topic: str) -> None:
    await feed.gather(member.stream(topic))
