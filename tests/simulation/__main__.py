"""Run seeds, or repeat one.

python -m tests.simulation --seeds 10000 --jobs 2     many, with progress
python -m tests.simulation --seed 7                   one: its steps and what came of it
python -m tests.simulation --seed 7 --steps 1,4 --trace    with some of its steps alone, and all that happened
python -m tests.simulation --seed 7 --shrink          the few steps that make it fail
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.coverage import MUST_BE_REACHED
from tests.simulation.pieces import PIECE, run_piece
from tests.simulation.plan import plan_of
from tests.simulation.shrink import Shrinking, only
from tests.simulation.world import World

COVERING = 2_000
"""As many seeds must reach everything there is to reach."""


def command_of(seed: int, steps: list[int] | None = None, chance: int | None = None) -> str:
    """What repeats a run."""
    chosen = "" if steps is None else " --steps " + ",".join(map(str, steps))
    drawn = "" if chance in (None, seed) else f" --chance {chance}"
    return f"python -m tests.simulation --seed {seed}{chosen}{drawn} --trace"


def pieces(first: int, seeds: int, jobs: int) -> Iterator[tuple[list[tuple[int, str]], set[str]]]:
    starts = range(first, first + seeds, PIECE)
    if jobs == 1:
        gc.freeze()  # what was imported stays, so the cycle collector need not look at it again and again
        yield from map(run_piece, starts)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), gc.freeze) as pool:
        yield from pool.map(run_piece, starts)


def run_many(first: int, seeds: int, jobs: int) -> int:
    failures: list[tuple[int, str]] = []
    reached: set[str] = set()
    started, done = time.perf_counter(), 0
    for failed, found in pieces(first, seeds, jobs):
        done += PIECE
        reached |= found
        for seed, failure in failed:
            print(f"seed {seed}: {failure[:400]}\n    {command_of(seed)}", flush=True)
        failures += failed
        rate = done / (time.perf_counter() - started)
        print(f"\r{done} of {seeds} seeds, {len(failures)} failed, {rate:.0f}/s ", end="", file=sys.stderr, flush=True)
    took = time.perf_counter() - started
    print(file=sys.stderr)
    print(f"{done} seeds in {took:.0f} s ({done / took:.1f}/s): {len(failures)} failed")
    missing = sorted(MUST_BE_REACHED - reached)
    if missing and done >= COVERING:
        print(f"never reached: {', '.join(missing)}")
    if failures:
        seed = min(failures)[0]
        search = Shrinking(plan_of(seed))
        search.shrink()
        print(f"\nThe first of them, shrunk: {command_of(seed, search.kept, search.chance)}")
    return int(bool(failures) or (bool(missing) and done >= COVERING))


def run_one(asked: argparse.Namespace) -> int:
    plan, steps, chance = plan_of(asked.seed), asked.steps, asked.chance
    numbers = list(range(len(plan.steps))) if steps is None else [int(number) for number in steps.split(",") if number]
    if asked.shrink:
        search = Shrinking(plan)
        search.shrink()
        numbers, chance = search.kept, search.chance
    world = World(only(plan, numbers, chance))
    outcome = world.run()
    print(plan.shape)
    for number in numbers:
        print(f"{number:3} {plan.steps[number]}")
    if asked.trace:
        print("\n".join(outcome.trace.lines()))
    print(outcome.failure or "every invariant holds", f"(trace {outcome.trace.hash()})")
    if outcome.failure is not None:
        print(command_of(asked.seed, None if len(numbers) == len(plan.steps) else numbers, chance))
    return int(outcome.failure is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--steps", help="only these steps of the seed's plan, by number")
    parser.add_argument("--chance", type=int, help="other delays than the seed's own")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    if asked.seed is not None:
        return run_one(asked)
    return run_many(asked.first, asked.seeds, asked.jobs)


if __name__ == "__main__":
    sys.exit(main())
