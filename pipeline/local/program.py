"""A program of the laptop stack as a value, and one run of it as a process.

A process is known by its id *and* the moment it started: an id alone may belong to somebody else by the time a
later command wants to stop it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MeterlineError

_LARGEST_LOG = 20_000_000
"""Bytes. A log that is larger when its program starts again is put aside; one is kept."""


class Broken(MeterlineError):
    """A program of the stack ended, or did not begin to serve; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """How one process of the stack starts, and how one sees that it serves.

    ``environ`` is its whole environment; ``log`` takes its standard output and error; ``ready`` asks once, without
    waiting long; ``grace_s`` is how long it may take to stop before it is killed.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    environ: Mapping[str, str]
    ready: Callable[[], bool]
    grace_s: float = 10.0

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, so that neither Ctrl-C nor a closing terminal reaches it directly."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(self.log.suffix + ".1"))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environ),
                start_new_session=True,
            )

    def complaint(self, what: str) -> Broken:
        """An error that says what happened to this program and shows the end of its log."""
        return Broken(f"{self.name} {what}; the end of {self.log}:\n{last_lines(self.log)}")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for all time: its id and when it started, in clock ticks since the machine did."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a running process; None when there is none (a zombie counts as none)."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The second field is the command in brackets and may itself hold spaces and brackets.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def uptime_s(self) -> float:
        """Seconds since it started."""
        ticks_s = os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.started / ticks_s

    def send(self, number: signal.Signals) -> None:
        """Signal this process; nothing happens when it has ended."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def stop(identities: Iterable[Identity], grace_s: float) -> None:
    """Ask every process to end, together, and kill those that still run after ``grace_s`` seconds."""
    left = [one for one in identities if one.alive()]
    for one in left:
        one.send(signal.SIGTERM)
    if not _await_end(left, grace_s):
        for one in left:
            one.send(signal.SIGKILL)
        _await_end(left, 10.0)


def _await_end(identities: list[Identity], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(one.alive() for one in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def last_lines(path: Path, lines: int = 12) -> str:
    """The end of a log file, indented, for an error message."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 8192))
            text = log.read().decode(errors="replace")
    except OSError:
        return "    (no log)"
    return "\n".join("    " + line for line in text.splitlines()[-lines:]) or "    (empty)"
