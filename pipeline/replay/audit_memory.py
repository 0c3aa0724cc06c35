"""What a worker remembers beside its tallies: identities, the events of each tally, the records themselves.

No number depends on it today. Tomorrow's do: a duplicate that is not known counts twice, and a cancelled minimum is
found anew among the events that are remembered.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from pipeline.codec.digests import key_bytes
from pipeline.domain.events import Identity
from pipeline.domain.ledger import Awaited, Counted
from pipeline.domain.tally import Entry
from pipeline.replay.audit_findings import Compared, Difference, shown_key
from pipeline.replay.audit_fold import AuditFold

Remembered = Awaited | tuple[int, int, int, str | None]
"""Of one that counted: (offset, appended_at_ms, clock_ms, cancelled_by)."""


class Memory(Protocol):
    """A worker's state, as of where the fold stands."""

    def entries(self) -> Iterator[tuple[bytes, list[Entry]]]: ...
    def ledger(self) -> Iterator[tuple[Identity, Remembered]]: ...
    def bodies(self) -> Iterator[tuple[int, bytes]]: ...


def compare_memory(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """What differs between a worker's memory and the fold's. What no rule can reach any more may be there or not."""
    _compare_ledger(side, memory, fold)
    _compare_entries(side, memory, fold)
    _compare_bodies(side, memory, fold)


def _compare_ledger(side: Compared, memory: Memory, fold: AuditFold) -> None:
    """Once for every event of the last weeks: the hot loop."""
    known, oldest_ms = fold.state.ledger, _oldest_ms(fold)
    seen = 0
    for identity, found in memory.ledger():
        wanted = known.get(identity)
        if wanted is not None and (isinstance(wanted, Awaited) or wanted.clock_ms >= oldest_ms):
            seen += 1
        if _packed(wanted) == found:
            continue
        if wanted is not None or isinstance(found, Awaited) or found[2] >= oldest_ms:
            numbers = () if wanted is None else (("entry", str(_packed(wanted)), str(found)),)
            _tell(side, fold, wanted is None, f"the ledger's entry of {_shown(identity)}", numbers)
    living = [identity for identity, one in known.items() if isinstance(one, Awaited) or one.clock_ms >= oldest_ms]
    if seen < len(living):
        there = {identity for identity, _ in memory.ledger()}
        for identity in living:
            if identity not in there:
                what = f"the ledger's entry of {_shown(identity)}"
                side.differ(Difference(side.where, fold.journal.partition, "missing", what))


def _compare_entries(side: Compared, memory: Memory, fold: AuditFold) -> None:
    wanted = {key_bytes(key): entries for key, entries in fold.state.entries.items()}
    for key, found in memory.entries():
        expected = wanted.get(key)
        if expected is not None and {entry[0]: entry for entry in found} != expected:
            numbers = (("events", str(sorted(expected)), str([entry[0] for entry in found])),)
            _tell(side, fold, False, f"the events of {shown_key(key)}", numbers)


def _compare_bodies(side: Compared, memory: Memory, fold: AuditFold) -> None:
    there, checksums, checksum_of = set(), fold.checksums, zlib.crc32
    for offset, body in memory.bodies():
        there.add(offset)
        if offset >= len(checksums) or checksum_of(body) != checksums[offset]:
            _tell(side, fold, False, f"the record at offset {offset} as it is remembered", ())
    oldest_ms = _oldest_ms(fold)
    for one in fold.state.ledger.values():
        if isinstance(one, Counted) and one.clock_ms >= oldest_ms and one.offset not in there:
            what = f"the record at offset {one.offset} as it is remembered"
            side.differ(Difference(side.where, fold.journal.partition, "missing", what))


def _tell(
    side: Compared, fold: AuditFold, unexpected: bool, what: str, numbers: tuple[tuple[str, str, str], ...]
) -> None:
    kind = "unexpected" if unexpected else "differs"
    side.differ(Difference(side.where, fold.journal.partition, kind, what, numbers))  # type: ignore[arg-type]


def _packed(remembered: Awaited | Counted | None) -> Remembered | None:
    if isinstance(remembered, Counted):
        return remembered.offset, remembered.appended_at_ms, remembered.clock_ms, remembered.cancelled_by
    return remembered


def _oldest_ms(fold: AuditFold) -> int:
    """The window of what counted before has passed."""
    return fold.state.clock_ms - fold.journal.rules.dedup_window_ms


def _shown(identity: Identity) -> str:
    return f"{'live' if identity.livemode else 'test'} {identity.event_name} {identity.identifier}"
