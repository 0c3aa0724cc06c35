"""From a plan that fails to the few steps that make it fail: steps are left out for as long as it still does.

Without a step everything after it takes place at other moments, and a race may be missed. So each shorter plan gets
several chances: other delays, the same steps.
"""

from __future__ import annotations

from tests.simulation.plan import Plan
from tests.simulation.world import World

RUNS_MAX = 3_000
CHANCES = 12


def invariant_of(failure: str | None) -> str | None:
    """What a failure is about, without its details: another failure is another bug."""
    return None if failure is None else " ".join(failure.split()[:4])


class Shrinking:
    """The search for fewer steps."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.runs = 0
        self.wanted = invariant_of(World(plan).run().failure)
        self.kept = list(range(len(plan.steps)))
        self.chance = plan.chance

    def shrink(self) -> None:
        size = max(1, len(self.kept) // 2)
        while self.runs < RUNS_MAX:
            if not any(self._fails_without(start, size) for start in range(0, len(self.kept), size)):
                if size == 1:
                    break
                size //= 2

    def _fails_without(self, start: int, size: int) -> bool:
        tried = self.kept[:start] + self.kept[start + size :]
        for chance in (self.chance, *range(CHANCES)):
            self.runs += 1
            if invariant_of(World(only(self.plan, tried, chance)).run().failure) == self.wanted:
                self.kept, self.chance = tried, chance
                return True
        return False


def only(plan: Plan, numbers: list[int], chance: int | None = None) -> Plan:
    """The plan with these steps alone."""
    steps = tuple(plan.steps[number] for number in numbers)
    return plan._replace(steps=steps, chance=plan.chance if chance is None else chance)
