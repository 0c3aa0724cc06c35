"""One owner per directory: a file lock that the kernel releases however its owner ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.errors import MeterlineError


class InUse(MeterlineError):
    """Another process owns the directory."""


class Lock:
    """Held from its making until ``release`` or the end of the process. The file holds the owner's process id."""

    def __init__(self, path: Path, what: str) -> None:
        """Take the lock. Raises InUse, naming ``what`` and the owner, when somebody else has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Children do not inherit it: Python opens files close-on-exec.
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._file, 32).decode(errors="replace").strip()
            os.close(self._file)
            raise InUse(f"{what} is in use by process {owner or 'unknown'}") from None
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._file)
