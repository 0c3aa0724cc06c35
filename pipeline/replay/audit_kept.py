"""Things by their key, with a digest of each part of them that is kept up: shards by day, dispositions by offset.

So that "is everything equal?" costs what has changed since it was asked last, and not what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from pipeline.codec.digests import Digest

K = TypeVar("K")
V = TypeVar("V")
Lanes = tuple[int, int]
_MASK = 2**64 - 1


class Late(NamedTuple, Generic[K]):
    """Something that was written while the audit ran."""

    key: K
    version: int
    lanes: Lanes


class Part(NamedTuple, Generic[K]):
    """What one side holds of a part."""

    early: Digest = Digest()
    """Of everything whose version lies below the cursor."""
    size: int = 0
    """How many these are."""
    late: tuple[Late[K], ...] = ()


class Kind(NamedTuple, Generic[K, V]):
    """What is to be known of a kind of things."""

    lanes: Callable[[Mapping[K, V]], Iterable[Lanes]]
    """The hash of each."""
    part_of: Callable[[K], int]
    version_of: Callable[[V], int]


class Kept(Generic[K, V]):
    """Things of one side, as it has them."""

    def __init__(self, kind: Kind[K, V]) -> None:
        self.kind = kind
        self.things: dict[K, V] = {}
        self._parts: dict[int, list[int]] = {}
        """(low lane, high lane, count)"""
        self._recent: set[K] = set()

    @property
    def parts(self) -> Collection[int]:
        return self._parts.keys()

    def put(self, things: Mapping[K, V]) -> None:
        """Take these in; each replaces the one of its key."""
        known = self.things
        changed = {key: thing for key, thing in things.items() if known.get(key) != thing}
        self._count({key: known[key] for key in changed if key in known}, -1)
        self._count(changed, 1)
        known.update(changed)
        self._recent.update(changed)

    def drop(self, key: K) -> bool:
        """Whether it was there."""
        thing = self.things.pop(key, None)
        if thing is None:
            return False
        self._count({key: thing}, -1)
        self._recent.discard(key)
        return True

    def _count(self, things: Mapping[K, V], sign: int) -> None:
        parts, part_of = self._parts, self.kind.part_of
        for key, (low, high) in zip(things, self.kind.lanes(things), strict=True):
            part = parts.setdefault(part_of(key), [0, 0, 0])
            part[0] = part[0] + sign * low & _MASK
            part[1] = part[1] + sign * high & _MASK
            part[2] += sign

    def without(self, part: int, keys: Iterable[K]) -> tuple[Digest, int]:
        """The digest and the number of a part's things but for these."""
        low, high, count = self._parts.get(part, (0, 0, 0))
        left_out = {key: self.things[key] for key in keys if key in self.things}
        for one, other in self.kind.lanes(left_out):
            low, high = low - one & _MASK, high - other & _MASK
        return Digest(low, high), count - len(left_out)

    def digest(self) -> Digest:
        """Of everything."""
        return Digest(*(sum(part[lane] for part in self._parts.values()) & _MASK for lane in (0, 1)))

    def as_of(self, cursor: int) -> dict[int, Part[K]]:
        """Every part, with what is newer than the cursor apart. Cursors ascend from call to call."""
        version_of, things = self.kind.version_of, self.things
        self._recent = {key for key in self._recent if version_of(things[key]) >= cursor}
        newer = {key: things[key] for key in self._recent}
        late: dict[int, list[Late[K]]] = {}
        for (key, thing), lanes in zip(newer.items(), self.kind.lanes(newer), strict=True):
            late.setdefault(self.kind.part_of(key), []).append(Late(key, version_of(thing), lanes))
        return {
            part: Part(*self.without(part, [one.key for one in late.get(part, ())]), tuple(late.get(part, ())))
            for part in self._parts
        }


class Expected(NamedTuple, Generic[K, V]):
    """What the audit's own fold says: everything as of ``cursor``, and each version since."""

    cursor: int
    kept: Kept[K, V]
    later: Mapping[tuple[K, int], V]
    """By (key, version)."""

    @property
    def things(self) -> Mapping[K, V]:
        return self.kept.things


def differing_parts(found: Mapping[int, Part[K]], expected: Expected[K, V]) -> Iterator[int]:
    """The parts in which a side does not have what it must."""
    for part in sorted({*expected.kept.parts, *found}):
        has: Part[K] = found.get(part, Part())
        wanted = expected.kept.without(part, [one.key for one in has.late])
        if (has.early, has.size) != wanted or not _are_known(has.late, expected):
            yield part


def _are_known(late: Iterable[Late[K]], expected: Expected[K, V]) -> bool:
    for one in late:
        thing = expected.later.get((one.key, one.version))
        if thing is None or tuple(next(iter(expected.kept.kind.lanes({one.key: thing})))) != one.lanes:
            return False
    return True
