"""The fold: from a prefix of one journal partition to its state and its outputs. This is the specification.

Rules
-----
1. Nothing here reads a clock, the environment, another topic or another partition. The only time is the fold's clock:
   the greatest LogAppendTime so far. (DESIGN speaks of the record's own; a broker's clock that steps back would then
   let a forgotten identity count twice. A clock that only moves forward makes forgetting safe.)
2. What could never be accepted anywhere is rejected where it stands; what is only in the wrong partition is sent home.
3. Each record gets exactly one disposition. A later record may change it: counted to cancelled, pending to cancelled,
   already_cancelled or not_found.
4. The state is reached through ``State`` alone. The worker's store and the simulator's dicts are two of them.

Theory of operation
-------------------
``step`` takes one record: it moves the clock, lets cancellations that waited too long expire, and hands the record to
the function of its kind. What it returns are the dispositions that this record decided, about itself or about others;
which tallies changed is the state's to know. Cutting a partition into batches plays no part: there is no batch here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from pipeline.domain import outcomes
from pipeline.domain.checks import TOO_MANY_DIGITS, check_cancellation, check_content, check_times
from pipeline.domain.events import Cancellation, CancellationRange, Disposition, Identity, MeterEvent, TallyKey
from pipeline.domain.ledger import Awaited, Counted, Remembered, Waiting
from pipeline.domain.limits import TEXT_SHOWN_CHARS_MAX, FoldRules
from pipeline.domain.partitioning import partition_of
from pipeline.domain.tally import Entry, tally_key


class Undecodable(NamedTuple):
    """A record that nobody can read."""

    reason: str


class Record(NamedTuple):
    """One journal record, decoded."""

    offset: int
    appended_at_ms: int
    content: MeterEvent | Cancellation | Undecodable


class Journal(NamedTuple):
    """Which partition of how many, under which rules: what a fold is a function of, beside its records."""

    partition: int
    partitions: int
    rules: FoldRules


class State(Protocol):
    """What the fold remembers of a prefix."""

    clock_ms: int

    def find(self, identity: Identity) -> Remembered | None: ...
    def remember(self, identity: Identity, remembered: Remembered) -> None: ...
    def forget(self, identity: Identity) -> None: ...

    def expired(self, before_ms: int) -> list[tuple[Identity, Awaited]]:
        """Awaited identities with a cancellation whose clock is below ``before_ms``."""

    def matching(
        self, livemode: bool, event_name: str, wanted: CancellationRange
    ) -> Iterable[tuple[Identity, Counted]]:
        """Counted events of a range, by customer and timestamp, in any order; not those cancelled."""

    def add(self, key: TallyKey, entry: Entry) -> None: ...
    def remove(self, key: TallyKey, entry: Entry, at_offset: int) -> None: ...

    def range_applied_ms(self, adjustment_id: str) -> int | None:
        """The clock at which a range was applied, or None."""

    def apply_range(self, adjustment_id: str, clock_ms: int) -> None: ...

    def account(self, disposition: str, records: int, value: int) -> None:
        """Keep the books of invariant 2: so many records, of so much value, now stand under this disposition."""


def step(state: State, journal: Journal, record: Record) -> list[Disposition]:
    """Fold one record. Offsets must ascend. Returns the dispositions it decided; counted ones are not among them."""
    state.clock_ms = max(state.clock_ms, record.appended_at_ms)
    decided = _expire(state, journal, record.offset)
    content = record.content
    if isinstance(content, MeterEvent):
        decided += _event(state, journal, record, content)
    elif isinstance(content, Undecodable):
        state.account(outcomes.UNDECODABLE, 1, 0)
        decided.append(_about(journal, record, outcomes.UNKNOWN, outcomes.UNDECODABLE, content.reason))
    elif content.identifier is not None:
        decided += _cancel_one(state, journal, record, content, content.identifier)
    else:
        decided += _cancel_range(state, journal, record, content)
    return decided


def is_stray(journal: Journal, content: MeterEvent | Cancellation) -> bool:
    """Whether a record that came to this partition is acceptable and belongs in another: it is ``rerouted``."""
    if content.identifier is None or partition_of(content.identifier, journal.partitions) == journal.partition:
        return False
    if isinstance(content, MeterEvent):
        return check_content(content) is None
    return check_cancellation(content, content.adjustment_id) is None


def _event(state: State, journal: Journal, record: Record, event: MeterEvent) -> list[Disposition]:
    reason = check_content(event)
    if reason is None:
        if partition_of(event.identifier, journal.partitions) != journal.partition:
            return [_event_decided(state, journal, record, event, outcomes.REROUTED)]
        reason = check_times(event.timestamp_ms, state.clock_ms, journal.rules)
    if reason is not None:
        decided = _event_decided(state, journal, record, event, outcomes.REJECTED)._replace(reason=reason)
        return [decided._replace(value=None) if reason == TOO_MANY_DIGITS else decided]
    identity = event.identity
    known = _known(state, journal, identity)
    if isinstance(known, Counted):
        same = known.event == event
        disposition = outcomes.DUPLICATE if same else outcomes.DUPLICATE_DIFFERS
        decided = _event_decided(state, journal, record, event, disposition)
        return [decided._replace(first_offset=known.offset)]
    counted = Counted(event, record.offset, record.appended_at_ms, state.clock_ms, None)
    if known is None:
        state.remember(identity, counted)
        state.add(tally_key(event), counted.entry)
        state.account(outcomes.COUNTED, 1, event.value)
        return []
    first = known.waiting[0]
    state.remember(identity, counted._replace(cancelled_by=first.adjustment_id))
    decided = _event_decided(state, journal, record, event, outcomes.CANCELLED)
    return [
        decided._replace(adjustment_id=first.adjustment_id),
        *_resolve(state, journal, identity, known.waiting, record.offset),
    ]


def _resolve(
    state: State, journal: Journal, identity: Identity, waiting: tuple[Waiting, ...], at_offset: int
) -> list[Disposition]:
    """The event came: the first cancellation that waited for it took it back, the others found that done."""
    decided = []
    for place, one in enumerate(waiting):
        disposition = outcomes.CANCELLED if place == 0 else outcomes.ALREADY_CANCELLED
        state.account(_of_cancellation(outcomes.PENDING), -1, 0)
        state.account(_of_cancellation(disposition), 1, 0)
        decided.append(
            _about_waiting(journal, identity, one, at_offset, disposition)._replace(events_cancelled=int(place == 0))
        )
    return decided


def _cancel_one(
    state: State, journal: Journal, record: Record, request: Cancellation, identifier: str
) -> list[Disposition]:
    about = _about(journal, record, outcomes.CANCELLATION, outcomes.REJECTED, None)._replace(
        livemode=request.livemode,
        event_name=_shown(request.event_name),
        identifier=_shown(identifier),
        adjustment_id=_shown(request.adjustment_id),
    )
    identity = Identity(request.livemode, request.event_name, identifier)
    disposition, reason, taken_back = _cancel_outcome(state, journal, record, request, identity)
    state.account(_of_cancellation(disposition), 1, 0)
    decided = [about._replace(disposition=disposition, reason=reason, events_cancelled=int(taken_back is not None))]
    if taken_back is not None:
        decided.append(_take_back(state, journal, taken_back, request.adjustment_id, record.offset))
    return decided


def _cancel_outcome(
    state: State, journal: Journal, record: Record, request: Cancellation, identity: Identity
) -> tuple[str, str | None, Counted | None]:
    """(disposition, reason, the event to take back) of one single cancellation."""
    reason = check_cancellation(request, request.adjustment_id)
    if reason is not None:
        return outcomes.REJECTED, reason, None
    if partition_of(identity.identifier, journal.partitions) != journal.partition:
        return outcomes.REROUTED, None, None
    known = _known(state, journal, identity)
    if isinstance(known, Counted):
        if known.cancelled_by is not None:
            again = known.cancelled_by == request.adjustment_id
            return outcomes.DUPLICATE if again else outcomes.ALREADY_CANCELLED, None, None
        if state.clock_ms - known.clock_ms > journal.rules.cancellation_window_ms:
            return outcomes.TOO_LATE, None, None
        return outcomes.CANCELLED, None, known
    waiting = known.waiting if known is not None else ()
    if any(one.adjustment_id == request.adjustment_id for one in waiting):
        return outcomes.DUPLICATE, None, None
    one = Waiting(request.adjustment_id, record.offset, state.clock_ms)
    state.remember(identity, Awaited((*waiting, one)))
    return outcomes.PENDING, None, None


def _cancel_range(state: State, journal: Journal, record: Record, request: Cancellation) -> list[Disposition]:
    about = _about(journal, record, outcomes.RANGE_CANCELLATION, outcomes.CANCELLED, None)._replace(
        livemode=request.livemode,
        event_name=_shown(request.event_name),
        adjustment_id=_shown(request.adjustment_id),
    )
    reason = check_cancellation(request, request.adjustment_id)
    if reason is not None or request.range is None:
        state.account(_of_cancellation(outcomes.REJECTED), 1, 0)
        return [about._replace(disposition=outcomes.REJECTED, reason=reason)]
    applied_ms = state.range_applied_ms(request.adjustment_id)
    if applied_ms is not None and state.clock_ms - applied_ms <= journal.rules.cancellation_window_ms:
        state.account(_of_cancellation(outcomes.DUPLICATE), 1, 0)
        return [about._replace(disposition=outcomes.DUPLICATE)]
    state.apply_range(request.adjustment_id, state.clock_ms)
    taken_back = sorted(
        (
            counted
            for _, counted in state.matching(request.livemode, request.event_name, request.range)
            if counted.offset < record.offset
            and counted.appended_at_ms <= request.requested_at_ms
            and state.clock_ms - counted.clock_ms <= journal.rules.cancellation_window_ms
        ),
        key=lambda counted: counted.offset,
    )
    state.account(_of_cancellation(outcomes.CANCELLED), 1, 0)
    return [
        about._replace(events_cancelled=len(taken_back), customer=request.range.customer),
        *(_take_back(state, journal, counted, request.adjustment_id, record.offset) for counted in taken_back),
    ]


def _take_back(state: State, journal: Journal, counted: Counted, adjustment_id: str, at_offset: int) -> Disposition:
    """A counted event counts no more; its identifier stays used up."""
    event = counted.event
    state.remove(tally_key(event), counted.entry, at_offset)
    state.remember(event.identity, counted._replace(cancelled_by=adjustment_id))
    state.account(outcomes.COUNTED, -1, -event.value)
    state.account(outcomes.CANCELLED, 1, event.value)
    return _about_event(journal, counted.offset, counted.appended_at_ms, event, at_offset, outcomes.CANCELLED)._replace(
        adjustment_id=adjustment_id
    )


def _expire(state: State, journal: Journal, at_offset: int) -> list[Disposition]:
    """Cancellations that waited longer than their window never find an event."""
    before_ms = state.clock_ms - journal.rules.cancellation_window_ms
    expired = state.expired(before_ms)
    if not expired:
        return []
    lost: list[tuple[Waiting, Identity]] = []
    for identity, awaited in expired:
        lost += [(one, identity) for one in awaited.waiting if one.clock_ms < before_ms]
        left = tuple(one for one in awaited.waiting if one.clock_ms >= before_ms)
        if left:
            state.remember(identity, Awaited(left))
        else:
            state.forget(identity)
    state.account(_of_cancellation(outcomes.PENDING), -len(lost), 0)
    state.account(_of_cancellation(outcomes.NOT_FOUND), len(lost), 0)
    return [
        _about_waiting(journal, identity, one, at_offset, outcomes.NOT_FOUND)
        for one, identity in sorted(lost, key=lambda pair: pair[0].offset)
    ]


def _known(state: State, journal: Journal, identity: Identity) -> Remembered | None:
    """What is remembered of an identity, unless its window has passed: forgotten or not, the answer is the same."""
    remembered = state.find(identity)
    if isinstance(remembered, Counted) and state.clock_ms - remembered.clock_ms > journal.rules.dedup_window_ms:
        return None
    return remembered


def _of_cancellation(disposition: str) -> str:
    """The account of a cancellation record, kept apart from those of events."""
    return f"cancellation_{disposition}"


def _event_decided(state: State, journal: Journal, record: Record, event: MeterEvent, disposition: str) -> Disposition:
    state.account(disposition, 1, event.value)
    return _about_event(journal, record.offset, record.appended_at_ms, event, record.offset, disposition)


def _about_event(
    journal: Journal, offset: int, appended_at_ms: int, event: MeterEvent, decided_offset: int, disposition: str
) -> Disposition:
    return Disposition(
        journal.partition,
        offset,
        decided_offset,
        outcomes.EVENT,
        disposition,
        livemode=event.livemode,
        event_name=_shown(event.event_name),
        identifier=_shown(event.identifier),
        customer=_shown(event.customer),
        value=event.value,
        timestamp_ms=event.timestamp_ms,
        appended_at_ms=appended_at_ms,
    )


def _shown(text: str) -> str:
    """A text as dispositions tell it. Only a rejected one can be longer, up to all that Kafka takes."""
    return text[:TEXT_SHOWN_CHARS_MAX]


def _about_waiting(
    journal: Journal, identity: Identity, one: Waiting, decided_offset: int, disposition: str
) -> Disposition:
    return Disposition(
        journal.partition,
        one.offset,
        decided_offset,
        outcomes.CANCELLATION,
        disposition,
        livemode=identity.livemode,
        event_name=identity.event_name,
        identifier=identity.identifier,
        adjustment_id=one.adjustment_id,
        events_cancelled=0,
    )


def _about(journal: Journal, record: Record, kind: str, disposition: str, reason: str | None) -> Disposition:
    return Disposition(
        journal.partition,
        record.offset,
        record.offset,
        kind,
        disposition,
        reason=reason,
        appended_at_ms=record.appended_at_ms,
    )
