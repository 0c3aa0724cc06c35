"""Fuzz every target for a while: ``python -m tests.fuzzing --minutes 10``. Findings go into tests/corpus.

atheris, which is libFuzzer for Python, changes what it has into what reaches code that nothing reached before, and goes
on from there. It begins with the corpus, and stops a target at its first finding.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzzing.mutation import SIZE_MAX, SPICE, corpus_of, keep
from tests.fuzzing.targets import TARGETS

HANGS_S = 20
"""Longer than any check takes three times over on a busy machine."""


def fuzz(name: str, seconds: int, seed: int) -> bool:
    """Whether nothing was found."""
    with tempfile.TemporaryDirectory(prefix="meterline-fuzz-") as directory:
        place = Path(directory)
        inputs = place / "inputs"
        inputs.mkdir()
        for number, value in enumerate(corpus_of(name)):
            (inputs / str(number)).write_bytes(value)
        (place / "spice").write_text("".join(f'"{_escaped(word)}"\n' for word in SPICE if len(word) <= 64))
        options = {
            "max_total_time": seconds,
            "seed": seed,
            "max_len": SIZE_MAX,
            "timeout": HANGS_S,
            "dict": place / "spice",
            "artifact_prefix": f"{place}/found-",
            "print_final_stats": 1,
        }
        arguments = [f"-{option}={text}" for option, text in options.items()]
        run = subprocess.run(
            [sys.executable, "-m", "tests.fuzzing.guided", name, *arguments, str(inputs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = run.stdout.decode(errors="replace")
        found = [keep(name, one.read_bytes()) for one in place.glob("found-*")]
    tried = re.search(r"number_of_executed_units: *(\d+)", said)
    reached = re.findall(r"cov: (\d+)", said)
    if tried is None or (run.returncode and not found):
        sys.exit(f"{name}: libFuzzer ended with {run.returncode}:\n{said[-4000:]}")
    print(
        f"{name:24} {int(tried[1]):11,} inputs, {reached[-1] if reached else 0} places reached, {len(found)} findings",
        flush=True,
    )
    for path in found:
        print(f"{said[-4000:]}\nkept as {path}", flush=True)
    return not found


def _escaped(word: bytes) -> str:
    """As libFuzzer's dictionaries want it."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="in all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=sorted(TARGETS))
    asked = parser.parse_args()
    names = [asked.target] if asked.target else list(TARGETS)
    print(f"seed {asked.seed}")
    held = [fuzz(name, round(asked.minutes * 60 / len(names)), asked.seed) for name in names]
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
