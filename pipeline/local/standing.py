"""How a stack stands: what its supervisor writes down for other commands, and how these end what is left running.

Programs carry a mark in their environment. By it the next start, or ``down``, finds what a killed supervisor left
behind, also what was started a moment before the kill.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import MeterlineError
from pipeline.local.home import Home, read_json, write_json
from pipeline.local.lock import Lock
from pipeline.local.program import Identity, stop

_MARK = "LOCAL_STACK_OF"
_ORPHANS_GRACE_S = 3.0
"""Short: some of them wait for others that are gone, and all of them are safe under kill -9."""


@dataclass(frozen=True, slots=True)
class ProgramRow:
    """One program as its supervisor last saw it. ``identity`` is None while it waits to be started again."""

    name: str
    log: Path
    identity: Identity | None
    restarts: int
    last_exit: int | None

    @property
    def alive(self) -> bool:
        return self.identity is not None and self.identity.alive()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the supervisor last wrote. ``phase`` is starting, ready, stopping, stopped or failed."""

    supervisor: Identity | None = None
    phase: str = "stopped"
    waiting_for: str = ""
    problem: str = ""
    programs: tuple[ProgramRow, ...] = field(default=())

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return self.supervisor is not None and self.supervisor.alive()

    def write(self, home: Home) -> None:
        rows = [
            {
                "name": row.name,
                "log": str(row.log),
                **_numbers(row.identity),
                "restarts": row.restarts,
                "last_exit": row.last_exit,
            }
            for row in self.programs
        ]
        content = {"supervisor": _numbers(self.supervisor), "phase": self.phase, "waiting_for": self.waiting_for}
        write_json(home.programs, {**content, "problem": self.problem, "programs": rows})

    @classmethod
    def read(cls, home: Home) -> Standing:
        written = read_json(home.programs)
        if not written:
            return cls()
        rows = (
            ProgramRow(row["name"], Path(row["log"]), _identity(row), row["restarts"], row["last_exit"])
            for row in written["programs"]
        )
        supervisor = _identity(written["supervisor"])
        return cls(supervisor, written["phase"], written["waiting_for"], written["problem"], tuple(rows))


def _numbers(identity: Identity | None) -> dict[str, int | None]:
    return {"pid": identity.pid, "started": identity.started} if identity else {"pid": None, "started": None}


def _identity(numbers: Mapping[str, Any]) -> Identity | None:
    return None if numbers["pid"] is None else Identity(numbers["pid"], numbers["started"])


def mark_children(home: Home) -> None:
    """From here on, every process that this one starts carries the home's mark."""
    # /proc shows the environment that a process was started with: this one itself stays unmarked.
    os.environ[_MARK] = str(home.path)


def end_marked(home: Home) -> int:
    """End every process that carries the home's mark; how many there were.

    Only for the holder of the home's lock: then no supervisor owns them.
    """
    mark = f"{_MARK}={home.path}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            environ = (directory / "environ").read_bytes()
        except OSError:
            continue  # somebody else's, or just gone
        if mark in environ.split(b"\0") and (identity := Identity.of(int(directory.name))):
            found.append(identity)
    stop(found, _ORPHANS_GRACE_S)
    return len(found)


def stop_supervisor(home: Home, within_s: float) -> bool:
    """Ask the home's supervisor to stop its stack, and wait; whether there was one.

    Raises MeterlineError when it is still busy after ``within_s`` seconds.
    """
    supervisor = Standing.read(home).supervisor
    if supervisor is None or not supervisor.alive():
        return False
    supervisor.send(signal.SIGTERM)
    deadline = time.monotonic() + within_s
    while supervisor.alive():
        if time.monotonic() > deadline:
            raise MeterlineError(f"process {supervisor.pid} is still stopping the stack after {within_s:.0f} s")
        time.sleep(0.05)
    return True


def end_left_over(home: Home) -> int:
    """End what a killed supervisor left running; how many processes. Raises InUse when a supervisor runs."""
    lock = Lock(home.lock, f"the stack in {home.path}")
    try:
        ended = end_marked(home)
        if ended:
            Standing().write(home)
        return ended
    finally:
        lock.release()
