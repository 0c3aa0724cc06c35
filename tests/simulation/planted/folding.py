"""The fold, and what it remembers."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipeline.domain import fold
from pipeline.domain.events import Identity, MeterEvent
from pipeline.domain.ledger import Awaited, Counted
from pipeline.domain.partitioning import partition_of
from pipeline.worker import layout
from pipeline.worker import partition as partition_module
from pipeline.worker import state as state_module
from pipeline.worker.core import WorkerCore
from pipeline.worker.garbage import Sweep
from pipeline.worker.state import StoredState
from tests.simulation.planted.registry import planted


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


@planted
def range_takes_back_by_identity_alone(patch: Any) -> None:
    """``pipeline.worker.ranges.matching`` without its last look: whether that offset is the one that counts."""

    def matching(state: StoredState, livemode: bool, event_name: str, wanted: Any) -> Any:
        prefix = layout.tally_prefix(livemode, event_name, wanted.customer)
        keys = {key for key, _ in state._store.scan(prefix) if not state.is_dropped(key)}
        for key in sorted(keys | {key for key in state.cells if key.startswith(prefix)}):
            window_start_ms = layout.tally_key_parts(key)[3]
            if window_start_ms < wanted.end_ms and window_start_ms + 60_000 > wanted.start_ms:
                for offset, _, timestamp_ms, _ in state._entries(key, state.cell(key)):
                    if wanted.start_ms <= timestamp_ms < wanted.end_ms:
                        identity = state.decode(state.body(offset)).identity
                        packed = state.ledger_value(layout.ledger_key(identity))
                        if packed is not None:
                            yield identity, state._counted(packed)

    patch.setattr(state_module, "matching", matching)


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
