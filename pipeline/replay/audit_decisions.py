"""Holding dispositions to the fold's, whether ClickHouse has them or their topic."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.codec.decision_digests import BUCKET_OFFSETS, decision_lanes, shown_moment, shown_value
from pipeline.domain.events import Disposition
from pipeline.domain.times import timestamp_text
from pipeline.domain.values import value_text
from pipeline.replay import audit_findings as findings
from pipeline.replay.audit_findings import Compared, Difference
from pipeline.replay.audit_kept import Expected, Kept, Kind

Decided = Expected[int, Disposition]
"""By the offset of the journal record."""

DECISIONS: Kind[int, Disposition] = Kind(
    lanes=lambda some: map(decision_lanes, some.values()),
    part_of=lambda offset: offset // BUCKET_OFFSETS,
    version_of=lambda one: one.decided_offset,
)


def kept_decisions() -> Kept[int, Disposition]:
    return Kept(DECISIONS)


def stored(one: Disposition) -> Disposition:
    """A disposition as tables have it."""
    return one._replace(
        value=shown_value(one.value),
        timestamp_ms=shown_moment(one.timestamp_ms),
        appended_at_ms=shown_moment(one.appended_at_ms),
    )


def compare_decisions(
    side: Compared,
    partition: int,
    decided: Decided,
    found: Mapping[int, Disposition],
    bucket: int,
    may_be_gone: Callable[[Disposition], bool] = lambda one: False,
) -> None:
    """Compare one bucket of a side, whose dispositions are ``found``, by the offset of the record."""
    early, late = decided.things, decided.later
    for offset, one in found.items():
        wanted = early.get(offset) if one.decided_offset < decided.cursor else late.get((offset, one.decided_offset))
        known = wanted or early.get(offset)
        if wanted is None or stored(wanted) != stored(one):
            kind: findings.Kind = "unexpected" if known is None else "differs"
            side.differ(Difference(side.where, partition, kind, _what(partition, offset), _differing(known, one)))
    for offset in sorted(early.keys() - found.keys()):
        if DECISIONS.part_of(offset) == bucket and not may_be_gone(early[offset]):
            numbers = _differing(early[offset], None)
            side.differ(Difference(side.where, partition, "missing", _what(partition, offset), numbers))


def _what(partition: int, offset: int) -> str:
    return f"the disposition of record {partition}:{offset}"


def _differing(expected: Disposition | None, found: Disposition | None) -> tuple[tuple[str, str, str], ...]:
    """(name, expected, found) of the fields that differ."""
    one, other = expected and stored(expected), found and stored(found)
    pairs = [(name, getattr(one, name, None), getattr(other, name, None)) for name in Disposition._fields]
    return tuple((name, _shown(name, first), _shown(name, second)) for name, first, second in pairs if first != second)


def _shown(name: str, field: str | int | None) -> str:
    if field is None:
        return ""
    if name.endswith("_ms"):
        return timestamp_text(int(field))
    return value_text(int(field)) if name == "value" else str(field)
