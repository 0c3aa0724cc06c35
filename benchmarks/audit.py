"""``meterline audit`` over a journal that is done: once from its start, and standing beside traffic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import PER_CPU_S, RATIO, RECORDS_PER_S, Figure, Outcome, Target, agreed, at_most
from benchmarks.measuring import cpu_s
from benchmarks.stage import PARTITIONS, Deployment, Progress, Stage, until
from benchmarks.workload import HOT, write_journal

_PER_S = Target(10_000_000 / 120)
"""Ten million events in two minutes, on two cores."""
_STANDING = at_most(0.10)
_EVENTS_PER_S = 1_000
_STANDING_S, _EVERY_S = 60, 10
_FULL_SIZE = 10_000_000


def measure(stage: Stage, records: int) -> Outcome:
    with stage.deployment("audit") as deployment:
        deployment.say(f"audit: writing {records:,} records")
        write_journal(deployment.config, deployment.topics.journal, HOT, records)
        with deployment.run("worker") as worker, deployment.run("sink", EVENT_LOG="off") as sink:
            deployment.say("audit: folding")
            for role, process, topic in (
                ("worker", worker, deployment.topics.journal),
                ("sink", sink, deployment.topics.summaries),
                ("sink", sink, deployment.topics.dispositions),
            ):
                progress = Progress(deployment, role, topic)
                progress.await_end(process)
                progress.close()
            deployment.say("audit: once")
            figures, found = _once(deployment, records)
            deployment.say("audit: standing")
            seconds = max(_EVERY_S, _STANDING_S * min(records, _FULL_SIZE) // _FULL_SIZE)
            figures.append(_standing(deployment, seconds))
    return Outcome(figures, agreed("records", found["records"], records))


def _command(deployment: Deployment, *arguments: str) -> tuple[list[str], dict[str, str]]:
    directory = deployment.stage.directory / deployment.namespace
    environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    environ |= {
        "METERLINE_HOME": str(directory),
        "METERLINE_KAFKA": deployment.stage.kafka,
        "METERLINE_CLICKHOUSE": deployment.stage.clickhouse,
        "METERLINE_NAMESPACE": deployment.namespace,
        "METERLINE_PARTITIONS": str(PARTITIONS),
        "METERLINE_STATE": str(directory / "worker-state"),
    }
    return [sys.executable, "-m", "pipeline.cli", "audit", *arguments], environ


def _once(deployment: Deployment, records: int) -> tuple[list[Figure], dict[str, Any]]:
    report = deployment.stage.directory / "audit.json"
    command, environ = _command(deployment, "--json", str(report))
    started, before = time.monotonic(), os.times()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - started, os.times()
    assert done.returncode == 0, done.stdout + done.stderr
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    figures = [
        Figure("audit", "once, wall", records / wall, RECORDS_PER_S, _PER_S),
        Figure("audit", "once, CPU of the audit", records / spent, PER_CPU_S),
    ]
    return figures, json.loads(report.read_text())


def _standing(deployment: Deployment, seconds: int) -> Figure:
    """CPU time of a standing audit per second, after its first round, while a thousand events come each second."""
    metrics = deployment.stage.directory / "audit.prom"
    command, environ = _command(deployment, "--every", f"{_EVERY_S}s", "--metrics", str(metrics))
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as audit:
        try:
            until(metrics.exists, "the first round is done")
            started, before = time.monotonic(), cpu_s(audit.pid)
            for second in range(seconds):
                write_journal(deployment.config, deployment.topics.journal, HOT, _EVENTS_PER_S, seed=1_000 + second)
                time.sleep(max(0.0, started + second + 1 - time.monotonic()))
            share = (cpu_s(audit.pid) - before) / (time.monotonic() - started)
            assert audit.poll() is None, "the audit has ended"
            assert differences(metrics) == 0, metrics.read_text()
        finally:
            audit.kill()
    return Figure("audit", "standing at 1,000 events/s, share of a core", share, RATIO, _STANDING)


def differences(metrics: Path) -> int:
    lines = (line.split() for line in metrics.read_text().splitlines() if not line.startswith("#"))
    return int(dict(lines)["meterline_audit_differences"])  # type: ignore[arg-type]
