"""Fuzz every target for a while: ``python -m tests.fuzzing --minutes 10``. Findings go into tests/corpus."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzzing.mutation import Finding, check, inputs, keep
from tests.fuzzing.targets import TARGETS


def fuzz(name: str, seconds: float, seed: int) -> int:
    """How many findings; it stops at the third."""
    started, tried, found = time.monotonic(), 0, 0
    for value in inputs(name, seed):
        tried += 1
        try:
            check(name, value)
        except Finding as finding:
            found += 1
            print(f"{finding}\n    kept as {keep(name, value)}")
        if time.monotonic() - started > seconds or found == 3:
            break
    print(f"{name:24} {tried:9,} inputs, {found} findings", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="in all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=sorted(TARGETS))
    asked = parser.parse_args()
    names = [asked.target] if asked.target else list(TARGETS)
    print(f"seed {asked.seed}")
    found = sum([fuzz(name, asked.minutes * 60 / len(names), asked.seed) for name in names])
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
