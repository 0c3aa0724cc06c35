"""``python -m tests.mutants``: break the product at random, one place at a time, and see whether it is noticed.

Each mutant meets the simulator first, and the tests of ``tests/unit`` and ``tests/property`` if it outlives that. What
outlives both is printed whole: either it changes nothing that anybody is promised, or a test is missing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.mutants.mutation import Change, changes_of

ROOT = Path(__file__).resolve().parents[2]
BROKEN = (
    "pipeline/domain/fold.py",
    "pipeline/domain/tally.py",
    "pipeline/replay/rebuild.py",
    "pipeline/replay/tables.py",
    "pipeline/sink/feed.py",
    "pipeline/worker/acts.py",
    "pipeline/worker/cell.py",
    "pipeline/worker/core.py",
    "pipeline/worker/garbage.py",
    "pipeline/worker/opening.py",
    "pipeline/worker/partition.py",
    "pipeline/worker/publishing.py",
    "pipeline/worker/state.py",
    "pipeline/worker/summary_log.py",
)
"""What the simulator runs as it is, where a slip costs exactness."""
SURVIVED = "survived"
HANGS_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="of mutants")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--seeds", type=int, default=400, help="of the simulator, for each")
    parser.add_argument("files", nargs="*", default=BROKEN, help="what to break; default: fold, worker, sink, rebuild")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meterline-mutants-") as home:
        copy = Path(home)
        _copy(copy)
        if (fate := _noticed(copy, seeds=1)) != (SURVIVED, ""):
            sys.exit(f"nothing is broken yet, and that is noticed: {fate}")
        places = [(path, one) for path in asked.files for one in changes_of((copy / path).read_text())]
        chosen = random.Random(asked.seed).sample(places, min(asked.count, len(places)))
        fates = Counter(_fate(copy, path, one, asked.seeds) for path, one in chosen)
    print(", ".join(f"{fate}: {count}" for fate, count in fates.most_common()), f"of {len(places)} possible")


def _copy(home: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes((ROOT / name).read_bytes())


def _fate(home: Path, path: str, change: Change, seeds: int) -> str:
    whole = (home / path).read_text()
    (home / path).write_text(change.applied(whole))
    try:
        fate, said = _noticed(home, seeds)
    finally:
        (home / path).write_text(whole)
    print(f"{fate}: {path}:{change.line}: {change.before} -> {change.after} {said}", flush=True)
    return fate


def _noticed(home: Path, seeds: int) -> tuple[str, str]:
    """By whom, and what that one says."""
    pytest = ("pytest", "-x", "-q", "-p", "no:cacheprovider", "tests/unit", "tests/property")
    for name, command in (("simulator", ("tests.mutants.hunt", str(seeds))), ("tests", pytest)):
        if (failure := _failure(home, command)) is not None:
            return name, f"| {failure}"
    return SURVIVED, ""


def _failure(home: Path, command: tuple[str, ...]) -> str | None:
    """The last line that a command says if it fails, or hangs; None if it does not."""
    environ = {**os.environ, "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    whole = [sys.executable, "-m", *command]
    try:
        ended = subprocess.run(
            whole, cwd=home, env=environ, capture_output=True, text=True, timeout=HANGS_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"hangs for {HANGS_S:g} s"
    said = (ended.stdout + ended.stderr).splitlines()
    telling = [line for line in said if line.startswith(("seed ", "FAILED", "ERROR"))]
    return (telling or said or [""])[-1][:120] if ended.returncode else None


if __name__ == "__main__":
    main()
