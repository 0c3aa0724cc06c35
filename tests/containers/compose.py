"""docker-compose.yml, brought up as a project of a test's own, on free ports; brought down whatever happens."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.local import ports
from tests.containers import engine

_numbers = itertools.count(1)
UP_WITHIN_S = 300
"""More than any command takes, on a machine that does much else at the same time, too."""
RUN_WITHIN_S = 400


def command() -> list[str]:
    """The compose command that this machine has: Docker's plugin, or the older program."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    program = shutil.which("docker-compose")
    assert program, "neither `docker compose` nor docker-compose is installed"
    return [program]


class Compose:
    """One project. ``overrides``: further files beside docker-compose.yml."""

    def __init__(self, *overrides: str, **environ: str) -> None:
        self.project = f"{engine.PREFIX}{next(_numbers)}"
        self.kafka_port, self.clickhouse_port, self.gateway_port = ports.choose((0, 0, 0))
        self.gateway_url = f"http://127.0.0.1:{self.gateway_port}"
        self._files = [engine.COMPOSE_FILE, *(engine.ROOT / name for name in overrides)]
        self._environ = os.environ | {
            "KAFKA_PORT": str(self.kafka_port),
            "CLICKHOUSE_PORT": str(self.clickhouse_port),
            "GATEWAY_PORT": str(self.gateway_port),
            **environ,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            print(self("logs", "--no-color", "--tail", "25", check=False))
        self.down()

    def __call__(self, *arguments: str, check: bool = True, timeout_s: float = UP_WITHIN_S) -> str:
        """Run a compose command; its output and errors. Fails the test when it fails."""
        ended = subprocess.run(
            self._argv(*arguments), env=self._environ, capture_output=True, text=True, check=False, timeout=timeout_s
        )
        said = ended.stdout + ended.stderr
        assert not check or ended.returncode == 0, f"compose {' '.join(arguments)}: {said[-6000:]}"
        return said

    def _argv(self, *arguments: str) -> list[str]:
        files = [part for file in self._files for part in ("-f", str(file))]
        directory = ["--project-directory", str(engine.ROOT)]
        return [*command(), *files, *directory, "-p", self.project, *arguments]

    def up(self, *arguments: str) -> float:
        """Bring everything up, in the background; returns how many seconds that took."""
        began = time.monotonic()
        self("up", "-d", *arguments)
        return time.monotonic() - began

    def down(self) -> None:
        self("down", "-v", "--remove-orphans", "--timeout", "15")

    def cli(self, *arguments: str) -> str:
        """``docker compose run --rm cli ...``"""
        return self("run", "--rm", "-T", "cli", *arguments, timeout_s=RUN_WITHIN_S)

    def new_key(self) -> str:
        """An API key, by the command that the welcome names."""
        (key,) = re.findall(r"^(sk_test_\w+)\s*$", self.cli("keys", "create"), re.MULTILINE)
        return str(key)

    def start_cli(self, log: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """The same in the background."""
        with log.open("wb") as file:
            return subprocess.Popen(
                self._argv("run", "--rm", "-T", "cli", *arguments),
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, stopped ones included."""
        return self("ps", "-a", "-q", service).split() if _plugin() else self("ps", "-q", service).split()

    def left(self) -> dict[str, list[str]]:
        """What still bears the project's name in the engine."""
        label = f"label=com.docker.compose.project={self.project}"
        return {
            kind: engine.docker_cli(*words, "--filter", label, "-q").split()
            for kind, words in {
                "containers": ("ps", "-a"),
                "networks": ("network", "ls"),
                "volumes": ("volume", "ls"),
            }.items()
        }


def _plugin() -> bool:
    return command()[0] == "docker"
