"""Holding the stored dispositions to the fold's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.domain.events import Disposition
from pipeline.domain.values import value_text
from pipeline.replay.audit_findings import Compared, Difference, Kind


class StoredDecision(NamedTuple):
    """What a disposition says, as far as an audit compares it."""

    decided_offset: int
    record: str
    disposition: str
    reason: str | None
    value: int | None
    """In units of 10^-12."""
    adjustment_id: str | None
    first_offset: int | None
    events_cancelled: int | None


def compare_decisions(
    side: Compared,
    partition: int,
    cursor: int,
    early: Mapping[int, Disposition],
    late: Mapping[tuple[int, int], Disposition],
    found: Mapping[int, StoredDecision],
) -> None:
    """Compare by the offset of the record. ``early``: what stands as of the cursor; ``late``: each decision since, by
    (offset, decided_offset).
    """
    for offset, one in found.items():
        wanted = early.get(offset) if one.decided_offset < cursor else late.get((offset, one.decided_offset))
        what = f"the disposition of record {partition}:{offset}"
        if wanted is None:
            known = early.get(offset)
            kind: Kind = "unexpected" if known is None else "differs"
            side.differ(Difference(side.where, partition, kind, what, _differing(known and _stored(known), one)))
        elif _stored(wanted) != one:
            side.differ(Difference(side.where, partition, "differs", what, _differing(_stored(wanted), one)))
    for offset in sorted(early.keys() - found.keys()):
        what = f"the disposition of record {partition}:{offset}"
        side.differ(Difference(side.where, partition, "missing", what, _differing(_stored(early[offset]), None)))


def _stored(one: Disposition) -> StoredDecision:
    return StoredDecision(
        one.decided_offset,
        one.record,
        one.disposition,
        one.reason,
        one.value,
        one.adjustment_id,
        one.first_offset,
        one.events_cancelled,
    )


def _differing(expected: StoredDecision | None, found: StoredDecision | None) -> tuple[tuple[str, str, str], ...]:
    """(name, expected, found) of the fields that differ."""
    return tuple(
        (name, _shown(name, expected and getattr(expected, name)), _shown(name, found and getattr(found, name)))
        for name in StoredDecision._fields
        if (expected and getattr(expected, name)) != (found and getattr(found, name))
    )


def _shown(name: str, field: str | int | None) -> str:
    if field is None:
        return ""
    return value_text(int(field)) if name == "value" else str(field)
