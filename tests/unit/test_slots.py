"""Replicas that share a volume: each its own directory, and none is forgotten when its worker ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import Refusal, SettingsError
from pipeline.stream import slots

HOLD = """
import sys
from pathlib import Path
from pipeline.stream.slots import claimed
print(*claimed(Path(sys.argv[1]), "w{slot}"), flush=True)
sys.stdin.read()
"""


def holder(state: Path) -> tuple[subprocess.Popen[str], Path, str]:
    """A process that claims a directory and a name, and keeps them until its end."""
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    directory, name = run.stdout.readline().split()
    return run, Path(directory), name


def ended(run: subprocess.Popen[str]) -> None:
    run.kill()
    run.communicate()


def test_a_directory_without_a_slot_is_taken_as_it_is(tmp_path: Path) -> None:
    assert slots.claimed(tmp_path / "own", "w1") == (tmp_path / "own", "w1")
    assert not (tmp_path / "own").exists()


def test_a_name_has_no_slot_without_a_directory_that_has_one(tmp_path: Path) -> None:
    """All replicas would have one name."""
    with pytest.raises(SettingsError, match="METERLINE_STATE as well"):
        slots.claimed(tmp_path / "own", "w{slot}")


def test_every_worker_gets_its_own_and_a_killed_one_leaves_its_to_the_next(tmp_path: Path) -> None:
    state = tmp_path / "worker-{slot}"
    (first, one, its_name), (second, two, other_name) = holder(state), holder(state)
    try:
        assert (one.name, two.name) == ("worker-1", "worker-2")
        assert (its_name, other_name) == ("w1", "w2")
        ended(first)
        third, again, name_again = holder(state)
        ended(third)
        assert (again, name_again) == (one, its_name)
        assert one.stat().st_mode & 0o777 == 0o700
    finally:
        ended(first)
        ended(second)


def test_which_names_run_here(tmp_path: Path) -> None:
    """In a container that shares the volume with others."""
    state = tmp_path / "worker-{slot}"
    (first, *_), (second, *_) = holder(state), holder(state)
    try:
        assert slots.names_here(state, "w{slot}") == {"w1", "w2"}
        (tmp_path / "worker-1" / slots.IN_USE).write_text("another container")
        assert slots.names_here(state, "w{slot}") == {"w2"}
        assert slots.names_here(state, "w9") == {"w9"}
        assert slots.names_here(state, "") == set()
    finally:
        ended(first)
        ended(second)


def test_when_all_are_taken_a_worker_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST", 1)
    run, *_ = holder(tmp_path / "{slot}")
    try:
        with pytest.raises(Refusal, match="in use"):
            slots.claimed(tmp_path / "{slot}")
    finally:
        ended(run)
