"""A deployment with a worker and a sink, what ``meterline audit`` says of it, and errors that somebody plants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.clickhouse.connection import Server
from pipeline.clickhouse.migrations import migrate
from pipeline.codec.digests import key_bytes
from pipeline.domain.events import SummaryShard
from pipeline.replay.audit_findings import shown_key
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

    def run(self, *arguments: str, processes: int = 1, **environ: str) -> subprocess.CompletedProcess[str]:
        """``processes``: beside the command itself, if there are several; each takes seconds to start."""
        command = [sys.executable, "-m", "pipeline.cli", "audit", "--processes", str(processes), *arguments]
        return subprocess.run(command, env=self._environ(environ), capture_output=True, text=True, check=False)

    def said(self, *arguments: str) -> str:
        """What another command says, which must end well."""
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        done = subprocess.run(command, env=self._environ({}), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pipeline.cli", "audit", *arguments]
        return subprocess.Popen(command, env=self._environ({}), stdout=subprocess.DEVNULL)

    def _environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "METERLINE_HOME": str(self.home / "no-laptop-stack"),
            "METERLINE_KAFKA": self.stack.kafka,
            "METERLINE_CLICKHOUSE": self.stack.clickhouse,
            "METERLINE_NAMESPACE": self.deployment.namespace,
            "METERLINE_STATE": str(self.home),
            "METERLINE_CANCEL_WINDOW": "1500ms",
            **environ,
        }

    def audit(self, *arguments: str, processes: int = 1) -> tuple[int, dict[str, Any], str]:
        """Exit code, report, and what a person reads."""
        report = self.home / "audit.json"
        done = self.run("--json", str(report), *arguments, processes=processes)
        assert report.exists(), done.stdout + done.stderr
        return done.returncode, json.loads(report.read_text()), done.stdout

    def end(self) -> None:
        self.sink.end()
        self.group.close()


@contextmanager
def auditing(stack: Stack, namespace: str, home: Path) -> Iterator[Audited]:
    list(migrate(Server(stack.clickhouse, namespace)))
    with Deployment(stack.kafka, namespace, home, CANCEL_WINDOW="1500ms") as deployment:
        found = Audited(stack, deployment, home)
        try:
            yield found
        finally:
            found.end()


def settle_some(audited: Audited) -> None:
    """Some traffic of every kind, done by all; the worker has stopped."""
    audited.traffic.send_each()
    worker = audited.deployment.worker("worker")
    for _ in range(2):
        audited.traffic.send(120)
        audited.settle()
    worker.stop()


def differences(report: dict[str, Any]) -> list[tuple[str, int, dict[str, Any]]]:
    """(where, partition, difference)"""
    return [
        (side["where"], one["partition"], difference)
        for one in report["partitions"]
        for side in one["compared"]
        for difference in side["differences"]
    ]


def only_difference(audited: Audited, *arguments: str) -> tuple[str, int, dict[str, Any]]:
    code, report, said = audited.audit(*arguments)
    (found,) = differences(report)
    assert (code, report["equal"], report["differences"]) == (1, False, 1), said
    assert found[2]["what"] in said, "a person reads it too"
    return found


def one_unit(found: dict[str, Any], name: str) -> None:
    """The difference is that number alone, and is one unit of 10^-12."""
    (number,) = found["numbers"]
    assert number["name"] == name
    assert Decimal(number["found"]) - Decimal(number["expected"]) == Decimal("1E-12")


def shown(shard: SummaryShard) -> str:
    return shown_key(key_bytes(shard.key))
