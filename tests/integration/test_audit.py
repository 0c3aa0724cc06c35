"""``meterline audit`` on real services: silent when all is well, and naming every error that somebody plants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from tests.conftest import Stack
from tests.sinks import SinkGroup, SinkProcess
from tests.traffic import Traffic
from tests.workers import Deployment, until


class Audited:
    """A deployment with a worker and a sink, and what the audit says of it."""

    def __init__(self, stack: Stack, deployment: Deployment, home: Path) -> None:
        self.stack, self.deployment, self.home = stack, deployment, home
        self.traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, seed=11)
        self.sink = SinkProcess(home, stack.kafka, stack.clickhouse, deployment.namespace)
        self.group = SinkGroup(stack.kafka, deployment.namespace)

    def settle(self) -> None:
        self.deployment.settle()
        until(lambda: self.group.behind() == 0, "the sink has done everything")

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        mine = {
            "METERLINE_HOME": str(self.home / "no-laptop-stack"),
            "METERLINE_KAFKA": self.stack.kafka,
            "METERLINE_CLICKHOUSE": self.stack.clickhouse,
            "METERLINE_NAMESPACE": self.deployment.namespace,
            "METERLINE_STATE": str(self.home),
            "METERLINE_CANCEL_WINDOW": "1500ms",
            **environ,
        }
        command = [sys.executable, "-m", "pipeline.cli", "audit", *arguments]
        return subprocess.run(
            command, env={"PATH": os.environ["PATH"], **mine}, capture_output=True, text=True, check=False
        )

    def audit(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, report, and what a person reads."""
        report = self.home / "audit.json"
        done = self.run("--json", str(report), *arguments)
        assert report.exists(), done.stdout + done.stderr
        return done.returncode, json.loads(report.read_text()), done.stdout

    def end(self) -> None:
        self.sink.end()
        self.group.close()


@pytest.fixture
def audited(stack: Stack, namespace: str, home: Path) -> Iterator[Audited]:
    list(migrate(Server(stack.clickhouse, namespace)))
    with Deployment(stack.kafka, namespace, home, CANCEL_WINDOW="1500ms") as deployment:
        found = Audited(stack, deployment, home)
        try:
            yield found
        finally:
            found.end()


def test_what_is_well_is_found_well(audited: Audited) -> None:
    audited.traffic.send_each()
    worker = audited.deployment.worker("worker")
    for _ in range(3):
        audited.traffic.send(200)
        audited.settle()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said
    worker.stop()
    code, report, said = audited.audit()
    assert (code, report["equal"]) == (0, True), said
    print(said)
