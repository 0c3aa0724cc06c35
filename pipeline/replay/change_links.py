"""What the writers of one log said of the records that they had read, held to those that stand there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.domain.chain import NOTHING, Head, head_of

NAMED_MAX = 3
"""Of so many records the entities are named."""


class Broken(NamedTuple):
    """A record whose word does not hold."""

    before: int
    """How many records stand before it."""
    offset: int
    entity: str
    says: str
    fresh: bool
    """Whether another's word has held since the last one that did not."""


class Links:
    """Records are taken in order; what each says is looked at with those before it, and not with itself."""

    def __init__(self) -> None:
        self._digests = [NOTHING.digest]
        self._places: list[tuple[int, str]] = []
        self._held = 0
        """Of so many records, from the first on, somebody's word has held."""
        self._broken: list[Broken] = []
        self._fresh = True
        self.absent = 0
        """Records that say nothing: written by an earlier version, or by hand."""

    def take(self, offset: int, entity: str, said: str | bytes | None, head: Head) -> None:
        """The next record: ``said`` of those before it, with which the log's head is ``head``."""
        if said is None:
            self.absent += 1
        else:
            self._hold(offset, entity, said)
        self._places.append((offset, entity))
        self._digests.append(head.digest)

    def findings(self, boundary: int) -> Iterator[Broken]:
        """What does not hold. Those after each other are one, as the cause is one, but for a ``boundary`` between."""
        run: list[Broken] = []
        for one in self._broken:
            if run and (one.fresh or run[-1].before < boundary <= one.before):
                yield _joined(run)
                run = []
            run.append(one)
        if run:
            yield _joined(run)

    def _hold(self, offset: int, entity: str, said: str | bytes) -> None:
        says = self._wrong(said)
        if says:
            self._broken.append(Broken(len(self._places), offset, entity, says, self._fresh))
        self._fresh = not says

    def _wrong(self, said: str | bytes) -> str:
        """Why it does not hold; empty when it does."""
        try:
            claimed = head_of(said if isinstance(said, str) else said.decode("ascii"))
        except ValueError:
            return "what it says of the records before it cannot be read: it was altered, or written by hand"
        here, first = len(self._places), self._held
        if claimed.records <= here and self._digests[claimed.records] == claimed.digest:
            self._held = max(first, claimed.records)
            return ""
        if claimed.records > here:
            where = f"from offset {self._places[first][0]} on" if first < here else "right before it"
            return (
                f"its writer had read {claimed.records:,} records, and {here:,} stand before it: {where} some are gone"
            )
        if claimed.records <= first:
            return "what it says of the records before it is not so, and others agree with them: it was altered itself"
        places = self._places[first : claimed.records]
        where = (
            f"at offset {places[0][0]}" if len(places) == 1 else f"between offsets {places[0][0]} and {places[-1][0]}"
        )
        named = ", ".join(entity or "unreadable" for _, entity in places) if len(places) <= NAMED_MAX else ""
        return f"its writer had read something else {where}{f' ({named})' if named else ''}"


def _joined(run: list[Broken]) -> Broken:
    if len(run) == 1:
        return run[0]
    return run[0]._replace(says=f"{run[0].says}; {len(run) - 1:,} later records say so too")
