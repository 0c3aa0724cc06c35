"""K4: standard error is a pipe that is full, and nobody reads it. The work goes on, and so does the way out."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from pipeline.local import ports
from tests.conftest import Stack
from tests.gateways import GatewayHome, until
from tests.traffic import Traffic
from tests.workers import Deployment


@contextmanager
def unread(role: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose first line finds no room."""
    reads, writes = os.pipe()
    os.write(writes, b"x" * fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096))
    argv = [sys.executable, "-m", "pipeline.cli", role]
    with subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL, stdout=writes, stderr=writes) as process:
        os.close(writes)
        try:
            yield process
        finally:
            process.kill()
            os.close(reads)


def test_k4_a_worker_whose_log_nobody_reads_goes_on(stack: Stack, namespace: str, tmp_path: Path) -> None:
    with Deployment(stack.kafka, namespace, tmp_path / "workers") as deployment:
        state = {"METERLINE_STATE": str(tmp_path / "state")}
        with unread("worker", {**deployment.environ, **state}) as worker:
            Traffic(stack.kafka, deployment.topics, 3, 7, transactions=False).send(200)
            deployment.assert_as_specified()
            worker.terminate()
            assert worker.wait(60) == 0


def test_k4_a_gateway_whose_log_nobody_reads_goes_on(stack: Stack, namespace: str, tmp_path: Path) -> None:
    """Every request has a line; many times what the pipe holds."""
    (port,) = ports.choose((0,))
    with (
        GatewayHome(stack, namespace, tmp_path / "gateway", GATEWAY_LISTEN=f"127.0.0.1:{port}") as home,
        unread("gateway", home.environ) as gateway,
    ):
        until(lambda: _answers(f"http://127.0.0.1:{port}/health/ready"), "the gateway is ready")
        for _ in range(300):
            assert _answers(f"http://127.0.0.1:{port}/health/live")
        gateway.terminate()
        assert gateway.wait(60) == 0


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
