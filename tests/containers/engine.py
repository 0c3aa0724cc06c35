"""The images that docker-compose.yml names, and the engine that runs them.

Everything that a run of the tests makes in the engine is called ``meterline-test-<RUN>-<process>-...``: whoever cleans
up after a run that was killed finds it by that.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path

import docker
from docker.errors import ImageNotFound

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
RUN = os.environ.get("CONTAINERS_RUN") or str(os.getpid())
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
PREFIX = f"meterline-test-{RUN}-{WORKER}-"
STAND_IN = "meterline.stand-in"
"""The label of an image that infra/docker/offline/build made in place of the official one."""


def image(beginning: str) -> str:
    """The name of an image as docker-compose.yml has it."""
    found = set(re.findall(rf"^ *image: *({re.escape(beginning)}\S*)", COMPOSE_FILE.read_text(), re.MULTILINE))
    (name,) = found
    return str(name)


def kafka_image() -> str:
    return image("apache/kafka:")


def clickhouse_image() -> str:
    return image("clickhouse/clickhouse-server:")


def own_image() -> str:
    return image("meterline:")


@functools.lru_cache(maxsize=1)
def client() -> docker.DockerClient:
    return docker.from_env()


def is_stand_in(name: str) -> bool:
    """Whether this image was made here in place of the official one; the image must be there."""
    return STAND_IN in (client().images.get(name).labels or {})


def missing_images() -> list[str]:
    missing = []
    for name in (kafka_image(), clickhouse_image(), own_image()):
        try:
            client().images.get(name)
        except ImageNotFound:
            missing.append(name)
    return missing


def docker_cli(*arguments: str) -> str:
    """Run the docker command; its output. Fails the test, showing it, when it fails."""
    ended = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"docker {' '.join(arguments)}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def what_is_shown() -> str:
    """Which images these tests run on, and what that leaves out."""
    names = {name: is_stand_in(name) for name in (kafka_image(), clickhouse_image())}
    stand_ins = [name for name, stands_in in names.items() if stands_in]
    if not stand_ins:
        return "the official images of Kafka and ClickHouse"
    left_out = ", without tests/containers/test_clickhouse_server.py" if names[clickhouse_image()] else ""
    return f"stand-ins for {', '.join(stand_ins)}: what they cannot show is in infra/docker/README.md{left_out}"
