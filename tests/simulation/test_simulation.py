"""Seeds of the simulator: every invariant holds, whatever fails and whenever; and each run can be repeated."""

from __future__ import annotations

import asyncio
import functools

import pytest

from pipeline.worker.core import WorkerCore
from pipeline.worker.partition import Partition
from pipeline.worker.summary_log import Look
from tests.simulation.__main__ import command_of
from tests.simulation.coverage import MUST_BE_REACHED
from tests.simulation.plan import plan_of
from tests.simulation.planted import PLANTED
from tests.simulation.shrink import Shrinking, only
from tests.simulation.world import World

SEEDS = 2_000
PIECE = 250
VERDICTS = ("Violation: ", "12 liveness: ", "AssertionError: ")
"""How a failure begins that a check of the simulator found, or an assertion in the product."""


@functools.cache
def outcomes(first: int) -> tuple[dict[int, str], frozenset[str]]:
    """The failures by seed, and what was reached."""
    failures, reached = {}, set()
    for seed in range(first, first + PIECE):
        outcome = World(plan_of(seed)).run()
        reached |= outcome.trace.reached
        if outcome.failure is not None:
            failures[seed] = f"{outcome.failure}\nrepeat with: {command_of(seed)}"
    return failures, frozenset(reached)


@pytest.mark.parametrize("first", range(0, SEEDS, PIECE))
def test_every_invariant_holds_for_every_seed(first: int) -> None:
    failures, _ = outcomes(first)
    assert not failures


@pytest.mark.timeout(900)
def test_the_seeds_reach_every_fault_every_disposition_and_every_way_of_recovery() -> None:
    reached = frozenset[str]().union(*(outcomes(first)[1] for first in range(0, SEEDS, PIECE)))
    assert MUST_BE_REACHED - reached == set()


def test_a_seed_is_a_run() -> None:
    for seed in range(0, SEEDS, 50):
        first, second = World(plan_of(seed)).run(), World(plan_of(seed)).run()
        assert first.trace.hash() == second.trace.hash(), seed


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a check's verdict: a plant that only crashes, because what it breaks has another name now, shows nothing."""
    PLANTED[name](monkeypatch)
    failures = (World(plan_of(seed)).run().failure or "" for seed in range(SEEDS))
    assert any(one.startswith(VERDICTS) for one in failures), f"{name} goes unnoticed"


def test_a_failing_seed_is_shrunk_to_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED["suppressed_not_subtracted"](monkeypatch)
    plan = next(plan for seed in range(SEEDS) if World(plan := plan_of(seed)).run().failure)
    search = Shrinking(plan)
    search.shrink()
    assert len(search.kept) <= 4, [str(plan.steps[number]) for number in search.kept]
    assert World(only(plan, search.kept, search.chance)).run().failure is not None


def test_a_take_over_between_two_looks_at_a_summary_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 3665930, shrunk: one world in 265,000 shows a store that is compared before it has caught up. A zombie that
    gets its partition back looks again at what it saw as one, which mends this, too.
    """
    plan = only(plan_of(3665930), [7, 10, 12, 15, 17], 10)
    assert World(plan).run().failure is None

    def taken_over_again(self: Partition, committed: int) -> None:
        self.silent_below = max(self.silent_below, committed)

    with monkeypatch.context() as of_one:
        of_one.setattr(Look, "_is_in_vain", lambda self, shards: False)
        assert World(plan).run().failure is None
        of_one.setattr(Partition, "taken_over_again", taken_over_again)
        assert World(plan).run().failure is not None, "this world does not show it any more: find another"
    monkeypatch.setattr(Partition, "taken_over_again", taken_over_again)
    assert World(plan).run().failure is None


def test_shards_that_are_appended_again_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 3736714, shrunk: the simulator did not wait there for the brokers. The worker does."""
    steps = [0, 3, 5, *range(10, 17), *range(18, 21), *range(24, 32)]
    plan = only(plan_of(3736714), steps, 5)
    assert World(plan).run().failure is None

    async def append(self: WorkerCore, number: int, records: list[tuple[bytes, bytes]]) -> None:
        if records:
            await asyncio.to_thread(self.outlet.publish_batch, self.topics.summaries, number, records)

    monkeypatch.setattr(WorkerCore, "_append", append)
    assert World(plan).run().failure is not None, "this world does not show it any more: find another"
