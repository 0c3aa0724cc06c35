"""The demo on a slice of the year, as a stranger runs it: a stack of its own, then again, then with a wrong total."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FLIGHTS = "12000"
"""Two weeks of January: both kinds of copies and cancellations are among them."""

Meterline = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def meterline(home: Path, tmp_path: Path) -> Iterator[Meterline]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    environ |= {"METERLINE_HOME": str(home), "COLUMNS": "120"}

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, input=stdin, capture_output=True, text=True, timeout=200, check=False
        )

    yield run
    ended = run("down")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.timeout(1200)
def test_the_demo_proves_itself_again_and_again_and_finds_a_wrong_total(meterline: Meterline) -> None:
    first = meterline("demo", "--flights", FLIGHTS)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "ClickHouse equals a plain sum over the CSV file, digit for digit" in first.stdout
    assert "United Air Lines" in first.stdout
    assert "✗" not in first.stdout

    status = meterline("status")
    assert status.returncode == 0, "the stack is left running"

    cancelled = next(line.split()[-1] for line in first.stdout.splitlines() if " explain " in line)
    explained = meterline("explain", cancelled)
    assert explained.returncode == 0, explained.stderr
    assert f"cancelled by adjustment cancel-{cancelled}" in explained.stdout

    again = meterline("demo", "--flights", FLIGHTS)
    assert again.returncode == 0, again.stdout + again.stderr

    stray = {
        "identifier": "stray", "event_name": "flight_miles", "customer": "UA", "value": "0.000000000001",
        "timestamp": "2013-01-15T12:00:00Z",
    }  # fmt: skip
    assert meterline("emit", stdin=json.dumps(stray)).returncode == 0
    wrong = meterline("demo", "--flights", FLIGHTS)
    assert wrong.returncode == 1
    assert "✗ 1 cell differs" in wrong.stdout
    assert "UA Jan: expected" in wrong.stdout
    assert ".000000000001" in wrong.stdout
