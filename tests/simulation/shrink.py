"""From a plan that fails to the few steps that make it fail: steps are left out for as long as it still does."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.plan import Plan
from tests.simulation.world import Outcome, World

RUNS_MAX = 400


def invariant_of(failure: str | None) -> str | None:
    """What a failure is about, without its details: another failure is another bug."""
    return None if failure is None else ":".join(failure.split(":")[:2])[:40]


def shrink(plan: Plan, run: Callable[[Plan], Outcome] = lambda plan: World(plan).run()) -> list[int]:
    """The numbers of the steps that are needed, ascending."""
    wanted = invariant_of(run(plan).failure)
    kept = list(range(len(plan.steps)))
    size, runs = max(1, len(kept) // 2), 0
    while runs < RUNS_MAX:
        smaller = None
        for start in range(0, len(kept), size):
            tried = kept[:start] + kept[start + size :]
            runs += 1
            if invariant_of(run(only(plan, tried)).failure) == wanted:
                smaller = tried
                break
        if smaller is not None:
            kept = smaller
        elif size == 1:
            break
        else:
            size //= 2
    return kept


def only(plan: Plan, numbers: list[int]) -> Plan:
    """The plan with these steps alone."""
    return plan._replace(steps=tuple(plan.steps[number] for number in numbers))
