"""What a worker remembers beside its tallies: identities, the events of each tally, the records themselves, the ranges
that were applied, and which identities are marked as awaited.

No number depends on it today. Tomorrow's do: a duplicate that is not known counts twice, a cancelled minimum is found
anew among the events that are remembered, a range that is not known takes back what came after it, and a cancellation
that is not marked waits beyond its window.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from pipeline.domain.ledger import Awaited, Counted
from pipeline.domain.state import tally_is_garbage
from pipeline.domain.tally import Entry
from pipeline.replay.audit_facts import Fact, Known, counted_ms, entry_of
from pipeline.replay.audit_findings import Compared, Difference, Kind, shown_key
from pipeline.replay.audit_fold import AuditFold

Remembered = Awaited | tuple[int, int, int, str | None]
"""Of one that counted: (offset, appended_at_ms, clock_ms, cancelled_by)."""


class Memory(Protocol):
    """A worker's state, as of where the fold stands."""

    def entries(self) -> Iterator[tuple[bytes, list[Entry]]]: ...
    def ledger(self) -> Iterator[tuple[bytes, tuple[bool, str], Remembered]]: ...
    def bodies(self) -> Iterator[tuple[int, bytes]]: ...
    def awaiting(self) -> Iterator[tuple[bytes, tuple[bool, str]]]: ...
    def ranges(self) -> Iterator[tuple[bytes, int]]: ...


def compare_memory(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """What differs between a worker's memory and the fold's. What no rule can reach any more may be there or not."""
    _compare_ledger(side, memory, fold)
    _compare_entries(side, memory, fold)
    _compare_bodies(side, memory, fold)
    _compare_awaiting(side, memory, fold)
    _compare_ranges(side, memory, fold)


def _compare_ledger(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """Once for every event of the last weeks: the hot loop."""
    ledgers, oldest_ms = fold.state.ledgers, _oldest_ms(fold)
    seen = 0
    for identifier, names, found in memory.ledger():
        wanted = ledgers[names].get(identifier)
        if wanted.__class__ is tuple and (wanted[2], wanted[1], wanted[4], None) == found:  # type: ignore[misc]
            seen += wanted[4] >= oldest_ms  # type: ignore[misc,operator]
            continue
        if wanted is not None and counted_ms(wanted, oldest_ms) >= oldest_ms:
            seen += 1
        packed = _packed(wanted)
        if packed == found:
            continue
        if packed is not None or isinstance(found, Awaited) or found[2] >= oldest_ms:
            numbers = () if packed is None else (("entry", str(packed), str(found)),)
            what = f"the ledger's entry of {_shown(names, identifier)}"
            _tell(side, fold, "unexpected" if packed is None else "differs", what, numbers)
    if seen < sum(1 for _ in _living(fold)):
        there = {(identifier, names) for identifier, names, _ in memory.ledger()}
        for identifier, names, _ in _living(fold):
            if (identifier, names) not in there:
                _tell(side, fold, "missing", f"the ledger's entry of {_shown(names, identifier)}")


def _living(fold: AuditFold) -> Iterator[tuple[bytes, tuple[bool, str], Known]]:
    """What must be remembered: (identifier, (livemode, event name), what of it)."""
    oldest_ms = _oldest_ms(fold)
    for names, ledger in fold.state.ledgers.items():
        for identifier, known in ledger.items():
            if counted_ms(known, oldest_ms) >= oldest_ms:
                yield identifier, names, known


def _compare_entries(side: Compared, memory: Memory, fold: AuditFold) -> None:
    clock_ms, rules = fold.state.clock_ms, fold.journal.rules
    wanted = {
        cell.packed_key: cell.facts
        for cell in fold.state.cells()
        if not tally_is_garbage(cell.window_start_ms, clock_ms, rules)
    }
    for key, found in memory.entries():
        facts = wanted.get(key)
        if facts is not None and not _are_facts(found, facts):
            numbers = (("events", str(sorted(facts)), str([entry[0] for entry in found])),)
            _tell(side, fold, "differs", f"the events of {shown_key(key)}", numbers)


def _are_facts(found: list[Entry], facts: dict[int, Fact]) -> bool:
    """Whether these are a cell's entries, in any order."""
    if not len(found) == len(facts) == len({entry[0] for entry in found}):
        return False
    return all(entry[0] in facts and entry == entry_of(facts[entry[0]]) for entry in found)


def _compare_bodies(side: Compared, memory: Memory, fold: AuditFold) -> None:
    checksums, checksum_of = fold.checksums, zlib.crc32
    there = bytearray(len(checksums))
    for offset, body in memory.bodies():
        is_known = offset < len(checksums)
        if is_known:
            there[offset] = 1
        if not is_known or checksum_of(body) != checksums[offset]:
            _tell(side, fold, "differs", f"the record at offset {offset} as it is remembered")
    for _, _, known in _living(fold):
        if isinstance(known, Awaited):
            continue
        offset = known.offset if isinstance(known, Counted) else known[2]
        if not there[offset]:
            _tell(side, fold, "missing", f"the record at offset {offset} as it is remembered")


def _compare_awaiting(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """Exactly those that the fold awaits: a mark is made, moved and deleted with its ledger entry."""
    wanted, found = fold.state.awaited(), set(memory.awaiting())
    for identifier, names in sorted(wanted ^ found):
        kind: Kind = "missing" if (identifier, names) in wanted else "unexpected"
        _tell(side, fold, kind, f"the mark that {_shown(names, identifier)} is awaited")


def _compare_ranges(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """A range beyond the window of cancellations is as good as forgotten, whatever is left of it."""
    oldest_ms = fold.state.clock_ms - fold.journal.rules.cancellation_window_ms
    wanted = {name.encode(): ms for name, ms in fold.state.ranges.items() if ms >= oldest_ms}
    found = {name: ms for name, ms in memory.ranges() if ms >= oldest_ms}
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            kind: Kind = "differs"
            if name not in wanted or name not in found:
                kind = "missing" if name in wanted else "unexpected"
            _tell(side, fold, kind, f"that the range {name.decode(errors='replace')} was applied")


def _tell(
    side: Compared, fold: AuditFold, kind: Kind, what: str, numbers: tuple[tuple[str, str, str], ...] = ()
) -> None:
    side.differ(Difference(side.where, fold.journal.partition, kind, what, numbers))


def _packed(known: Known | None) -> Remembered | None:
    if known is None or isinstance(known, Awaited):
        return known
    if isinstance(known, Counted):
        return known.offset, known.appended_at_ms, known.clock_ms, known.cancelled_by
    return known[2], known[1], known[4], None


def _oldest_ms(fold: AuditFold) -> int:
    """The window of what counted before has passed."""
    return fold.state.clock_ms - fold.journal.rules.dedup_window_ms


def _shown(names: tuple[bool, str], identifier: bytes) -> str:
    livemode, event_name = names
    return f"{'live' if livemode else 'test'} {event_name} {identifier.decode(errors='replace')}"
