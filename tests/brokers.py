"""A broker of a test's own, which it may kill or freeze."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from pipeline.local import ports
from pipeline.local.kafka import Cluster
from pipeline.local.services import Running, await_ready, end


class Broker:
    def __init__(self, home: Path) -> None:
        kafka, controller = ports.choose((0, 0))
        self.cluster = Cluster(home / "kafka", home / "logs", (kafka,), (controller,))
        home.mkdir(parents=True)
        (self.program,) = self.cluster.programs()
        self.run: subprocess.Popen[bytes] = self.program.start()
        await_ready([self._running], 90)

    @property
    def _running(self) -> Running:
        return Running(self.program, self.run)

    def kill(self) -> None:
        self.run.kill()
        self.run.wait()

    def start(self) -> None:
        self.run = self.program.start()
        await_ready([self._running], 90)

    def freeze(self) -> None:
        os.kill(self.run.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.run.pid, signal.SIGCONT)

    def end(self) -> None:
        self.thaw()
        end([self._running])
