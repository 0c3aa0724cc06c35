"""Which generation is live: the log of steps, folded.

The log has one order, so that of two commands that want different things at the same time the first one wins, and
everybody who reads sees the same. A step that does not follow from what stands before it is void:

    building   a number that was never used, the next one; one generation at a time is built
    live       one that was building or is retired; the one that was live is retired by that
    dropped    one that was building or is retired; its number is never used again

Before any step, generation 1 is live. Its rules are not known then: they are the settings'. The first step may
write them down (``live`` of generation 1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipeline.errors import Refusal

BUILDING, LIVE, RETIRED, DROPPED = STATES = ("building", "live", "retired", "dropped")

FIRST = 1


class Generation(NamedTuple):
    """A generation, or a step in its life."""

    number: int
    state: str
    """A member of STATES; a step never says retired, which follows from another one's ``live``."""
    journal: int
    """Generation of the journal that it is built from."""
    partitions: int
    """Of that journal; 0 where nobody wrote it down."""
    fold: str
    """``FoldRules.version``; empty where nobody wrote it down."""
    at_ms: int
    """When its last step was written, by the writer's clock: for people only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Generations:
    """All generations as the log has left them."""

    by_number: Mapping[int, Generation] = dataclasses.field(
        default_factory=lambda: {FIRST: Generation(FIRST, LIVE, FIRST, 0, "", 0)}
    )
    lives: tuple[int, ...] = (FIRST,)
    """Numbers in the order in which they became live, each where it did last."""

    @property
    def live(self) -> Generation:
        return self.by_number[self.lives[-1]]

    @property
    def building(self) -> Generation | None:
        return next((one for one in self.by_number.values() if one.state == BUILDING), None)

    @property
    def former(self) -> Generation | None:
        """What a rollback goes back to: the one that was live last and is still there."""
        retired = (self.by_number[number] for number in reversed(self.lives))
        return next((one for one in retired if one.state == RETIRED), None)

    @property
    def next_number(self) -> int:
        return max(self.by_number) + 1

    @property
    def kept(self) -> tuple[Generation, ...]:
        """Those that have topics and tables, in order of number."""
        return tuple(one for _, one in sorted(self.by_number.items()) if one.state != DROPPED)

    def of(self, number: int) -> Generation:
        """Raises Refusal when there is none, or not any more."""
        found = self.by_number.get(number)
        if found is None or found.state == DROPPED:
            raise Refusal(f"there is no generation {number}; `meterline generations list` shows those there are")
        return found

    def allows(self, step: Generation) -> bool:
        """Whether the step follows from what stands."""
        before = self.by_number.get(step.number)
        if step.state == BUILDING:
            return self.building is None and step.number == self.next_number
        if before is None:
            return False
        if step.state == LIVE and before.state == LIVE:
            return before.fold == ""
        return step.state in (LIVE, DROPPED) and before.state in (BUILDING, RETIRED)

    def after(self, step: Generation) -> Generations:
        """What stands after one more step; the same when it is void."""
        if not self.allows(step):
            return self
        known = dict(self.by_number)
        known[step.number] = step
        if step.state != LIVE:
            return Generations(known, self.lives)
        before = self.live
        if before.number != step.number:
            known[before.number] = before._replace(state=RETIRED, at_ms=step.at_ms)
        return Generations(known, (*(number for number in self.lives if number != step.number), step.number))


def generations_of(log: Iterable[Generation]) -> Generations:
    """What stands after all steps of the log."""
    found = Generations()
    for step in log:
        found = found.after(step)
    return found
