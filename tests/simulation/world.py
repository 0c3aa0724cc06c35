"""A world made from a plan: brokers, workers, sinks and a database in virtual time, until they come to rest."""

from __future__ import annotations

import contextlib
import logging
import random
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from pipeline.codec.records import Codec
from pipeline.domain.generations import DROPPED
from pipeline.errors import UndecodableRecord
from pipeline.kafka.offsets import Noted
from pipeline.kafka.reading import Record
from pipeline.kafka.topics import Topics, topics_of_generation
from pipeline.sink import tabulation
from pipeline.worker import columnar, layout, summary_log
from pipeline.worker import state as state_module
from tests.simulation.broker import T0_MS, Broker, Place
from tests.simulation.chance import Chance, Trace
from tests.simulation.checks import Checks, Violation
from tests.simulation.clickhouse import SimClickHouse
from tests.simulation.ground import SimLedger
from tests.simulation.groups import Coordinator
from tests.simulation.hosts import Machine, SinkHost, WorkerHost
from tests.simulation.loop import Deadlock, Host, SimLoop
from tests.simulation.operator import Operator, virtual_time
from tests.simulation.oracle import Windows
from tests.simulation.plan import RULES, TRAFFIC_S, Plan, Step
from tests.simulation.steps import Steps
from tests.simulation.stores import SnapshotStore

REST_WITHIN_S = 60.0
"""Virtual time between the last step and rest: lag 0 everywhere (invariant 12 of FAULTS)."""


OPERATED_WITHIN_S = 600.0
"""The same where somebody rebuilds: commands wait for as long as a minute and a half."""
LOOK_EVERY_S = 0.2
FEW = 2
"""Records that are folded one by one where more go by columns."""


class Outcome(NamedTuple):
    """What became of a run."""

    failure: str | None
    trace: Trace
    turns: int


