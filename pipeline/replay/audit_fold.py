"""The audit's own fold: the specification, one record after the other, over plain dicts.

It shares nothing with the worker but ``domain/`` and the strict decoder: no columns, no RocksDB, no cuts.
"""

from __future__ import annotations

import heapq
import zlib
from array import array
from collections import defaultdict
from typing import Any

from pipeline.codec import digests
from pipeline.codec.records import Codec
from pipeline.domain.events import Cancellation, Disposition, Identity, MeterEvent, TallyKey
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.ledger import Awaited, Remembered
from pipeline.domain.limits import HOUR_MS, FoldRules
from pipeline.domain.state import PlainState, tally_is_garbage
from pipeline.errors import UndecodableRecord

DROP_EVERY_MS = HOUR_MS
"""What cannot be reached any more is looked for among all that is remembered."""


class AuditState(PlainState):
    """PlainState for millions of records: what expires is not looked for among all that is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self._oldest: list[tuple[int, Identity]] = []

    def remember(self, identity: Identity, remembered: Remembered) -> None:
        self.ledger[identity] = remembered
        if isinstance(remembered, Awaited):
            heapq.heappush(self._oldest, (remembered.waiting[0].clock_ms, identity))

    def forget(self, identity: Identity) -> None:
        del self.ledger[identity]

    def drop_identities(self, rules: FoldRules) -> None:
        """Forget what no rule can reach any more, but for the tallies: those stand wherever they were published."""
        tallies, entries = self.tallies, self.entries
        self.tallies, self.entries = {}, defaultdict(dict)
        self.drop_garbage(rules)
        self.tallies, self.entries = tallies, entries
        for key in [key for key in entries if tally_is_garbage(key.window_start_ms, self.clock_ms, rules)]:
            del entries[key]

    def expired(self, before_ms: int) -> list[tuple[Identity, Awaited]]:
        found: dict[Identity, Awaited] = {}
        while self._oldest and self._oldest[0][0] < before_ms:
            clock_ms, identity = heapq.heappop(self._oldest)
            awaited = self.ledger.get(identity)
            if isinstance(awaited, Awaited) and awaited.waiting[0].clock_ms == clock_ms:  # else its event came
                found[identity] = awaited
        return list(found.items())


class AuditFold:
    """One partition, folded up to ``next_offset``.

    From ``keep_versions`` on, every version of a shard and every decision is kept, so that what was published meanwhile
    can be compared, whichever of them it is.
    """

    def __init__(self, journal: Journal, codec: Codec) -> None:
        self.journal = journal
        self.state = AuditState()
        self.next_offset = 0
        self.records = 0
        self.holes: list[tuple[int, int]] = []
        """Offsets [first, end) without a record: transaction markers and aborted records, or records that are lost."""
        self.values: defaultdict[str, int] = defaultdict(int)
        """What was read, before anything was decided: records, events, and their value in units of 10^-12."""
        self.checksums = array("I")
        """Of the record's value, by offset; 0 where there is no record."""
        self._decided: dict[int, Disposition] = {}
        self._changed: set[TallyKey] = set()
        """Decisions and tallies since ``settled``."""
        self.versions: dict[tuple[bytes, int], bytes] = {}
        """(key, version) to the packed row, of those versions that are kept."""
        self.undated: dict[int, int] = {}
        """When those were decided that do not say when their record was appended."""
        self.late_decisions: dict[tuple[int, int], Disposition] = {}
        self._decode = codec.decode_journal
        self._keeping = False
        self._dropped_ms = 0
        self._shared: dict[Any, Any] = {}

    def fold(self, message: Any) -> None:
        """The next record of the journal."""
        offset = message.offset()
        self.pass_over(offset)
        self.next_offset = offset + 1
        self.records += 1
        value = message.value()
        while len(self.checksums) < offset:
            self.checksums.append(0)
        self.checksums.append(zlib.crc32(value or b""))
        content = self._content(value)
        if isinstance(content, MeterEvent):
            self.values["events"] += 1
            self.values["value"] += content.value
        decided = step(self.state, self.journal, Record(offset, message.timestamp()[1], content))
        for one in decided:
            self._decided[one.offset] = one
            if one.appended_at_ms is None:
                self.undated[one.offset] = message.timestamp()[1]
        if self._keeping:
            for one in decided:
                self.late_decisions[one.offset, one.decided_offset] = one
            for key in self.state.touched:
                row = digests.row_bytes(self.state.tallies[key])
                self.versions[digests.key_bytes(key), digests.version_of(row)] = row
            self._changed |= self.state.touched
            self.state.touched.clear()

    def _content(self, value: bytes | None) -> MeterEvent | Cancellation | Undecodable:
        try:
            content = self._decode(value)
        except UndecodableRecord as error:
            return Undecodable(error.reason)
        if not isinstance(content, MeterEvent):
            return content
        identifier, event_name, customer, units, timestamp_ms, dimensions, livemode = content
        texts = self._shared  # millions of events share few names
        return MeterEvent(
            identifier,
            texts.setdefault(event_name, event_name),
            texts.setdefault(customer, customer),
            units,
            timestamp_ms,
            texts.setdefault(dimensions, dimensions),
            livemode,
        )

    def settled(self) -> tuple[dict[bytes, bytes], dict[int, Disposition]]:
        """The shards and the decisions that have changed since the last call, as they stand now."""
        changed, self._changed = self._changed | self.state.touched, set()
        self.state.touched.clear()
        decided, self._decided = self._decided, {}
        tallies = self.state.tallies
        return {digests.key_bytes(key): digests.row_bytes(tallies[key]) for key in changed}, decided

    def keep_versions(self) -> None:
        """From now on."""
        self._keeping = True

    def forget_versions(self) -> None:
        """Those kept so far have been compared. What the fold's rules can reach no more is forgotten too."""
        self._keeping = False
        self.versions.clear()
        self.late_decisions.clear()
        if self.state.clock_ms - self._dropped_ms > DROP_EVERY_MS:
            self._dropped_ms = self.state.clock_ms
            self.state.drop_identities(self.journal.rules)

    def pass_over(self, offset: int) -> None:
        """What lies in front of ``offset`` and was not folded is no record."""
        if offset > self.next_offset:
            self.holes.append((self.next_offset, offset))
            self.next_offset = offset

    def rows(self) -> dict[bytes, bytes]:
        """Every shard as it stands now: key to packed row."""
        return {digests.key_bytes(key): digests.row_bytes(tally) for key, tally in self.state.tallies.items()}

    def unbalanced(self) -> list[str]:
        """Where the books of invariant 2 do not balance; the first of each pair is what was read."""
        accounts = self.state.accounts
        events = [one for name, one in accounts.items() if not name.startswith("cancellation_")]
        decided_records = sum(records for records, _ in accounts.values())
        decided_value = sum(value for _, value in events)
        tallies_value = sum(tally.sum for tally in self.state.tallies.values())
        tallies_count = sum(tally.count for tally in self.state.tallies.values())
        pairs = (
            ("records and dispositions", self.records, decided_records),
            ("value read and value decided", self.values["value"], decided_value),
            ("value counted and sums", accounts["counted"][1], tallies_value),
            ("events counted and counts", accounts["counted"][0], tallies_count),
        )
        return [f"{what}: {one} and {other}" for what, one, other in pairs if one != other]
