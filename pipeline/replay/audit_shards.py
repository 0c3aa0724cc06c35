"""Holding shards to the fold's, whether ClickHouse has them, their topic or a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.codec import digests
from pipeline.domain.limits import DAY_MS
from pipeline.replay import audit_findings as findings
from pipeline.replay.audit_findings import Compared, Difference, differing, numbers_shown, shown_key
from pipeline.replay.audit_kept import Expected, Kept, Kind, Lanes

Shards = Expected[bytes, bytes]
"""Packed rows by packed key (codec/digests.py)."""


def kept_shards(partition: int) -> Kept[bytes, bytes]:
    """Of one partition, by day."""

    def lanes(rows: Mapping[bytes, bytes]) -> Iterable[Lanes]:
        if not rows:
            return []
        return map(tuple, digests.hash_shards(list(rows), b"".join(rows.values()), partition).tolist())

    return Kept(Kind(lanes, day_of, digests.version_of))


def day_of(key: bytes) -> int:
    """Days since 1970, by the start of its window."""
    names_end = key.index(0, key.index(0, 1) + 1) + 1
    return int.from_bytes(key[names_end : names_end + 8], "big", signed=True) // DAY_MS


def compare_rows(
    side: Compared,
    partition: int,
    expected: Shards,
    found: Mapping[bytes, bytes],
    only: Iterable[bytes] | None = None,
) -> None:
    """Hold the shards of one side to what they must be. ``only``: the keys that have to be there, if not all."""
    for key, row in found.items():
        version = digests.version_of(row)
        wanted = expected.things.get(key) if version < expected.cursor else expected.later.get((key, version))
        if wanted == row:
            continue
        if wanted is None:
            kind: findings.Kind = "differs" if key in expected.things else "unexpected"
            side.differ(Difference(side.where, partition, kind, shown_key(key), _unknown(expected, key, row)))
        else:
            side.differ(Difference(side.where, partition, "differs", shown_key(key), differing(wanted, row)))
    for key in expected.things if only is None else only:
        if key not in found:
            wanted_numbers = tuple((name, text, "") for name, text in numbers_shown(expected.things[key]))
            side.differ(Difference(side.where, partition, "missing", shown_key(key), wanted_numbers))


def _unknown(expected: Shards, key: bytes, row: bytes) -> tuple[tuple[str, str, str], ...]:
    """A row that the fold never published: beside what stands there, if anything does."""
    known = expected.things.get(key)
    if known is not None:
        return differing(known, row)
    return tuple((name, "", text) for name, text in numbers_shown(row))
