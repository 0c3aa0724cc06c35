"""The audit's own fold: the specification over plain dicts, with a short way for what nearly all records are.

It shares nothing with the worker but ``domain/`` and the strict decoder. A plain event (audit_plain.py) whose identity
is new needs no rule but one: it counts. So it is written down and added up later, with its cell's others. Every other
record, and every record where versions are kept, goes through ``domain.fold.step``, in its turn. A test holds both
ways together, for every way of cutting a journal into pieces.
"""

from __future__ import annotations

import itertools
import zlib
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pipeline.codec import digests
from pipeline.codec.records import Codec
from pipeline.domain import outcomes
from pipeline.domain.checks import check_content
from pipeline.domain.events import Cancellation, Disposition, MeterEvent
from pipeline.domain.fold import Journal, Record, Undecodable, step
from pipeline.domain.limits import HOUR_MS, MINUTE_MS
from pipeline.errors import UndecodableRecord
from pipeline.replay.audit_facts import AuditState, Cell, Fact, Series
from pipeline.replay.audit_plain import PlainEvents, plain_events

DROP_EVERY_MS = HOUR_MS
"""What cannot be reached any more is looked for among all that is remembered."""


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
        self._changed: set[Cell] = set()
        """Decisions and cells since ``settled``."""
        self.versions: dict[tuple[bytes, int], bytes] = {}
        """(key, version) to the packed row, of those versions that are kept."""
        self.undated: dict[int, int] = {}
        """When those were decided that do not say when their record was appended."""
        self.late_decisions: dict[tuple[int, int], Disposition] = {}
        self._decode = codec.decode_journal
        self._prefixes = codec.prefixes("MeterEvent")
        self._keeping = False
        self._dropped_ms = 0
        self._series: dict[bytes, Series | None] = {}
        """By the bytes of the names and of the tail; None where these are not acceptable."""

    def fold_all(self, messages: Sequence[Any]) -> None:
        """The next records of the journal."""
        appended_ms = [message.timestamp()[1] for message in messages]
        clocks_ms = list(itertools.accumulate(appended_ms, max, initial=self.state.clock_ms))[1:]
        if self._keeping or not messages or not self._nothing_expires(clocks_ms):
            for message in messages:
                self.fold(message)
            return
        values = [message.value() for message in messages]
        offsets = [message.offset() for message in messages]
        self._enter_all(offsets, values)
        events = plain_events(values, clocks_ms, self._prefixes, self.journal)
        self._fold_plain(messages, offsets, appended_ms, clocks_ms, events)

    def _nothing_expires(self, clocks_ms: Sequence[int]) -> bool:
        """Whether no cancellation that waits, or begins to, can wait for too long before the last of these clocks."""
        oldest_ms = self.state.awaits_since_ms()
        first_ms = clocks_ms[0] if oldest_ms is None else min(oldest_ms, clocks_ms[0])
        return clocks_ms[-1] - first_ms <= self.journal.rules.cancellation_window_ms

    def _fold_plain(
        self,
        messages: Sequence[Any],
        offsets: Sequence[int],
        appended_ms: Sequence[int],
        clocks_ms: Sequence[int],
        events: PlainEvents,
    ) -> None:
        """The hot loop: once for every record of the journal."""
        buffer, counted = events.buffer, 0
        value_counted = value_read = 0
        state, series_of, units_of = self.state, self._series, int.from_bytes
        touch = state.touched.add
        rows = zip(messages, offsets, appended_ms, clocks_ms, *events[1:], strict=True)
        for (
            message,
            offset,
            appended_at_ms,
            clock_ms,
            plain,
            start,
            names,
            units,
            moment,
            tail,
            end,
            timestamp_ms,
        ) in rows:
            if plain:
                shared = buffer[names:units] + buffer[tail:end]
                series = series_of.get(shared)
                if series is None and shared not in series_of:
                    series = series_of[shared] = self._acceptable_series(message)
                identifier = buffer[start:names]
                if series is not None and identifier not in series.ledger:
                    value = units_of(buffer[units + 1 : moment], "big", signed=True)
                    value_read += value
                    fact: Fact = (timestamp_ms, appended_at_ms, offset, value, clock_ms, identifier, series)
                    series.ledger[identifier] = fact
                    window_start_ms = timestamp_ms - timestamp_ms % MINUTE_MS
                    cell = series.cells.get(window_start_ms) or state.cell_of(series, window_start_ms)
                    if not cell.fresh:
                        touch(cell)
                    cell.fresh.append(fact)
                    counted += 1
                    value_counted += fact[3]
                    continue
            state.clock_ms = clock_ms
            self._fold(message)
        state.clock_ms = clocks_ms[-1]
        self.values["events"] += counted
        self.values["value"] += value_read
        state.account(outcomes.COUNTED, counted, value_counted)

    def _acceptable_series(self, message: Any) -> Series | None:
        """Of an event that is plain but for its names and dimensions, as the strict decoder reads it."""
        content = self._content(message.value())
        if not isinstance(content, MeterEvent) or check_content(content) is not None:
            return None
        return self.state.series_of(content)

    def fold(self, message: Any) -> None:
        """The next record of the journal, by the specification."""
        self._enter(message.offset(), message.value())
        self._fold(message)

    def _enter_all(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> None:
        """Write down that there are these records."""
        if offsets[0] == len(self.checksums) == self.next_offset and offsets[-1] - offsets[0] == len(offsets) - 1:
            self.next_offset += len(offsets)
            self.records += len(offsets)
            self.checksums.extend([zlib.crc32(value or b"") for value in values])
            return
        for offset, value in zip(offsets, values, strict=True):
            self._enter(offset, value)

    def _enter(self, offset: int, value: bytes | None) -> None:
        """Write down that there is a record."""
        self.pass_over(offset)
        self.next_offset = offset + 1
        self.records += 1
        while len(self.checksums) < offset:
            self.checksums.append(0)
        self.checksums.append(zlib.crc32(value or b""))

    def _fold(self, message: Any) -> None:
        appended_at_ms = message.timestamp()[1]
        content = self._content(message.value())
        if isinstance(content, MeterEvent):
            self.values["events"] += 1
            self.values["value"] += content.value
        decided = step(self.state, self.journal, Record(message.offset(), appended_at_ms, content))
        for one in decided:
            self._decided[one.offset] = one
            if one.appended_at_ms is None:
                self.undated[one.offset] = appended_at_ms
        if self._keeping:
            for one in decided:
                self.late_decisions[one.offset, one.decided_offset] = one
            for cell in self.state.touched:
                self.state.add_up(cell)
                row = digests.row_bytes(cell.tally)
                self.versions[cell.packed_key, digests.version_of(row)] = row
            self._changed |= self.state.touched
            self.state.touched.clear()

    def _content(self, value: bytes | None) -> MeterEvent | Cancellation | Undecodable:
        try:
            return self._decode(value)
        except UndecodableRecord as error:
            return Undecodable(error.reason)

    def settled(self) -> tuple[dict[bytes, bytes], dict[int, Disposition]]:
        """The shards and the decisions that have changed since the last call, as they stand now."""
        changed, self._changed = self._changed | self.state.touched, set()
        self.state.touched.clear()
        decided, self._decided = self._decided, {}
        for cell in changed:
            self.state.add_up(cell)
        return {cell.packed_key: digests.row_bytes(cell.tally) for cell in changed}, decided

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
        return {cell.packed_key: digests.row_bytes(cell.tally) for cell in self.state.cells()}

    def unbalanced(self) -> list[str]:
        """Where the books of invariant 2 do not balance; the first of each pair is what was read."""
        accounts, state = self.state.accounts, self.state
        for cell in state.touched:
            state.add_up(cell)
        events = [one for name, one in accounts.items() if not name.startswith("cancellation_")]
        decided_records = sum(records for records, _ in accounts.values())
        decided_value = sum(value for _, value in events)
        pairs = (
            ("records and dispositions", self.records, decided_records),
            ("value read and value decided", self.values["value"], decided_value),
            ("value counted and sums", accounts["counted"][1], state.sum),
            ("events counted and counts", accounts["counted"][0], state.count),
        )
        return [f"{what}: {one} and {other}" for what, one, other in pairs if one != other]
