"""Bugs that are planted on purpose, one at a time: a simulator that misses one of them would miss it in earnest.

Each takes pytest's ``monkeypatch`` and breaks one line's worth of the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from pipeline.domain import fold
from pipeline.domain.events import Identity, MeterEvent
from pipeline.domain.ledger import Awaited, Counted
from pipeline.domain.partitioning import partition_of
from pipeline.domain.tally import Tally
from pipeline.errors import MeterlineError
from pipeline.replay import comparison
from pipeline.replay.coverage import Coverage
from pipeline.sink.feed import Feed
from pipeline.sink.tabulation import Tabulator
from pipeline.worker import core, layout, publishing
from pipeline.worker import partition as partition_module
from pipeline.worker import state as state_module
from pipeline.worker.acts import Acts
from pipeline.worker.core import WorkerCore
from pipeline.worker.garbage import Sweep
from pipeline.worker.opening import Opening
from pipeline.worker.partition import Partition
from pipeline.worker.state import StoredState
from tests.simulation.hosts import SimActs
from tests.simulation.world import World

Plant = Callable[[Any], None]
PLANTED: dict[str, Plant] = {}


def planted(plant: Plant) -> Plant:
    PLANTED[plant.__name__] = plant
    return plant


# The order of a flush.


def _flush_in(order: str) -> Any:
    """The worker's flush with its steps in another order: p publish, f wait for acks, w write, a acknowledge."""

    async def flush(self: WorkerCore) -> None:
        self.changed.clear()
        self.full.clear()
        held, self.held = self.held, []
        cuts = [(partition, partition.cut()) for partition in self.partitions.values()]
        self.room.set()
        for step in order:
            if step == "p":
                await asyncio.to_thread(self._publish, [cut for _, cut in cuts])
            elif step == "f":
                await asyncio.to_thread(self.outlet.flush, 120.0)
            elif step == "w":
                await asyncio.to_thread(core._write, cuts)
                for partition, _ in cuts:
                    partition.wrote()
            else:
                for received in held:
                    received.ack()

    return flush


@planted
def commit_before_publish(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("apfw"))


@planted
def cursor_before_publish(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("wpfa"))


@planted
def acknowledgements_not_awaited(patch: Any) -> None:
    patch.setattr(WorkerCore, "_flush", _flush_in("pwa"))


@planted
def cursor_written_apart(patch: Any) -> None:
    def write(cuts: Any) -> None:
        for partition, cut in cuts:
            *layers, meta = [layer for layer in cut.writes if layout.META not in layer] + [
                layer for layer in cut.writes if layout.META in layer
            ]
            partition.store.write(meta)
            partition.store.write(*layers)

    patch.setattr(core, "_write", write)


@planted
def lost_folds_acknowledged(patch: Any) -> None:
    """What was folded of partitions that were taken away is lost, and acknowledged when they come back."""
    original = WorkerCore.take_over

    async def take_over(self: WorkerCore, group: Any) -> None:
        await original(self, group)
        self.held += [one for one in self.lost if one not in self.held]

    fold_one = WorkerCore._fold

    def remembered(self: WorkerCore, received: Any) -> None:
        fold_one(self, received)
        self.lost = [*getattr(self, "lost", [])[-20:], *self.held[-1:]]

    init = WorkerCore.__init__

    def made(self: WorkerCore, *args: Any) -> None:
        init(self, *args)
        self.lost = []

    patch.setattr(WorkerCore, "__init__", made)
    patch.setattr(WorkerCore, "_fold", remembered)
    patch.setattr(WorkerCore, "take_over", take_over)


@planted
def adjustment_acknowledged_before_it_is_routed(patch: Any) -> None:
    async def route_all(self: WorkerCore, stream: Any) -> None:
        async for received in stream:
            received.ack()
            await asyncio.to_thread(self._route, received.value)
            await asyncio.to_thread(self.outlet.flush, 120.0)

    patch.setattr(WorkerCore, "route_all", route_all)


# What is published.


