"""What a journal must come to, written a second time from the design and from nothing else.

Nothing is forgotten here, nothing is incremental and nothing is quick: an identity's past is a list, a shard is a sum
over the events that count. ``pipeline.domain`` lends its plain record types alone; checks, windows, partitions and the
rules of the fold stand here once more.

The clock W is the greatest LogAppendTime so far. An event is accepted when its timestamp lies in [W - past, W + ahead];
an identity is known while W - (W when it was accepted) <= past + ahead; a cancellation reaches an event, and waits for
one, for ``cancel`` milliseconds of W.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from pipeline.domain.events import Cancellation, MeterEvent
from tests.simulation.validity import content_fault, home, request_fault

MINUTE_MS = 60_000


class Windows(NamedTuple):
    past_ms: int
    ahead_ms: int
    cancel_ms: int

    @property
    def dedup_ms(self) -> int:
        return self.past_ms + self.ahead_ms


class Decision(NamedTuple):
    """What was decided about a record, by which record."""

    offset: int
    decided_offset: int
    kind: str
    disposition: str
    reason: str | None = None
    adjustment_id: str | None = None
    first_offset: int | None = None
    events_cancelled: int | None = None


class Past:
    """An accepted event, for ever."""

    def __init__(self, event: MeterEvent, offset: int, appended_at_ms: int, clock_ms: int) -> None:
        self.event = event
        self.offset = offset
        self.appended_at_ms = appended_at_ms
        self.clock_ms = clock_ms
        self.cancelled_by: str | None = None


class Waiter(NamedTuple):
    adjustment_id: str
    offset: int
    clock_ms: int


Key = tuple[bool, str, str, int, tuple[tuple[str, str], ...]]
Shard = tuple[Any, ...]


class Ledger:
    """One partition's history, and everything that follows from it."""

    def __init__(self, partition: int, partitions: int, windows: Windows) -> None:
        self.partition = partition
        self.partitions = partitions
        self.windows = windows
        self.clock_ms = 0
        self.next_offset = 0
        self.offsets: list[int] = []
        self.past: defaultdict[tuple[bool, str, str], list[Past]] = defaultdict(list)
        self.waiting: defaultdict[tuple[bool, str, str], list[Waiter]] = defaultdict(list)
        self.ranges: dict[str, int] = {}
        self._asked: dict[str, Cancellation] = {}
        """The last range of each identifier."""
        self.counting: defaultdict[Key, list[Past]] = defaultdict(list)
        self.shards: defaultdict[Key, dict[int, Shard]] = defaultdict(dict)
        """By version: the shard as it stood from that offset on."""
        self.decisions: dict[int, list[Decision]] = defaultdict(list)
        """By the offset of the record they are about, in the order in which they were taken."""
        self.news: list[Key | Decision] = []
        """What the last record came to: keys of shards, and decisions."""
        self.strays: dict[int, bytes] = {}
        self.garbage: dict[int, str] = {}
        self.value: defaultdict[str, int] = defaultdict(int)
        """Of all valid events, by what became of them."""
        self.valid_value = 0
        self._events: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        """By what became of them: how many readable events, and their value."""

    def read(self, offset: int, appended_at_ms: int, value: bytes, content: MeterEvent | Cancellation | str) -> None:
        """The next record. ``content``: what it says, or why nobody can read it."""
        self.clock_ms = max(self.clock_ms, appended_at_ms)
        self.next_offset = offset + 1
        self.offsets.append(offset)
        self.news = []
        self._give_up_waiting(offset)
        if isinstance(content, str):
            self.garbage[offset] = content
            self._decide(Decision(offset, offset, "unknown", "undecodable", content))
        elif isinstance(content, MeterEvent):
            self._event(offset, appended_at_ms, value, content)
        elif content.identifier is not None:
            self._single(offset, value, content)
        else:
            self._range(offset, content)

    def _decide(self, decision: Decision) -> None:
        self.decisions[decision.offset].append(decision)
        self.news.append(decision)

    def _give_up_waiting(self, offset: int) -> None:
        for ones in self.waiting.values():
            for one in [one for one in ones if self.clock_ms - one.clock_ms > self.windows.cancel_ms]:
                ones.remove(one)
                self._decide(
                    Decision(one.offset, offset, "cancellation", "not_found", None, one.adjustment_id, None, 0)
                )

    def _event(self, offset: int, appended_at_ms: int, value: bytes, event: MeterEvent) -> None:
        reason = content_fault(event)
        if reason is None and home(event.identifier, self.partitions) != self.partition:
            self.strays[offset] = value
            self._settle(event, "rerouted")
            self._decide(Decision(offset, offset, "event", "rerouted"))
            return
        reason = reason or self._time_fault(event)
        if reason is not None:
            if reason == "meter_event_value_too_many_digits":
                self._count("rejected", 1, event.value)
            else:
                self._settle(event, "rejected")
            self._decide(Decision(offset, offset, "event", "rejected", reason))
            return
        identity = (event.livemode, event.event_name, event.identifier)
        known = self._known(identity)
        if known is not None:
            same = "duplicate" if known.event == event else "duplicate_differs"
            self._settle(event, same)
            self._decide(Decision(offset, offset, "event", same, None, None, known.offset))
            return
        accepted = Past(event, offset, appended_at_ms, self.clock_ms)
        self.past[identity].append(accepted)
        waiting = self.waiting.pop(identity, [])
        if not waiting:
            self._settle(event, "counted")
            key = _key(event)
            self.counting[key].append(accepted)
            self._shard(key, offset)
            return
        self._settle(event, "cancelled")
        accepted.cancelled_by = waiting[0].adjustment_id
        self._decide(Decision(offset, offset, "event", "cancelled", None, accepted.cancelled_by))
        for place, one in enumerate(waiting):
            disposition = "already_cancelled" if place else "cancelled"
            self._decide(
                Decision(
                    one.offset, offset, "cancellation", disposition, None, one.adjustment_id, None, 0 if place else 1
                )
            )

    def _settle(self, event: MeterEvent, fate: str) -> None:
        self.valid_value += event.value
        self.value[fate] += event.value
        self._count(fate, 1, event.value)

    def _count(self, fate: str, records: int, value: int) -> None:
        self._events[fate][0] += records
        self._events[fate][1] += value

    def _time_fault(self, event: MeterEvent) -> str | None:
        if event.timestamp_ms < self.clock_ms - self.windows.past_ms:
            return "timestamp_too_far_in_past"
        if event.timestamp_ms > self.clock_ms + self.windows.ahead_ms:
            return "timestamp_in_future"
        return None

    def _known(self, identity: tuple[bool, str, str]) -> Past | None:
        pasts = self.past.get(identity)
        if pasts and self.clock_ms - pasts[-1].clock_ms <= self.windows.dedup_ms:
            return pasts[-1]
        return None

    def _single(self, offset: int, value: bytes, request: Cancellation) -> None:
        adjustment_id, identifier = request.adjustment_id, request.identifier or ""
        identity = (request.livemode, request.event_name, identifier)

        def decide(disposition: str, reason: str | None = None, taken: int = 0) -> None:
            self._decide(Decision(offset, offset, "cancellation", disposition, reason, adjustment_id, None, taken))

        reason = request_fault(request)
        if reason is not None:
            decide("rejected", reason)
            return
        if home(identifier, self.partitions) != self.partition:
            self.strays[offset] = value
            decide("rerouted")
            return
        known = self._known(identity)
        if known is None:
            if any(one.adjustment_id == adjustment_id for one in self.waiting[identity]):
                decide("duplicate")
            else:
                self.waiting[identity].append(Waiter(adjustment_id, offset, self.clock_ms))
                decide("pending")
        elif known.cancelled_by is not None:
            decide("duplicate" if known.cancelled_by == adjustment_id else "already_cancelled")
        elif self.clock_ms - known.clock_ms > self.windows.cancel_ms:
            decide("too_late")
        else:
            decide("cancelled", None, 1)
            self._take_back(known, adjustment_id, offset)

    def _range(self, offset: int, request: Cancellation) -> None:
        adjustment_id, span = request.adjustment_id, request.range

        def decide(disposition: str, reason: str | None, taken: int | None) -> None:
            self._decide(
                Decision(offset, offset, "range_cancellation", disposition, reason, adjustment_id, None, taken)
            )

        reason = request_fault(request)
        if reason is not None or span is None:
            decide("rejected", reason, None)
            return
        applied_ms = self.ranges.get(adjustment_id)
        if applied_ms is not None and self.clock_ms - applied_ms <= self.windows.cancel_ms:
            decide("duplicate", None, None)
            return
        taken = [
            one
            for pasts in self.past.values()
            for one in pasts
            if one.cancelled_by is None
            and self.clock_ms - one.clock_ms <= self.windows.cancel_ms
            and one.appended_at_ms <= request.requested_at_ms
            and (one.event.livemode, one.event.event_name) == (request.livemode, request.event_name)
            and span.customer in (None, one.event.customer)
            and span.start_ms <= one.event.timestamp_ms < span.end_ms
        ]
        decide("cancelled", None, len(taken))
        self.ranges[adjustment_id] = self.clock_ms
        same, self._asked[adjustment_id] = self._asked.get(adjustment_id) == request, request
        assert not (same and taken), "a second copy of a range took something back"
        for one in sorted(taken, key=lambda one: one.offset):
            self._take_back(one, adjustment_id, offset)

    def _take_back(self, known: Past, adjustment_id: str, offset: int) -> None:
        known.cancelled_by = adjustment_id
        self.value["counted"] -= known.event.value
        self.value["cancelled"] += known.event.value
        self._count("counted", -1, -known.event.value)
        self._count("cancelled", 1, known.event.value)
        self._decide(Decision(known.offset, offset, "event", "cancelled", None, adjustment_id))
        key = _key(known.event)
        self.counting[key].remove(known)
        self._shard(key, offset)

    def _shard(self, key: Key, version: int) -> None:
        ones = self.counting[key]
        if version not in self.shards[key]:
            self.news.append(key)
        if not ones:
            self.shards[key][version] = (0, 0, None, None, None, None)
            return
        values = [one.event.value for one in ones]
        last = max(ones, key=lambda one: (one.event.timestamp_ms, one.appended_at_ms, one.offset))
        latest = max(ones, key=lambda one: (one.appended_at_ms, one.offset))
        self.shards[key][version] = (
            len(ones),
            sum(values),
            min(values),
            max(values),
            (last.event.timestamp_ms, last.appended_at_ms, last.offset, last.event.value),
            (latest.appended_at_ms, latest.offset, latest.event.value),
        )

    def accounts(self) -> dict[str, list[int]]:
        """By what became of records, those of cancellations by names of their own: how many, and events' value."""
        found = defaultdict(lambda: [0, 0], {fate: list(both) for fate, both in self._events.items()})
        for ones in self.decisions.values():
            if ones[-1].kind != "event":
                kind = "" if ones[-1].kind == "unknown" else "cancellation_"
                found[kind + ones[-1].disposition][0] += 1
        return {name: both for name, both in found.items() if any(both)}

    def check_books(self) -> None:
        """Invariant 2, in exact decimals, and that every record has its fate."""
        counted = sum(versions[max(versions)][1] for versions in self.shards.values())
        assert counted == self.value["counted"], "the shards do not add up to what counted"
        assert self.valid_value == sum(self.value.values()), "some value has no fate"


def _key(event: MeterEvent) -> Key:
    minute = event.timestamp_ms - event.timestamp_ms % MINUTE_MS
    return (event.livemode, event.event_name, event.customer, minute, event.dimensions)
