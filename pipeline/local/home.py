"""The directory of one laptop stack: what lies where, and the small files by which its commands find each other.

Everything is under one path, 0700: delete the stopped stack's directory and nothing is left of it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import MeterlineError, UsageError


@dataclass(frozen=True, slots=True)
class Home:
    """One stack's directory. ``path`` is absolute."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> Home:
        return cls(path.expanduser().absolute())

    def make(self) -> Home:
        """Make the directory if need be, for this user only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        return self

    def delete(self) -> None:
        """Delete the directory of a stopped stack and all that is in it."""
        shutil.rmtree(self.path)

    @property
    def kafka(self) -> Path:
        """The brokers' records."""
        return self.path / "kafka"

    @property
    def clickhouse(self) -> Path:
        """The tables."""
        return self.path / "clickhouse"

    @property
    def state(self) -> Path:
        """The workers' stores, one directory each."""
        return self.path / "state"

    @property
    def snapshots(self) -> Path:
        """Copies of the stores."""
        return self.path / "snapshots"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def env(self) -> Path:
        """METERLINE_* variables, one KEY=VALUE a line; a shell can source it."""
        return self.path / "env"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.path / "lock"

    @property
    def shape(self) -> Path:
        """JSON: how many brokers and workers, and their ports; kept from start to start."""
        return self.path / "stack.json"

    @property
    def programs(self) -> Path:
        """JSON: what the supervisor has running now."""
        return self.path / "programs.json"

    def read_env(self) -> dict[str, str]:
        """The variables of ``env``; none when there is no such file. Raises UsageError.

        A file without any was cut off, by a full disk for example: taken for silence, all would be the defaults'.
        """
        try:
            words = shlex.split(self.env.read_text(), comments=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UsageError(f"{self.env} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"{self.env} is damaged ({error}): mend it, or delete it for the defaults") from error
        found = dict(word.split("=", 1) for word in words if "=" in word)
        if not found:
            raise UsageError(f"{self.env} is empty: write its METERLINE_* lines anew, or delete it for the defaults")
        return found

    def write_env(self, variables: Mapping[str, str]) -> None:
        _write(self.env, env_lines(variables))


def env_lines(variables: Mapping[str, str]) -> str:
    """KEY=VALUE lines, quoted for a shell where that is needed."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty when there is none. Raises MeterlineError when it is something else."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise MeterlineError(f"{path} is damaged ({error}); delete it") from None
    if not isinstance(found, dict):
        raise MeterlineError(f"{path} is damaged; delete it")
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, json.dumps(content, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader, or a kill in the middle, never meets half of one."""
    new = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