@planted
def shard_emitted_as_a_delta(patch: Any) -> None:
    original = publishing.shards_of
    said: dict[bytes, Tally] = {}

    def shards(codec: Any, tallies: Any, partition: int) -> Any:
        deltas = []
        for key, packed in tallies:
            tally, before = layout.unpack_tally(packed), said.get(key)
            said[key] = layout.unpack_tally(packed)
            if before is not None and tally.count > before.count > 0:
                tally.count -= before.count
                tally.sum -= before.sum
            deltas.append((key, layout.pack_tally(tally)))
        return original(codec, deltas, partition)

    patch.setattr(publishing, "shards_of", shards)


@planted
def version_not_monotone(patch: Any) -> None:
    """A cancellation changes a tally and leaves its version: the older shard may win."""
    original = Tally.remove

    def remove(self: Tally, entry: Any, at_offset: int) -> bool:
        version = self.version
        stale = original(self, entry, at_offset)
        self.version = version
        return stale

    patch.setattr(Tally, "remove", remove)


@planted
def version_of_the_flush(patch: Any) -> None:
    """Versions that depend on where a worker cut, so that a zombie's older state can win."""
    original = StoredState.cut

    def cut(self: StoredState) -> Any:
        made = original(self)
        self.flushes = getattr(self, "flushes", 0) + 1000
        stamped = [(key, self.flushes.to_bytes(8, "big") + packed[8:]) for key, packed in made.tallies]
        return made._replace(tallies=stamped)

    patch.setattr(StoredState, "cut", cut)


@planted
def silent_up_to_the_end(patch: Any) -> None:
    """A worker that takes over trusts that everything in the journal was published."""
    original = Opening.open

    def opened(self: Opening, number: int, committed: int) -> Any:
        partition = original(self, number, committed)
        partition.silent_below = self.cluster.offsets(self._journal, number)[1]
        return partition

    patch.setattr(Opening, "open", opened)


@planted
def strays_not_sent_on(patch: Any) -> None:
    original = Partition.cut
    patch.setattr(Partition, "cut", lambda self: original(self)._replace(reroutes=[]))


@planted
def dead_letters_dropped(patch: Any) -> None:
    original = Partition.cut
    patch.setattr(Partition, "cut", lambda self: original(self)._replace(dead_letters=[]))


@planted
def dispositions_of_the_flush_lost(patch: Any) -> None:
    """Dispositions are taken from memory a moment after the cut: those in between are never published."""
    original = Partition.wrote

    def wrote(self: Partition) -> None:
        original(self)
        self.dispositions = []

    patch.setattr(Partition, "wrote", wrote)


# The fold.


@planted
def suppressed_not_subtracted(patch: Any) -> None:
    patch.setattr(StoredState, "remove", lambda self, key, entry, at_offset: None)


@planted
def dedupe_by_memory_alone(patch: Any) -> None:
    original_cut, original_value = StoredState.cut, StoredState.ledger_value

    def cut(self: StoredState) -> Any:
        made = original_cut(self)
        ledger, *rest = made.writes
        self.kept = {**getattr(self, "kept", {}), **ledger}
        return made._replace(writes=({}, *rest))

    def ledger_value(self: StoredState, key: bytes) -> bytes | None:
        found = original_value(self, key)
        return getattr(self, "kept", {}).get(key) if found is None else found

    patch.setattr(StoredState, "cut", cut)
    patch.setattr(StoredState, "ledger_value", ledger_value)


@planted
def window_border_closed_on_both_ends(patch: Any) -> None:
    original = StoredState.matching
    patch.setattr(
        StoredState,
        "matching",
        lambda self, livemode, name, wanted: original(self, livemode, name, wanted._replace(end_ms=wanted.end_ms + 1)),
    )


@planted
def cancelled_in_the_last_moment_but_one(patch: Any) -> None:
    original = fold._cancel_one

    def cancel_one(state: Any, journal: Any, *given: Any) -> Any:
        rules = dataclasses.replace(journal.rules, cancel_window_ms=journal.rules.cancellation_window_ms - 1)
        return original(state, journal._replace(rules=rules), *given)

    patch.setattr(fold, "_cancel_one", cancel_one)