class RememberingCodec(Codec):
    """Decodes equal bytes once: half of a world's time would go into it otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[str, bytes | None], Any] = {}

    def _once(self, kind: str, value: bytes | None, decode: Any) -> Any:
        found = self._known.get((kind, value))
        if found is None:
            try:
                found = decode(value)
            except UndecodableRecord as error:
                found = error
            self._known[kind, value] = found
        if isinstance(found, UndecodableRecord):
            raise UndecodableRecord(found.reason, found.detail)
        return found

    def decode_journal(self, value: bytes | None) -> Any:
        return self._once("journal", value, super().decode_journal)

    def decode_accepted_event(self, value: bytes) -> Any:
        return self._once("accepted", value, super().decode_accepted_event)

    def decode_shard(self, value: bytes | None) -> Any:
        return self._once("shard", value, super().decode_shard)

    def decode_disposition(self, value: bytes | None) -> Any:
        return self._once("disposition", value, super().decode_disposition)


class World:
    """Everything there is, until it comes to rest."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = Chance(plan.chance)
        self.trace = Trace()
        self.loop = SimLoop(self._delay)
        self.loop.at_effect = self._effect
        self.topics = topics = Topics("sim")
        count = plan.shape.partitions
        self.broker = Broker(
            self.loop,
            self.chance,
            self.trace,
            {
                topics.journal: count,
                topics.adjustments: min(2, count),
                topics.summaries: count,
                topics.dispositions: count,
                topics.dead_letters: 1,
            },
        )
        self.broker.holes = plan.shape.holes
        self.broker.tick_ms = plan.shape.tick_ms
        self.codec = RememberingCodec()
        windows = Windows(RULES.max_past_ms, RULES.max_ahead_ms, RULES.cancellation_window_ms)
        self.checks = Checks(self.broker, topics, self.codec, windows)
        self.database = SimClickHouse(self.broker)
        self.snapshots: defaultdict[int, SnapshotStore] = defaultdict(SnapshotStore)
        """By generation."""
        self.ledger = SimLedger(self)
        self.groups: dict[str, Coordinator] = {}
        self.commits_lost = plan.shape.commits_lost
        self.broker.on_append.append(self._appended)
        self.machines: dict[str, Machine] = {}
        for number in range(plan.shape.workers):
            self.machines[f"worker-{number}"] = WorkerHost(self, f"worker-{number}")
        for number in range(plan.shape.sinks):
            self.machines[f"sink-{number}"] = SinkHost(self, f"sink-{number}")
        self.crew: dict[str, Machine] = {}
        self.operator = Operator(self, list(plan.shape.script)) if plan.shape.script else None
        self.traps: deque[list[Any]] = deque()
        self.truncated = False
        self.steps = Steps(self)
        self.steps_left = len(plan.steps)
        self.rested = False

    # What models ask.

    def _delay(self, host: Host | None, name: str) -> float:
        return self.chance.of(f"threads {host}").choice((0.0, 0.001, 0.002, 0.010, 0.060))

    def _effect(self, host: Host, name: str, when: str) -> None:
        for trap in list(self.traps):
            if trap[:3] == [host.name, name, when]:
                trap[3] -= 1
                if trap[3] <= 0:
                    self.traps.remove(trap)
                    self.trace.say(self.loop.now, host.name, f"{trap[4]} {when} {name}")
                    self.trace.reach(f"{when} {name}")
                    self.trace.reach(f"{host.name} at {name}")
                    machine = self._named(host.name)
                    (machine.kill if trap[4] == "kill" else machine.freeze)(trap[5])

    def _appended(self, topic: str, partition: int, stored: Any) -> None:
        self.trace.say(self.loop.now, topic, "append", partition, stored.offset, stored.appended_at_ms - T0_MS)
        for machine in (*self.machines.values(), *self.crew.values()):
            if machine.member is not None:
                machine.member.wake((topic, partition))

    def _named(self, name: str) -> Machine:
        if name == "operator" and self.operator is not None:
            return self.operator
        return self.crew[name] if name in self.crew else self.machines[name]

    def group(self, name: str) -> Coordinator:
        if name not in self.groups:
            self.groups[name] = group = Coordinator(name, self.broker)
            group.commits_lost = self.commits_lost
            group.on_commit.append(partial(self._committed, name))
        return self.groups[name]

    def noted(self, group: str, places: Iterable[Place]) -> dict[Place, Noted]:
        """``pipeline.kafka.offsets.committed_with_notes``"""
        one = self.group(group)
        return {
            place: Noted(one.committed[place], "by a worker that acts" if place in one.noted else "")
            for place in places
        }

    def records(self, topic: str, partition: int, start: int) -> Iterator[Record]:
        """``pipeline.kafka.reading.read``"""
        for one in list(self.broker.logs[topic, partition].records):
            if one.offset >= start:
                yield Record(partition, one.offset, one.appended_at_ms, one.key, one.value, list(one.headers))

    def _committed(self, group: str, place: Place, offset: int, acting: bool) -> None:
        self.trace.say(self.loop.now, group, "commit", *place, offset)
        self.checks.commit(group, acting, place, offset, self.database)

    def wrote(self, machine: Machine, acting: bool, partition: int, cursor: int) -> None:
        self.trace.say(self.loop.now, machine.name, "writes", partition, cursor)
        self.checks.cursor(partition, cursor, machine.number, machine.name)
        if acting:
            self.checks.acted(partition, cursor, machine.name)

    def refused(self, machine: Machine, why: str) -> None:
        if self.ledger.read().by_number[machine.number].state == DROPPED:
            self.trace.reach("found its generation dropped")
            machine.kill(0.5)  # whatever watches over processes starts it again
            return
        if not self._lacks_records(machine):
            self.loop.failure = Violation(f"12 liveness: {machine.name} refuses, though nothing is wrong: {why}")
            return
        self.trace.say(self.loop.now, machine.name, "refused", why)
        machine.refused = why
        machine.kill(None)

    def _lacks_records(self, machine: Machine) -> bool:
        """Whether records were deleted that a machine has to read, and that are in no state it could begin with."""
        journal = machine.part.topics.journal
        firsts = {number: self.broker.logs[journal, number].first for number in range(self.broker.partitions[journal])}
        return any(first > self._reach(machine, number) for number, first in firsts.items())

    def _reach(self, machine: Machine, number: int) -> int:
        """Up to where a machine needs no record of the journal any more."""
        place = machine.part.topics.journal, number
        if not isinstance(machine, WorkerHost):
            return machine.member.coordinator.committed[place] if machine.member is not None else 0
        acted = max((group.committed[place] for group in self.groups.values() if place in group.noted), default=0)
        if number in machine.core.partitions:
            return machine.core.partitions[number].next_offset
        return min(acted, machine.disks[machine.number].reach(number))

    # A run.

    def run(self) -> Outcome:
        """Take the steps, let the world heal, wait for rest, check."""
        random.seed(self.plan.chance)  # the sink's back-off
        logging.getLogger("meterline").setLevel(logging.CRITICAL)
        failure = None
        with _small(self.plan.shape.by_columns), virtual_time(self), contextlib.closing(self.loop):
            try:
                self._live()
            except Deadlock:
                failure = f"12 liveness: no rest after {self.loop.now:.1f} s, {self.loop.turns} turns: {self._lag()}"
            except Exception as error:  # whatever a step of ours raises
                failure = f"{type(error).__name__}: {error}"
                self.error = error
        return Outcome(failure, self.trace, self.loop.turns)

    def _live(self) -> None:
        for machine in self.machines.values():
            machine.start()
        for step in self.plan.steps:
            self.loop.call_at(step.at, self._take, step)
        if self.operator is not None:
            self.loop.call_at(self.chance.of("operator").random() * TRAFFIC_S, self.operator.start)
        self.loop.call_at(TRAFFIC_S, self._heal)
        self.loop.run_until(lambda: self.rested, TRAFFIC_S + (OPERATED_WITHIN_S if self.operator else REST_WITHIN_S))
        if not any(machine.refused for machine in self.machines.values()):
            for machine in self.machines.values():
                if isinstance(machine, WorkerHost) and not machine.host.dead:
                    self.checks.accounts(machine.core.partitions.values(), machine.name)
            self.checks.at_rest(
                self.ledger.read().live.number,
                self.database if self.plan.shape.sinks else None,
                self.plan.shape.event_log and not self.truncated,
            )

    def _take(self, step: Step) -> None:
        self.steps_left -= 1
        self.trace.tell(self.loop.now, "step", step.kind, *step.args)
        self.steps.take(step)

    def _heal(self) -> None:
        """No more faults: everybody is there, and everything answers. But commands take longer than that: whoever is to
        be killed in one still will be.
        """
        self.trace.say(self.loop.now, "world", "heals")
        regular = self.machines.keys()
        self.traps = deque(trap for trap in self.traps if trap[0] not in regular)
        for log in self.broker.logs.values():
            log.away_until = 0.0
        self.commits_lost = 0.0
        for group in self.groups.values():
            group.commits_lost = 0.0
        self.database.away_until = self.database.unsure_until = 0.0
        self._look_for_rest()

    def _look_for_rest(self) -> None:
        self.rested = self._at_rest()
        self.loop.call_later(LOOK_EVERY_S, self._look_for_rest)

    def _at_rest(self) -> bool:
        if self.steps_left or any(machine.host.frozen_until > self.loop.now for machine in self.machines.values()):
            return False
        if any(machine.refused for machine in self.machines.values()):
            return self.loop.now > TRAFFIC_S + 10.0
        if self.operator is not None and (self.operator.script or not self._taken_over()):
            return False
        return not self._lag()

    def _taken_over(self) -> bool:
        """Whether regular workers have all of the journal: a crew that was faster sends no strays on."""
        topics = self.topics_of_live()
        noted = self.group(topics.worker_group).noted
        return all((topics.journal, number) in noted for number in range(self.plan.shape.partitions))

    def _live_groups(self) -> list[tuple[Coordinator, list[str]]]:
        """Those of the live generation, with the topics that they read."""
        topics = self.topics_of_live()
        found = [(self.group(topics.worker_group), [topics.journal, topics.adjustments])]
        if self.plan.shape.sinks:
            shared = [topics.journal, topics.adjustments] if self.plan.shape.event_log else []
            found.append((self.group(topics.sink_group), [topics.summaries, topics.dispositions, *shared]))
        return found

    def topics_of_live(self) -> Topics:
        return topics_of_generation(self.topics.namespace, self.ledger.read().live)

    def _lag(self) -> list[Any]:
        return self.checks.overtaken(self.ledger.read().live.number) + [
            (group.name, topic, number, group.committed[topic, number], log.end)
            for group, topics in self._live_groups()
            for topic in topics
            for number in range(self.broker.partitions[topic])
            if max(group.committed[topic, number], (log := self.broker.logs[topic, number]).first) < log.end
        ]


@contextlib.contextmanager
def _small(by_columns: bool) -> Iterator[None]:
    """Pages and caches so small that a few dozen records fill them, and few records many enough for columns."""
    small: list[tuple[Any, str, int]] = [
        (layout, "BODIES_PER_PAGE", 4),
        (layout, "ENTRIES_PER_PAGE", 3),
        (layout, "ENTRY_PAGE_BYTES", 3 * layout.ENTRY_BYTES),
        (state_module, "CACHED_TALLIES_MAX", 2),
        (summary_log, "RECORDS_AT_ONCE", 5),
    ]
    if by_columns:
        small += [(columnar, "FEW", FEW), (tabulation, "FEW", FEW)]
    kept = [(where, name, getattr(where, name)) for where, name, _ in small]
    for where, name, number in small:
        setattr(where, name, number)
    try:
        yield
    finally:
        for where, name, number in kept:
            setattr(where, name, number)
