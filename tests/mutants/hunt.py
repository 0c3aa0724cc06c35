"""``python -m tests.mutants.hunt SEEDS``: run seeds of the simulator until one fails; exit code 1 then."""

from __future__ import annotations

import sys

from tests.simulation.plan import plan_of
from tests.simulation.world import World


def hunt(seeds: int) -> int:
    for seed in range(seeds):
        failure = World(plan_of(seed)).run().failure
        if failure is not None:
            print(f"seed {seed}: {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(hunt(int(sys.argv[1])))