@planted
def cancelled_by_identifier_alone(patch: Any) -> None:
    original = fold._cancel_one

    def cancel_one(state: Any, journal: Any, record: Any, request: Any, identifier: str) -> Any:
        for name in "nm":
            if isinstance(state.find(Identity(request.livemode, name, identifier)), Counted):
                request = request._replace(event_name=name)
        return original(state, journal, record, request, identifier)

    patch.setattr(fold, "_cancel_one", cancel_one)


@planted
def identity_without_mode(patch: Any) -> None:
    original = layout.ledger_key
    patch.setattr(layout, "ledger_key", lambda identity: original(identity._replace(livemode=True)))


@planted
def clock_steps_back(patch: Any) -> None:
    original = fold.step

    def step(state: Any, journal: Any, record: Any) -> Any:
        state.clock_ms = 0
        return original(state, journal, record)

    patch.setattr(partition_module, "step", step)


@planted
def range_applied_twice(patch: Any) -> None:
    patch.setattr(StoredState, "range_applied_ms", lambda self, adjustment_id: None)


@planted
def another_content_counts_again(patch: Any) -> None:
    original = fold._event

    def event(state: Any, journal: Any, record: Any, event: MeterEvent) -> Any:
        known = state.find(event.identity)
        if isinstance(known, Counted) and known.event != event:
            state.forget(event.identity)
        return original(state, journal, record, event)

    patch.setattr(fold, "_event", event)


@planted
def stray_counted_where_it_lies(patch: Any) -> None:
    original = fold._event

    def event(state: Any, journal: Any, record: Any, event: MeterEvent) -> Any:
        home = partition_of(event.identifier, journal.partitions)
        return original(state, journal._replace(partition=home), record, event)

    patch.setattr(fold, "_event", event)


@planted
def cancellation_does_not_wait(patch: Any) -> None:
    original = StoredState.remember

    def remember(self: StoredState, identity: Any, remembered: Any) -> None:
        if not isinstance(remembered, Awaited):
            original(self, identity, remembered)

    patch.setattr(StoredState, "remember", remember)


@planted
def waiting_forgotten_by_a_restart(patch: Any) -> None:
    """The marks of waiting cancellations are not written, so that those of a store that was opened never expire."""
    original = StoredState.cut

    def cut(self: StoredState) -> Any:
        made = original(self)
        writes = [{key: value for key, value in layer.items() if key[:1] != b"a"} for layer in made.writes]
        return made._replace(writes=tuple(writes))

    patch.setattr(StoredState, "cut", cut)


@planted
def garbage_dropped_too_early(patch: Any) -> None:
    original = Sweep.__init__

    class Hasty:
        dedup_window_ms = 0
        cancellation_window_ms = 5 * 60_000
        max_past_ms = 20 * 60_000

    patch.setattr(
        Sweep,
        "__init__",
        lambda self, state, rules, ledger_mark, tally_mark: original(self, state, Hasty, ledger_mark, tally_mark),
    )


def _matching(*, dropped_too: bool, whoever_it_is: bool) -> Any:
    """``pipeline.worker.ranges.matching`` without one of its looks."""

    def matching(state: StoredState, livemode: bool, event_name: str, wanted: Any) -> Any:
        prefix = layout.tally_prefix(livemode, event_name, wanted.customer)
        keys = {key for key, _ in state._store.scan(prefix) if dropped_too or not state.is_dropped(key)}
        for key in sorted(keys | {key for key in state.cells if key.startswith(prefix)}):
            window_start_ms = layout.tally_key_parts(key)[3]
            if window_start_ms < wanted.end_ms and window_start_ms + 60_000 > wanted.start_ms:
                for offset, _, timestamp_ms, _ in state._entries(key, state.cell(key)):
                    if wanted.start_ms <= timestamp_ms < wanted.end_ms:
                        identity = state.decode(state.body(offset)).identity
                        packed = state.ledger_value(layout.ledger_key(identity))
                        if packed is not None and (whoever_it_is or layout.is_counted_at(packed, offset)):
                            yield identity, state._counted(packed)

    return matching


