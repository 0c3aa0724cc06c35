"""The processes of a world: our real steps, on models of everything around them.

Each start asks the ledger which generation is live, as in production, and works on that one until another is. A crew's
processes (operator.py) work on one that is being built.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.errors import MeterlineError, Refusal
from pipeline.kafka.offsets import Noted
from pipeline.replay.following import Apart, Part, part_of
from pipeline.sink.feed import Feed, FeedLimits
from pipeline.sink.tabulation import Tabulator
from pipeline.stream.app import LOOK_ROUND_EVERY_S, Fate
from pipeline.worker.acts import Acts
from pipeline.worker.core import CoreLimits, WorkerCore
from pipeline.worker.opening import Opening
from tests.simulation.broker import Place, SimOutlet
from tests.simulation.groups import SESSION_S, Member
from tests.simulation.loop import Host
from tests.simulation.plan import RULES
from tests.simulation.stores import Disk, SimStores

if TYPE_CHECKING:
    from tests.simulation.world import World


Step = Callable[[], Awaitable[None]]


class Machine:
    """Where one process runs, dies and is started again."""

    part: Part
    """What it works on, since its last start."""

    def __init__(
        self, world: World, name: str, apart: Apart | None = None, parent: Host | None = None, group: str = ""
    ) -> None:
        """``apart`` and ``parent``: of a crew's, which works on that generation while the parent lives. ``group``: of a
        sink that copies everything once more.
        """
        self.world = world
        self.name = name
        self.disks: defaultdict[int, Disk] = defaultdict(Disk)
        """By generation."""
        self._apart = apart
        self._own_group = group
        self._parent = parent
        self.host = Host(name, dead=True)
        self.member: Member | None = None
        self.refused: str | None = None
        self.starts = 0

    def start(self) -> None:
        if not self.host.dead or self.refused is not None:
            return
        for files in [files for disk in self.disks.values() for files in disk.stores.values()]:
            lost = files.crash(self.world.chance.of(f"disk {self.name}"))
            if lost:
                self.world.trace.reach("a crash lost writes")
        self.part = part_of(self.world.ledger, self.world.topics.namespace, self._apart)
        self.starts += 1
        self.host = Host(self.name)
        self.world.trace.say(self.world.loop.now, self.name, "starts", *([self.number] if self.number > 1 else []))
        self.member = member = self._member(self.host)
        steps = [member.rebalance_forever, member.fetch_forever, member.commit_forever, *self._steps(member)]
        if self.world.operator is not None:  # else nothing will ever change
            steps.append(self._look_round)
        for step in steps:
            self._run(step)
        member.coordinator.join(member)

    @property
    def kind(self) -> str:
        """worker, sink, or crew"""
        return self.name.partition("-")[0]

    @property
    def number(self) -> int:
        """The generation that it works on."""
        return self.part.generation.number

    async def _look_round(self) -> None:
        """As ``pipeline.stream.app._look_round``."""
        while True:
            await asyncio.sleep(LOOK_ROUND_EVERY_S)
            fate = await asyncio.to_thread(self._fate)
            if fate is not Fate.GO_ON:
                self.world.trace.reach("left for another generation" if fate is Fate.BEGIN_AGAIN else "left alone")
                self.stop(0.05 if fate is Fate.BEGIN_AGAIN else None)
                return

    def _fate(self) -> Fate:
        if self._parent is None:
            return self.part.fate()
        return Fate.END if self._parent.dead else Fate.GO_ON

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
        self.world.trace.reach(f"{self.kind} killed")
        loop.call_on(None, SESSION_S, member.coordinator.silent, member)
        if restart_after is not None:
            loop.call_on(None, restart_after, self.start)

    def freeze(self, seconds: float) -> None:
        host, member, loop = self.host, self.member, self.world.loop
        if host.dead or member is None:
            return
        host.frozen_until = max(host.frozen_until, loop.now + seconds)
        self.world.trace.say(loop.now, self.name, "frozen for", seconds)
        self.world.trace.reach(f"{self.kind} frozen")
        if seconds > SESSION_S:
            loop.call_on(None, SESSION_S, member.coordinator.silent, member)

    def stop(self, restart_after: float | None) -> None:
        """SIGTERM: leaves in peace."""
        if self.host.dead or self.member is None:
            return
        host, member = self.host, self.member
        self._run(lambda: self._leave(host, member, restart_after))

    async def _leave(self, host: Host, member: Member, restart_after: float | None) -> None:
        self.world.trace.say(self.world.loop.now, self.name, "asked to stop")
        await self._last_words()
        await member.commit()
        member.coordinator.leave(member)
        self.world.trace.reach("left in peace")
        host.dead = True
        if restart_after is not None:
            self.world.loop.call_on(None, restart_after, self.start)

    async def _last_words(self) -> None:
        """What is done before a stop."""

    def _member(self, host: Host) -> Member:
        raise NotImplementedError

    def _steps(self, member: Member) -> list[Step]:
        raise NotImplementedError


class SimActs(Acts):
    """``pipeline.worker.acts.Acts``, asking models."""

    def __init__(self, world: World, part: Part, outlet: SimOutlet, *, acting: bool) -> None:
        before = tuple(topics.worker_group for topics in part.others)
        super().__init__({}, part.topics, world.codec, outlet, acting=acting, before=before, alone=part.alone)
        self._world = world

    def _noted(self, group: str, places: Iterable[Place]) -> dict[Place, Noted]:
        return self._world.noted(group, places)

    def _first(self, place: Place) -> int:
        return self._world.broker.logs[place].first

    def _records(self, start: int, partition: int) -> Generator[Any, None, None]:
        yield from self._world.records(self._topics.journal, partition, start)


class WorkerHost(Machine):
    """``pipeline.worker.core.WorkerCore``"""

    core: WorkerCore
    outlet: SimOutlet

    def _member(self, host: Host) -> Member:
        world, shape, topics, acting = self.world, self.world.plan.shape, self.part.topics, self._apart is None
        self.outlet = SimOutlet(world.broker, host)
        stores = SimStores(
            self.disks[self.number],
            world.snapshots[self.number] if shape.snapshots else None,
            world.chance.of(f"disk {self.name}"),
            world.chance.of(f"snapshots {self.name}"),
            world.trace,
            lambda partition, cursor: world.wrote(self, acting, partition, cursor),
            world.loop.effect,
        )
        opening = Opening(world.broker, stores, topics, RULES, world.codec, stamped=acting)
        limits = CoreLimits(shape.flush_every_ms, shape.flush_records, shape.snapshot_every_ms)
        acts = SimActs(world, self.part, self.outlet, acting=acting)
        self.core = core = WorkerCore(limits, world.codec, topics, self.outlet, opening, stores, acts.take_over)
        reads = [topics.journal, topics.adjustments] if acting else [topics.journal]
        member = Member(host, world.group(topics.worker_group), reads, shape.batch_records, acting)
        member.take_over = lambda: core.take_over(member)
        member.start_offsets = partial(self._start_offsets, member, acts)
        return member

    def _start_offsets(self, member: Member, acts: Acts, assigned: set[Place]) -> dict[Place, int]:
        """As ``pipeline.worker.app.Worker._start_offsets``."""
        journal, adjustments = self.part.topics.journal, self.part.topics.adjustments
        acted = acts.below(sorted(place for place in assigned if place[0] == adjustments))
        for place, offset in acted.items():
            member.note_place(place, offset)
        offsets = {place: self.core.start_offset(place[1]) for place in assigned if place[0] == journal}
        return {place: offset for place, offset in offsets.items() if offset is not None} | acted

    def _steps(self, member: Member) -> list[Step]:
        core, topics = self.core, self.part.topics
        steps = [
            lambda: core.fold_all(member.stream(topics.journal)),
            core.flush_forever,
            core.watch_journal,
            core.watch_summaries,
        ]
        if member.acting:
            steps.append(lambda: core.route_all(member.stream(topics.adjustments)))
        return [*steps, core.snapshot_forever] if core.stores.snapshots_kept else steps

    async def _last_words(self) -> None:
        await self.core.flush_last()


class SinkHost(Machine):
    """The feeds of ``pipeline.sink``."""

    def _member(self, host: Host) -> Member:
        world, topics = self.world, self.part.topics
        reads = [topics.summaries, topics.dispositions]
        regular = self._apart is None
        if (regular and world.plan.shape.event_log) or self._own_group:
            reads.append(topics.adjustments)
        if (regular or self._own_group) and world.plan.shape.event_log:
            reads.append(topics.journal)
        member = Member(host, world.group(self._own_group or topics.sink_group), reads, world.plan.shape.batch_records)
        member.start_offsets = partial(self._start_offsets, member)
        return member

    def _start_offsets(self, member: Member, assigned: set[Place]) -> dict[Place, int]:
        """As ``pipeline.sink.app.Sink._start_offsets``."""
        before = [] if self._own_group else [topics.sink_group for topics in self.part.others]
        shared = {place for place in assigned if place[0] in (self.part.topics.journal, self.part.topics.adjustments)}
        found: dict[Place, int] = {}
        for group in (self.part.topics.sink_group, *before) if before else ():
            for place in shared:
                found[place] = max(found.get(place, 0), self.world.group(group).committed[place])
        for place, offset in found.items():
            member.note_place(place, offset)
        return found

    def _steps(self, member: Member) -> list[Step]:
        world, topics = self.world, self.part.topics
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
        for topic in sorted(member.topics):
            letters = topics.dead_letters if topic in (topics.summaries, topics.dispositions) else None
            feed = Feed(topic, tabulate[topic], limits, world.database, outlet, letters, self.number)
            steps += [partial(_gather, feed, member, topic), feed.flush_forever]
        return steps


async def _gather(feed: Feed, member: Member, topic: str) -> None:
    await feed.gather(member.stream(topic))
