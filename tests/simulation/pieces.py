"""Some seeds at a time, for processes that share the work."""

from __future__ import annotations

from tests.simulation.plan import plan_of
from tests.simulation.world import World

PIECE = 50
"""Seeds that one process runs at a time."""


def run_piece(first: int) -> tuple[list[tuple[int, str]], set[str]]:
    """The failures of PIECE seeds, and what they reached."""
    failed, reached = [], set()
    for seed in range(first, first + PIECE):
        outcome = World(plan_of(seed)).run()
        reached |= outcome.trace.reached
        if outcome.failure is not None:
            failed.append((seed, outcome.failure))
    return failed, reached
