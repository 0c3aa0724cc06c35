"""Kafka and ClickHouse of one laptop stack: their ports, their programs, and starting them until they serve."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.error import URLError

from pipeline.errors import UsageError
from pipeline.local import ports
from pipeline.local.clickhouse_http import display_name
from pipeline.local.home import Home
from pipeline.local.jars import have_kafka_jars
from pipeline.local.kafka import Cluster
from pipeline.local.program import Broken, Program

_START_ATTEMPTS = 3
_READY_WITHIN_S = 90.0
_USUAL_KAFKA, _USUAL_CLICKHOUSE, _USUAL_GATEWAY = 9092, 8123, (8484, 8485)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one stack, all on 127.0.0.1. 0 stands for any."""

    kafka: tuple[int, ...]
    controllers: tuple[int, ...]
    clickhouse: int
    gateway: tuple[int, int]
    """Where it answers, and where it tells its metrics."""

    @classmethod
    def usual(cls, brokers: int) -> Ports:
        """What a person expects: Kafka on 9092 and up, ClickHouse on 8123, the gateway on 8484."""
        return cls(
            tuple(range(_USUAL_KAFKA, _USUAL_KAFKA + brokers)), (0,) * brokers, _USUAL_CLICKHOUSE, _USUAL_GATEWAY
        )

    @classmethod
    def any(cls, brokers: int) -> Ports:
        return cls((0,) * brokers, (0,) * brokers, 0, (0, 0))

    def free(self) -> Ports:
        """These ports, each replaced by another where it is taken now."""
        brokers = len(self.kafka)
        chosen = ports.choose((*self.kafka, *self.controllers, self.clickhouse, *self.gateway))
        clickhouse, listen, metrics = chosen[-3:]
        return Ports(tuple(chosen[:brokers]), tuple(chosen[brokers:-3]), clickhouse, (listen, metrics))

    def taken(self) -> list[int]:
        return [port for port in (*self.kafka, *self.controllers, self.clickhouse) if not ports.is_free(port)]


class Running(NamedTuple):
    """A program and the process that is one run of it."""

    program: Program
    run: subprocess.Popen[bytes]


class Services(NamedTuple):
    """Kafka and ClickHouse, serving."""

    ports: Ports
    kafka: str
    clickhouse: str
    running: list[Running]


def start_services(home: Home, wanted: Ports, on_step: Callable[[str], None] = lambda _: None) -> Services:
    """Start Kafka and ClickHouse on the wanted ports, or on others where those are taken, and wait until they serve.

    Raises Broken when one of them ends; nothing of this start is left running then.
    """
    for attempt in range(1, _START_ATTEMPTS + 1):
        chosen = wanted.free()
        cluster = Cluster(home.kafka, home.logs, chosen.kafka, chosen.controllers)
        if not have_kafka_jars():
            on_step("Kafka's jars by Maven, 44 MB, this once")
        programs = [*cluster.programs(), clickhouse_program(home, chosen.clickhouse)]
        running = [Running(program, program.start()) for program in programs]
        try:
            await_ready(running, _READY_WITHIN_S, on_step)
        except BaseException as error:
            end(running)
            # Somebody may have taken a port between the look and the use; then it is taken still.
            if isinstance(error, Broken) and attempt < _START_ATTEMPTS and chosen.taken():
                continue
            raise
        return Services(chosen, cluster.bootstrap, f"http://127.0.0.1:{chosen.clickhouse}", running)
    raise AssertionError("the last attempt returns or raises")


def clickhouse_program(home: Home, port: int) -> Program:
    """The endpoint of pipeline/local/clickhouse.py, in a process of its own: it brings the whole engine along.

    Raises UsageError when the engine is not installed.
    """
    if importlib.util.find_spec("chdb") is None:
        raise UsageError("the ClickHouse engine of the laptop stack is missing: pip install 'meterline[local]'")

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=1.0) as answer:
                # Ours, and not somebody else's that has taken the port.
                return str(answer.headers["X-ClickHouse-Server-Display-Name"]) == display_name(home.clickhouse)
        except (URLError, OSError):
            return False

    argv = (sys.executable, "-m", "pipeline.local.clickhouse", "--data", str(home.clickhouse), "--port", str(port))
    return Program("clickhouse", argv, home.logs / "clickhouse.log", os.environ, answers)


def await_ready(running: list[Running], timeout_s: float, on_step: Callable[[str], None] = lambda _: None) -> None:
    """Wait until every program serves, naming on ``on_step`` what is waited for. Raises Broken when one does not."""
    deadline = time.monotonic() + timeout_s
    waiting = list(running)
    while waiting:
        on_step(", ".join(one.program.name for one in waiting))
        for one in list(waiting):
            if one.run.poll() is not None:
                raise one.program.complaint(f"ended with exit code {one.run.returncode}")
            if one.program.ready():
                waiting.remove(one)
        if waiting and time.monotonic() > deadline:
            raise waiting[0].program.complaint(f"did not begin to serve within {timeout_s:.0f} s")
        if waiting:
            time.sleep(0.05)


def end(running: list[Running]) -> None:
    """Stop the runs, together: asked first, killed when their grace is over."""
    for one in running:
        one.run.terminate()
    deadline = time.monotonic() + max((one.program.grace_s for one in running), default=0.0)
    for one in running:
        try:
            one.run.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.run.kill()
            one.run.wait()
