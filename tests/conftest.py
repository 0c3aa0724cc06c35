"""What tests share: a stack of real services, and a name and a directory of its own for each test.

``stack`` is the one seam between the tests and where Kafka and ClickHouse come from: addresses in, nothing else.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pipeline.local.home import Home
from pipeline.local.services import Ports, end, start_services

# Tests start hundreds of processes: let the first of them leave its bytecode to the others.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How quick the machine is decides about no test.
settings.register_profile("meterline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meterline")


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the services are: Kafka's bootstrap servers, ClickHouse's URL."""

    kafka: str
    clickhouse: str


CONTAINER_TESTS = Path(__file__).parent / "containers"
NOT_IN_CONTAINERS = ("test_local_", "test_benchmarks")
"""How the names of files begin that are about the laptop stack itself, or about what benchmarks say."""
IN_CONTAINERS = os.environ.get("METERLINE_TEST_STACK") == "containers"
collect_ignore = [] if IN_CONTAINERS else ["containers"]


def pytest_report_header() -> str | list[str]:
    if IN_CONTAINERS:
        from tests.containers.engine import what_is_shown

        return [
            "on containers: tests/containers, and all that reaches Kafka or ClickHouse through `stack`",
            f"not on containers: {'*, '.join(NOT_IN_CONTAINERS)}*, and what knows nothing of where services come from",
            what_is_shown(),
        ]
    return "without tests/containers, which need a container engine: `make test-containers` runs them"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On containers, leave out what would be the same again: tests that know nothing of where services come from."""
    if not IN_CONTAINERS:
        return
    same = [item for item in items if not _meets_containers(item)]
    config.hook.pytest_deselected(items=same)
    items[:] = sorted((item for item in items if item not in set(same)), key=_turn)


def _turn(item: pytest.Item) -> int:
    """The two longest files at first; other stacks at last, so that no more than two start beside the common pair."""
    if item.path.parent != CONTAINER_TESTS:
        return 1
    return 0 if item.path.name in ("test_faults.py", "test_compose.py") else 2


def _meets_containers(item: pytest.Item) -> bool:
    if item.path.parent == CONTAINER_TESTS:
        return True
    return not item.path.name.startswith(NOT_IN_CONTAINERS) and "stack" in getattr(item, "fixturenames", ())


_STACK = pytest.StashKey[tuple[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """With tests in several processes (``--numprocesses``), the one that hands them out owns the services."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        services = ExitStack()
        config.add_cleanup(services.close)
        config.stash[_STACK] = services.enter_context(_services())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["stack"] = node.config.stash[_STACK]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A broker and a ClickHouse endpoint for the whole run; no worker and no sink.

    METERLINE_TEST_STACK="host:port http://host:port" names a Kafka and a ClickHouse that run already: tests have
    namespaces of their own there, so one pair serves many runs. METERLINE_TEST_STACK=containers starts a pair in
    containers.
    """
    if given := getattr(request.config, "workerinput", {}).get("stack"):
        yield Stack(*given)
        return
    with _services() as addresses:
        yield Stack(*addresses)


@contextmanager
def _services() -> Iterator[tuple[str, str]]:
    if IN_CONTAINERS:
        from tests.containers.pair import started_pair

        with started_pair() as addresses:
            yield addresses
        return
    if given := os.environ.get("METERLINE_TEST_STACK"):
        kafka, clickhouse = given.split()
        yield kafka, clickhouse
        return
    with tempfile.TemporaryDirectory(prefix="meterline-tests-") as directory:
        services = start_services(Home.at(Path(directory)).make(), Ports.any(brokers=1))
        try:
            yield services.kafka, services.clickhouse
        finally:
            end(services.running)


_numbers = itertools.count(1)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A name that no other test has: its topics, groups, database and directories are its own."""
    words = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")
    return f"t{os.getpid()}_{next(_numbers)}_{words}"[:40].rstrip("_")


@pytest.fixture
def home(namespace: str, tmp_path: Path) -> Path:
    """The directory for a test that starts a stack of its own."""
    return tmp_path / namespace
