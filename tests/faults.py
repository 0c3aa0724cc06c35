"""The matrix of faults: what tests/faults.toml says, checked and printed. ``python -m tests.faults [--run]``"""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent

SIMULATION = "simulation"
SIMULATED = ["simulation/test_simulation.py::test_every_invariant_holds_for_every_seed"]


def rows() -> dict[str, dict[str, Any]]:
    """By id; see the file's head for what a row may say."""
    return tomllib.loads((TESTS / "faults.toml").read_text())


def tests_of(row: dict[str, Any]) -> list[str]:
    """pytest's names of the tests that carry a row, relative to tests/."""
    return [one for name in row.get("tests", []) for one in (SIMULATED if name == SIMULATION else [name])]


@functools.cache
def functions_in(path: str) -> frozenset[str]:
    """The functions of a test file; none if there is no such file."""
    file = TESTS / path
    if not file.exists():
        return frozenset()
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(row: dict[str, Any]) -> list[str]:
    """The tests of a row that do not exist."""
    return [name for name in tests_of(row) if name.partition("::")[2] not in functions_in(name.partition("::")[0])]


def state_of(row: dict[str, Any]) -> str:
    if "does_not_apply" in row:
        return "does not apply"
    return "open" if "open" in row else f"{len(tests_of(row))} tests"


def claimed() -> dict[str, list[str]]:
    """By id of a row, the tests that call themselves after it: test_a1_a2_…"""
    found: dict[str, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        path = file.relative_to(TESTS).as_posix()
        for name in sorted(functions_in(path)):
            ids = re.match(r"test_((?:[a-hks]\d+_)+)", name)
            for id_ in ids[1].upper().split("_")[:-1] if ids else ():
                found.setdefault(id_, []).append(f"{path}::{name}")
    return found


def outcome_of(name: str) -> str:
    """Run one test; what came of it, how many cases it has, and how long they took."""
    if name.startswith("containers/") and not engine_answers():
        return "not run: it needs a container engine (infra/docker/README.md)"
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", f"tests/{name}"]
    ended = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    cases = re.search(r"(\d+) passed", ended.stdout)
    said = f"passed ({cases[1]})" if ended.returncode == 0 and cases else "FAILED"
    return f"{said} in {time.monotonic() - started:.0f} s"


@functools.cache
def engine_answers() -> bool:
    command = shutil.which("docker")
    return command is not None and subprocess.run([command, "info"], capture_output=True, check=False).returncode == 0


def main() -> int:
    run = "--run" in sys.argv[1:]
    known: dict[str, str] = {}
    failed = False
    for id_, row in rows().items():
        print(f"{id_:4} {state_of(row):15} {row['fault']}")
        for why in (row.get("does_not_apply"), row.get("open"), row.get("note")):
            if why:
                print(f"{'':20} ({why})")
        for name in tests_of(row):
            if run and name not in known:
                known[name] = outcome_of(name)
                failed |= known[name].startswith("FAILED")
            print(f"{'':20} {name} {known.get(name, '')}".rstrip(), flush=run)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
