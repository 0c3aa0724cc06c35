"""What a plan's steps do to a world: records that producers send, and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.domain.events import Adjustment, Cancellation, CancellationRange, MeterEvent
from tests.simulation.hosts import WorkerHost
from tests.simulation.plan import Step
from tests.simulation.validity import home

if TYPE_CHECKING:
    from tests.simulation.world import World


class Steps:
    """A method for every kind of step, with its arguments."""

    def __init__(self, world: World) -> None:
        self.world = world

    def take(self, step: Step) -> None:
        getattr(self, step.kind)(*step.args)

    # What producers do.

    def _send(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        self.world.broker.append(topic, partition, key, value)
        if self.world.chance.of("producers").random() < self.world.plan.shape.unsure:
            self.world.trace.reach("a producer sent again, not knowing")
            self.world.loop.call_on(None, 0.05, self.world.broker.append, topic, partition, key, value)

    def _now_ms(self) -> int:
        return self.world.broker.clock_ms()

    def _event(self, identifier: str, name: str, customer: str, value: int, at: int, dims: Any, live: bool) -> Any:
        # Moments of ten seconds, so that an event that is sent again is the same one.
        when_ms = self._now_ms() // 10_000 * 10_000 + at
        return MeterEvent(identifier, name, customer, value, when_ms, dims, live)

    def event(self, *args: Any) -> None:
        event = self._event(*args)
        self._produce(event)

    def _produce(self, event: MeterEvent) -> None:
        partition = home(event.identifier, self.world.plan.shape.partitions)
        value = self.world.codec.encode_event(event)
        self._send(self.world.topics.journal, partition, event.identifier.encode(), value)

    def wild(self, *args: Any) -> None:
        name, changed = args[-1]
        event = self._event(*args[:-1])
        if name == "timestamp_ms":
            clock_ms = self.world.checks.ledgers[home(event.identifier, self.world.plan.shape.partitions)].clock_ms
            changed += clock_ms or self._now_ms()
        self._produce(event._replace(**{name: changed}))

    def stray(self, kind: str, *args: Any) -> None:
        event, partition = self._event(*args[:-1]), args[-1] % self.world.plan.shape.partitions
        value = self.world.codec.encode_event(event)
        if kind == "cancel":
            request = Cancellation(f"s{args[-1]}", event.event_name, True, event.identifier, None, self._now_ms())
            value = self.world.codec.encode_cancellation(request)
        key = None if kind == "unkeyed" else event.identifier.encode()
        self._send(self.world.topics.journal, partition, key, value)

    def _adjust(self, adjustment_id: str, value: bytes) -> None:
        partition = home(adjustment_id, self.world.broker.partitions[self.world.topics.adjustments])
        self._send(self.world.topics.adjustments, partition, adjustment_id.encode(), value)

    def cancel(self, adjustment_id: str, identifier: str, name: str, live: bool) -> None:
        self._adjust(
            adjustment_id, self.world.codec.encode_adjustment(Adjustment(adjustment_id, name, live, identifier, None))
        )

    def range(self, adjustment_id: str, name: str, customer: str | None, start: int, length: int) -> None:
        start_ms = self._now_ms() // 10_000 * 10_000 + start
        span = CancellationRange(customer, start_ms, start_ms + length)
        asked = Adjustment(adjustment_id, name, True, None, span)
        self._adjust(adjustment_id, self.world.codec.encode_adjustment(asked))

    def garbage(self, value: bytes | None, partition: int) -> None:
        self._send(self.world.topics.journal, partition % self.world.plan.shape.partitions, b"k", value)

    def bad_adjustment(self, kind: str) -> None:
        codec, span = self.world.codec, CancellationRange(None, 60_000, 0)
        if kind in ("cancellation", "range"):  # by somebody who writes to the journal himself
            single = kind == "cancellation"
            request = Cancellation(
                kind, "" if single else "n", True, "e1" if single else None, None if single else span, self._now_ms()
            )
            partition = home("e1", self.world.plan.shape.partitions)
            self._send(self.world.topics.journal, partition, b"e1", codec.encode_cancellation(request))
            return
        bad = {
            "junk": b"junk",
            "both": codec.encode_adjustment(Adjustment("both", "n", True, None, None)),
            "name": codec.encode_adjustment(Adjustment("name", "", True, "e1", None)),
        }
        self._adjust(kind, bad[kind])

    def copy(self, which: int) -> None:
        log = self.world.broker.logs[self.world.topics.journal, which % self.world.plan.shape.partitions]
        if log.records:
            chosen = log.records[which % len(log.records)]
            self._send(self.world.topics.journal, which % self.world.plan.shape.partitions, chosen.key, chosen.value)

    # Faults.

    def kill(self, name: str, pause: float) -> None:
        self.world.machines[name].kill(pause)

    kill_sink = kill

    def kill_at(self, name: str, effect: str, when: str, count: int, pause: float | None) -> None:
        self.world.traps.append([name, effect, when, count, "kill", pause])

    kill_operator = kill_crew = kill_at

    def freeze(self, name: str, seconds: float) -> None:
        self.world.machines[name].freeze(seconds)

    freeze_sink = freeze

    def freeze_at(self, name: str, effect: str, when: str, count: int, seconds: float) -> None:
        self.world.traps.append([name, effect, when, count, "freeze", seconds])

    def rebalance(self) -> None:
        self.world.group(self.world.topics_of_live().worker_group).rebalance("chance")

    def storm(self, count: int, apart: float) -> None:
        """One rebalance after the other."""
        for number in range(count):
            self.world.loop.call_later(number * apart, self.rebalance)

    def stop(self, name: str, pause: float) -> None:
        self.world.machines[name].stop(pause)

    def join(self) -> None:
        name = f"worker-{len(self.world.machines)}"
        self.world.machines[name] = machine = WorkerHost(self.world, name)
        machine.start()
        self.world.trace.reach("a worker more")

    def skew(self, number: int, skew_ms: int) -> None:
        skewed = self.world.topics.journal, self.world.topics.adjustments
        places = [place for place in self.world.broker.logs if place[0] in skewed]
        self.world.broker.logs[places[number % len(places)]].skew_ms = skew_ms

    def leap(self, leap_ms: int) -> None:
        self.world.broker.leap_ms += leap_ms

    def leader(self, number: int, seconds: float, skew_ms: int) -> None:
        places = sorted(self.world.broker.logs)
        log = self.world.broker.logs[places[number % len(places)]]
        log.away_until, log.skew_ms = self.world.loop.now + seconds, skew_ms

    def lose_disk(self, name: str, pause: float) -> None:
        machine = self.world.machines[name]
        machine.kill(pause)
        if any(disk.stores for disk in machine.disks.values()):
            self.world.trace.reach("a disk with state was lost")
        machine.disks.clear()

    def lose_commits(self) -> None:
        """Kafka forgets the offsets of a group that has been empty for long: everybody was away."""
        for machine in (*self.world.machines.values(), *self.world.crew.values()):
            in_crew = machine.name in self.world.crew
            machine.kill(None if in_crew else self.world.chance.of("lose commits").choice((0.1, 0.5)))
        for name, group in self.world.groups.items():
            if group.committed:
                self.world.trace.reach("committed offsets were lost")
            group.members.clear()
            group.committed.clear()
            group.noted.clear()
            self.world.checks.forget_commits(name)

    def damage_snapshot(self) -> None:
        for store in self.world.snapshots.values():
            for snapshots in store.of.values():
                snapshots[-1].damaged = True

    def gives_up(self, name: str) -> None:
        machine = self.world.machines[name]
        if isinstance(machine, WorkerHost) and not machine.host.dead:
            machine.outlet.gives_up = True

    def database_away(self, seconds: float) -> None:
        self.world.database.away_until = self.world.loop.now + seconds

    def database_unsure(self, seconds: float) -> None:
        self.world.database.unsure_until = self.world.loop.now + seconds

    def compact(self, number: int, part: float) -> None:
        number %= self.world.plan.shape.partitions
        place = self.world.topics_of_live().summaries, number
        self.world.broker.compact(place, int(self.world.broker.logs[place].end * part))

    def lose_tables(self) -> None:
        """ClickHouse is empty, and the log of which it is filled has lost all that compaction can take."""
        self.world.database.rows.clear()
        for number in range(self.world.plan.shape.partitions):
            self.compact(number, 1.0)

    def retention(self, number: int, part: float) -> None:
        """Records are deleted, up to a snapshot or up to anywhere."""
        number %= self.world.plan.shape.partitions
        log = self.world.broker.logs[self.world.topics.journal, number]
        stored = self.world.snapshots[self.world.ledger.read().live.number].of
        kept = [one.cursor for origin, ones in stored.items() for one in ones if origin.partition == number]
        first = log.first
        log.first = max(log.first, max(kept) if kept and part < 0.7 else int(log.end * part))
        log.records = [one for one in log.records if one.offset >= log.first]
        self.world.truncated = True
        if log.first > first:
            self.world.trace.reach("records were deleted")