@planted
def range_takes_back_by_identity_alone(patch: Any) -> None:
    patch.setattr(state_module, "matching", _matching(dropped_too=False, whoever_it_is=True))


@planted
def old_cursor_is_committed(patch: Any) -> None:
    """A store that is older than the group's offset says so, and the group believes it."""
    original = WorkerCore.take_over

    async def take_over(self: WorkerCore, group: Any) -> None:
        await original(self, group)
        for number, partition in self.partitions.items():
            group._group_stood_at[group.journal, number] = 0
            group.note_done(number, partition.cursor)

    patch.setattr(WorkerCore, "take_over", take_over)


# Generations.


@planted
def tables_are_shown_before_they_are_full(patch: Any) -> None:
    patch.setattr(Coverage, "await_tables", lambda self, meanwhile, covered=None: self.folded())


@planted
def a_zombie_has_the_last_word(patch: Any) -> None:
    """What it appended behind its successor's newer shards stays there, and compaction keeps it."""

    async def watch_summaries(self: WorkerCore) -> None:
        """Nobody looks."""

    patch.setattr(WorkerCore, "watch_summaries", watch_summaries)


@planted
def a_new_generation_begins_to_act_at_its_cursor(patch: Any) -> None:
    def take_over(self: Acts, partition: Partition, committed: int) -> None:
        partition.acts_from = max(committed, partition.next_offset) if self._acting else None

    patch.setattr(Acts, "take_over", take_over)


@planted
def offsets_without_a_note_are_believed(patch: Any) -> None:
    """Those of workers that only built a generation, and sent no strays on."""
    original = SimActs._noted

    def noted(self: SimActs, group: str, places: Any) -> Any:
        return {place: one._replace(note="any") for place, one in original(self, group, places).items()}

    patch.setattr(SimActs, "_noted", noted)


@planted
def snapshots_shared_by_generations(patch: Any) -> None:
    """A generation that begins with another one's state never publishes what that one did."""
    original = World.__init__

    def made(self: World, plan: Any) -> None:
        original(self, plan)
        only = self.snapshots[1]
        self.snapshots = defaultdict(lambda: only)

    patch.setattr(World, "__init__", made)


@planted
def tallies_that_move_are_taken_for_different(patch: Any) -> None:
    original = comparison._judge

    def judge(pair: Any, cut: Any, found: Any, moved: Any) -> None:
        original(pair, dict.fromkeys(cut, 10**9), found, moved)

    patch.setattr(comparison, "_judge", judge)


# Snapshots and the sink.


@planted
def snapshot_without_cursor(patch: Any) -> None:
    """The state of a snapshot and its cursor come from different moments."""
    from tests.simulation.stores import SimStores

    def checkpoint(self: Any, store: Any) -> Any:
        keys = dict(store.files.durable)
        keys[layout.META] = store.get(layout.META)
        return keys

    patch.setattr(SimStores, "checkpoint", checkpoint)


@planted
def sink_without_version(patch: Any) -> None:
    original = Tabulator.summaries

    def summaries(self: Tabulator, batch: Any) -> Any:
        done = original(self, batch)
        for name, parts in done.tables.items():
            done.tables[name] = [
                part.set_column(
                    part.schema.get_field_index("version"),
                    part.schema.field("version"),
                    pa.array([0] * len(part), part.schema.field("version").type),
                )
                for part in parts
            ]
        return done

    patch.setattr(Tabulator, "summaries", summaries)


@planted
def sink_acknowledges_first(patch: Any) -> None:
    async def flush_forever(self: Feed) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self.limits.every_ms / 1000)
            held, self._held, self._records = self._held, [], 0
            self._some.clear()
            self._full.clear()
            self._room.set()
            for received in held:
                received.ack()
            await self._write([received.value for received in held])

    patch.setattr(Feed, "flush_forever", flush_forever)


@planted
def sink_gives_up_a_row(patch: Any) -> None:
    """An insert that failed once is taken for done."""

    async def insert(self: Feed, table: str, rows: Any) -> None:
        with contextlib.suppress(MeterlineError):
            await asyncio.to_thread(self._inserter.insert, table, rows)

    patch.setattr(Feed, "_insert", insert)
