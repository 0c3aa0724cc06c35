"""The fold's state in plain dicts: the other half of the specification, for tests, the simulator and explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from pipeline.domain.events import CancellationRange, Identity, SummaryShard, TallyKey
from pipeline.domain.ledger import Awaited, Counted, Remembered
from pipeline.domain.limits import MINUTE_MS, FoldRules
from pipeline.domain.tally import Entry, Tally


class Books:
    """The clock, the ranges that were applied, and what stands under each disposition: the same in every state."""

    def __init__(self) -> None:
        self.clock_ms = 0
        self.ranges: dict[str, int] = {}
        self.accounts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])

    def range_applied_ms(self, adjustment_id: str) -> int | None:
        return self.ranges.get(adjustment_id)

    def apply_range(self, adjustment_id: str, clock_ms: int) -> None:
        self.ranges[adjustment_id] = clock_ms

    def drop_ranges(self, rules: FoldRules) -> None:
        """Drop those that no second copy can meet any more."""
        oldest_ms = self.clock_ms - rules.cancellation_window_ms
        self.ranges = {one: clock_ms for one, clock_ms in self.ranges.items() if clock_ms >= oldest_ms}

    def account(self, disposition: str, records: int, value: int) -> None:
        account = self.accounts[disposition]
        account[0] += records
        account[1] += value


class PlainState(Books):
    """One partition's state. ``touched`` holds the keys of tallies that changed since ``take_shards``."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: dict[Identity, Remembered] = {}
        self.tallies: dict[TallyKey, Tally] = {}
        self.entries: defaultdict[TallyKey, dict[int, Entry]] = defaultdict(dict)
        self.touched: set[TallyKey] = set()
        self._awaited: set[Identity] = set()

    def find(self, identity: Identity) -> Remembered | None:
        return self.ledger.get(identity)

    def remember(self, identity: Identity, remembered: Remembered) -> None:
        self.ledger[identity] = remembered
        if isinstance(remembered, Awaited):
            self._awaited.add(identity)
        else:
            self._awaited.discard(identity)

    def forget(self, identity: Identity) -> None:
        del self.ledger[identity]
        self._awaited.discard(identity)

    def expired(self, before_ms: int) -> list[tuple[Identity, Awaited]]:
        found = []
        for identity in self._awaited:
            awaited = self.ledger[identity]
            assert isinstance(awaited, Awaited)
            if awaited.waiting[0].clock_ms < before_ms:
                found.append((identity, awaited))
        return found

    def matching(
        self, livemode: bool, event_name: str, wanted: CancellationRange
    ) -> Iterator[tuple[Identity, Counted]]:
        for identity, remembered in self.ledger.items():
            if (
                isinstance(remembered, Counted)
                and remembered.cancelled_by is None
                and (identity.livemode, identity.event_name) == (livemode, event_name)
                and wanted.customer in (None, remembered.event.customer)
                and wanted.start_ms <= remembered.event.timestamp_ms < wanted.end_ms
            ):
                yield identity, remembered

    def add(self, key: TallyKey, entry: Entry) -> None:
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        tally.add(entry)
        self.entries[key][entry[0]] = entry
        self.touched.add(key)

    def remove(self, key: TallyKey, entry: Entry, at_offset: int) -> None:
        del self.entries[key][entry[0]]
        if self.tallies[key].remove(entry, at_offset):
            self.tallies[key].recompute(self.entries[key].values())
        self.touched.add(key)

    def take_shards(self, partition: int) -> list[SummaryShard]:
        """The shards of all tallies that changed since the last call, by key."""
        shards = [self.tallies[key].shard(key, partition) for key in sorted(self.touched)]
        self.touched.clear()
        return shards

    def drop_garbage(self, rules: FoldRules) -> None:
        """Drop what no rule can reach any more. Changes no answer, whenever it is called."""
        for identity, remembered in list(self.ledger.items()):
            if isinstance(remembered, Counted) and self.clock_ms - remembered.clock_ms > rules.dedup_window_ms:
                del self.ledger[identity]
        for key in list(self.tallies):
            if tally_is_garbage(key.window_start_ms, self.clock_ms, rules):
                del self.tallies[key]
                del self.entries[key]
        self.drop_ranges(rules)


def tally_is_garbage(window_start_ms: int, clock_ms: int, rules: FoldRules) -> bool:
    """Whether no acceptable event can still fall into this minute and none of its events can be taken back.

    The last of its events was accepted at most max_past after the minute's end, and could be taken back for one
    cancellation window after that.
    """
    return window_start_ms + MINUTE_MS + rules.max_past_ms + rules.cancellation_window_ms < clock_ms
