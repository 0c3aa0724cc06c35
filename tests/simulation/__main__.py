"""Run seeds: ``python -m tests.simulation --seeds 1000``, or one of them with its trace: ``--seed 7 --trace``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.plan import plan_of
from tests.simulation.world import World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--steps", help="only these steps of the plan, by number: 1,4,9")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--raise", action="store_true", dest="raises")
    asked = parser.parse_args()
    if asked.seed is not None:
        plan = plan_of(asked.seed)
        if asked.steps is not None:
            kept = [int(number) for number in asked.steps.split(",") if number]
            plan = plan._replace(steps=tuple(plan.steps[number] for number in kept))
        world = World(plan)
        outcome = world.run()
        print(plan.shape)
        for number, step in enumerate(plan.steps):
            print(f"{number:3} {step}")
        if asked.trace:
            print("\n".join(outcome.trace.lines()))
        print(outcome.failure or "all invariants hold", outcome.trace.hash())
        if asked.raises and outcome.failure:
            raise world.error
        return int(outcome.failure is not None)
    failed, reached, turns, started = 0, set(), 0, time.perf_counter()
    for seed in range(asked.first, asked.first + asked.seeds):
        outcome = World(plan_of(seed)).run()
        reached |= outcome.trace.reached
        turns += outcome.turns
        if outcome.failure:
            failed += 1
            print(seed, outcome.failure[:300])
    took = time.perf_counter() - started
    print(
        f"{asked.seeds} seeds, {failed} failed, {asked.seeds / took:.1f} seeds/s, {turns / asked.seeds:.0f} turns each"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
