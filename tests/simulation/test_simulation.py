"""Seeds of the simulator: every invariant holds, whatever fails and whenever; and each run can be repeated."""

from __future__ import annotations

import os

import pytest

from tests.simulation.plan import plan_of
from tests.simulation.planted import PLANTED
from tests.simulation.world import World

SEEDS = int(os.environ.get("METERLINE_SIMULATION_SEEDS", "300"))
PLANTED_WITHIN = 2_000


def test_every_invariant_holds_for_every_seed() -> None:
    for seed in range(SEEDS):
        outcome = World(plan_of(seed)).run()
        assert outcome.failure is None, f"{outcome.failure}\nrepeat: python -m tests.simulation --seed {seed} --trace"


def test_a_seed_is_a_run() -> None:
    for seed in range(0, SEEDS, 20):
        first, second = World(plan_of(seed)).run(), World(plan_of(seed)).run()
        assert first.trace.hash() == second.trace.hash(), seed


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    assert any(World(plan_of(seed)).run().failure for seed in range(PLANTED_WITHIN)), f"{name} goes unnoticed"
