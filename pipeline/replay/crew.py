"""The workers and the sink that a command starts for a generation that is not live: watched, started again, stopped.

They end with the command, however it ends: each looks whether its parent still lives. A lock on the directory, which
they inherit, keeps a second command out until the last of them has gone.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.errors import MeterlineError, Refusal

REFUSED = 1
"""Exit code of a process that refuses to go on and says why (pipeline/stream/app.py)."""

LOCKED_WITHIN_S = 20.0
STOPPED_WITHIN_S = 20.0
SNAPSHOTS_WITHIN_S = 120.0
ASK_AGAIN_S = 5.0
CRASHES_MAX = 5
"""Without a stretch of CALM_S in between, a process that ends this often will not come right by itself."""
CALM_S = 30.0
PAUSE_S = 0.5
_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
_GOES_ON = "what is done so far stays: `meterline rebuild` goes on with it"


class _Member:
    """One process and its log."""

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], log: Path, lock: int) -> None:
        self.argv, self.environ, self.log, self.lock = argv, environ, log, lock
        self.crashes = 0
        self.again_at_s: float | None = None
        self.run = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.since_s = time.monotonic()
        with self.log.open("ab") as log:
            self.said_before = log.tell()
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environ),
                pass_fds=(self.lock,),
                start_new_session=True,  # Ctrl-C is for the command, which stops its crew
            )

    def listens(self) -> bool:
        """Whether it catches SIGHUP yet, which would otherwise end it."""
        status = Path(f"/proc/{self.run.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (signal.SIGHUP - 1) & 1)

    def tend(self) -> None:
        now_s = time.monotonic()
        if self.again_at_s is not None:
            if now_s >= self.again_at_s:
                self.again_at_s = None
                self.run = self._start()
        elif self.run.poll() is not None:
            self._ended(now_s)

    def _ended(self, now_s: float) -> None:
        with self.log.open("rb") as log:
            log.seek(self.said_before)
            said = log.read().decode(errors="replace").splitlines()
        if any(word in line for line in said[-80:] for word in _FULL):
            raise MeterlineError(
                f"there is no room left in {self.log.parent}. The live generation is not touched. Make room; {_GOES_ON}"
            )
        why = next((line.partition("stopped: ")[2] for line in reversed(said) if "stopped: " in line), "")
        if self.run.returncode == REFUSED and why:  # Faust ends with the same code when it crashes, and says no why
            raise Refusal(f"{why} ({self.log}); {_GOES_ON}")
        self.crashes = 1 if now_s - self.since_s > CALM_S else self.crashes + 1
        if self.crashes >= CRASHES_MAX:
            end = "\n".join("    " + line for line in said[-8:])
            raise MeterlineError(f"{self.log.stem} ends again and again; the end of {self.log}:\n{end}\n{_GOES_ON}")
        self.again_at_s = now_s + PAUSE_S * self.crashes


class Crew:
    """Use as a context; the processes are there when it is entered, and gone when it is left."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        home: Path,
        generation: int,
        workers: int,
        snapshots: Callable[[], Mapping[int, int]] | None = None,
        group: str = "",
    ) -> None:
        """``command``: how ``meterline`` is called; ``home``: a directory for the crew's state and logs.

        ``snapshots`` tells by partition how far the generation's snapshots reach; None where there are none.
        ``group``: one of the sink's own, in which it copies everything.
        """
        self._group = ("--group", group) if group else ()
        self._snapshots = snapshots
        self.size = workers
        self._home = home
        self._lock: IO[bytes] | None = None
        self._members: list[_Member] = []
        self._command = tuple(command)
        self._environ = environ
        self._options = ("--generation", str(generation), "--parent", str(os.getpid()))

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        self._lock = (self._home / "lock").open("ab")
        deadline = time.monotonic() + LOCKED_WITHIN_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    self._lock.close()
                    raise Refusal(f"another command builds in {self._home} just now: wait for its end") from None
                time.sleep(0.1)
        try:
            for number in range(1, self.size + 1):
                self._begin("worker", f"worker-{number}")
            self._begin("sink", "sink")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _begin(self, role: str, name: str) -> None:
        assert self._lock is not None
        argv = (*self._command, role, *self._options, *(self._group if role == "sink" else ()))
        # A name in the environment is that of one process; and nobody here may keep a place in the group when it goes.
        environ = {**self._environ, "METERLINE_STATE": str(self._home / name), "METERLINE_INSTANCE": ""}
        self._members.append(_Member(argv, environ, self._home / f"{name}.log", self._lock.fileno()))

    def tend(self) -> None:
        """Look at every process once and start again what was killed.

        Raises Refusal with the words of one that refused, MeterlineError for one that cannot go on.
        """
        for member in self._members:
            member.tend()

    def keep_state(self, folded: Mapping[int, int]) -> bool:
        """Have snapshots taken, and wait until they reach this far: regular workers then need not fold it again.

        False when there is no snapshot store, or it takes too long.
        """
        if self._snapshots is None:
            return False
        deadline = time.monotonic() + SNAPSHOTS_WITHIN_S
        asked_s = 0.0
        while any(self._snapshots().get(number, 0) < offset for number, offset in folded.items()):
            now_s = time.monotonic()
            if now_s > deadline:
                return False
            if now_s > asked_s + ASK_AGAIN_S:  # one that was just started again has not heard it
                asked_s = now_s
                for member in self._members[: self.size]:
                    if member.run.poll() is None and member.listens():
                        member.run.send_signal(signal.SIGHUP)
            self.tend()
            time.sleep(0.1)
        return True

    def leave(self) -> None:
        """Stop every process, in peace."""
        for member in self._members:
            if member.run.poll() is None:
                member.run.terminate()
        deadline = time.monotonic() + STOPPED_WITHIN_S
        for member in self._members:
            try:
                member.run.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.run.kill()
                member.run.wait()
        self._members.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.leave()
        if self._lock is not None:
            self._lock.close()
