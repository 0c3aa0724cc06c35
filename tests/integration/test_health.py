"""``meterline health``: a worker that makes progress is well, one that is stuck or gone is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Stack
from tests.traffic import Traffic
from tests.workers import Deployment, until


class Asked:
    """``meterline health`` as a container's health check calls it, looks remembered in a directory of its own."""

    def __init__(self, stack: Stack, namespace: str, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.environ = {
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(home),
            "METERLINE_HOME": str(home / "none"),
            "METERLINE_KAFKA": stack.kafka,
            "METERLINE_NAMESPACE": namespace,
        }

    def __call__(self, part: str, **environ: str) -> tuple[int, str]:
        """The exit code, and what was said."""
        command = [sys.executable, "-m", "pipeline.cli", "health", part]
        mine = self.environ | {f"METERLINE_{name}": text for name, text in environ.items()}
        ended = subprocess.run(command, env=mine, capture_output=True, text=True, check=False)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture
def asked(stack: Stack, namespace: str, tmp_path: Path) -> Asked:
    return Asked(stack, namespace, tmp_path / "looks")


def test_a_worker_is_well_as_long_as_it_makes_progress(
    stack: Stack, namespace: str, tmp_path: Path, asked: Asked
) -> None:
    with Deployment(stack.kafka, namespace, tmp_path / "workers", SESSION_TIMEOUT="60s") as deployment:
        code, said = asked("worker")
        assert code == 1
        assert "no settled place" in said
        worker = deployment.worker("one")
        deployment.await_members(1)
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, 3, transactions=False)
        traffic.send(50)
        deployment.settle()
        assert asked("worker") == (0, "0 records behind in 6 partitions\n")
        worker.freeze()
        traffic.send(50)
        assert asked("worker")[0] == 0, "it was not as far behind at the last look"
        code, said = asked("worker")
        assert code == 1
        assert "has done none since the last look" in said
        worker.thaw()
        until(lambda: asked("worker")[0] == 0, "it goes on")
        worker.stop()
        assert asked("worker")[0] == 1


def test_a_worker_that_took_a_place_over_is_well(stack: Stack, namespace: str, tmp_path: Path, asked: Asked) -> None:
    """Kafka goes on naming the client that had the place before, in a container that is gone."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text("import socket\nsocket.gethostname = lambda: 'a-container-of-before'\n")
    with Deployment(stack.kafka, namespace, tmp_path / "workers", SESSION_TIMEOUT="60s", INSTANCE="w-1") as deployment:
        gone = deployment.worker("one", code=str(elsewhere))
        deployment.await_members(1)
        assert asked("worker")[0] == 1, "it runs elsewhere"
        gone.kill()
        deployment.worker("one")
        traffic = Traffic(stack.kafka, deployment.topics, deployment.partitions, 4, transactions=False)
        traffic.send(50)
        deployment.settle()
        assert asked("worker", INSTANCE="w-1") == (0, "0 records behind in 6 partitions\n")


def test_a_gateway_that_does_not_answer_is_not_well(asked: Asked) -> None:
    code, said = asked("gateway", GATEWAY_LISTEN="0.0.0.0:1")
    assert code == 1
    assert "127.0.0.1:1 does not answer" in said


def test_what_is_asked_is_one_of_the_parts(asked: Asked) -> None:
    assert asked("broker")[0] == 2
