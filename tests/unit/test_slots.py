"""Replicas that share a volume: each its own directory, and none is forgotten when its worker ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import Refusal
from pipeline.worker import slots

HOLD = """
import sys
from pathlib import Path
from pipeline.worker.slots import claimed
print(claimed(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def holder(state: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that claims a directory and keeps it until its end."""
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    return run, Path(run.stdout.readline().strip())


def ended(run: subprocess.Popen[str]) -> None:
    run.kill()
    run.communicate()


def test_a_directory_without_a_slot_is_taken_as_it_is(tmp_path: Path) -> None:
    assert slots.claimed(tmp_path / "own") == tmp_path / "own"
    assert not (tmp_path / "own").exists()


def test_every_worker_gets_its_own_and_a_killed_one_leaves_its_to_the_next(tmp_path: Path) -> None:
    state = tmp_path / "worker-{slot}"
    (first, one), (second, two) = holder(state), holder(state)
    try:
        assert (one.name, two.name) == ("worker-1", "worker-2")
        ended(first)
        third, again = holder(state)
        ended(third)
        assert again == one
        assert one.stat().st_mode & 0o777 == 0o700
    finally:
        ended(first)
        ended(second)


def test_when_all_are_taken_a_worker_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST", 1)
    run, _ = holder(tmp_path / "{slot}")
    try:
        with pytest.raises(Refusal, match="in use"):
            slots.claimed(tmp_path / "{slot}")
    finally:
        ended(run)
