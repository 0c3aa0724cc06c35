"""One laptop stack from start to end: services, topics, migrations, workers, sink, gateway, and the watch over them.

Safe under kill -9 of any of it, this supervisor included: the next start ends what was left running, on the same
ports and with the same settings. Records, tables and stores need no help to be whole.
"""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.local.home import Home, read_json, write_json
from pipeline.local.kafka import Members
from pipeline.local.lock import Lock
from pipeline.local.program import Identity, Program
from pipeline.local.services import Ports, Running, Services, end, start_services
from pipeline.local.standing import Standing, end_marked, mark_children
from pipeline.local.supervisor import Supervisor

READY_WITHIN_S = 120.0
_TASKS_WITHIN_S = 120.0
_TEND_EVERY_S = 0.1
_GIVE_UP_AFTER = 3


class Stopped(BaseException):
    """The stack was asked to stop while it was starting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. None: as last time in this home, else one broker, one worker.

    ``command`` is how ``meterline`` is called; ``groups`` names the consumer groups of worker and sink once Kafka
    answers; ``complete`` gives the variables of all processes once the addresses are known.
    """

    home: Home
    brokers: int | None
    workers: int | None
    groups: Callable[[Services], tuple[str, str]]
    command: tuple[str, ...]
    complete: Callable[[Services], dict[str, str]]


class StackRun:
    """One run of the stack in this process. ``stop`` ends it; ``on_change`` sees how it stands."""

    def __init__(self, plan: Plan, stop: threading.Event, on_change: Callable[[Standing], None]) -> None:
        self._plan = plan
        self._home = plan.home
        self._stop = stop
        self._tell = on_change
        self._supervisor = Supervisor(self._changed)
        self._phase = "starting"
        self._waiting_for = ""
        self._problem = ""
        self._failing = ""

    def run(self) -> None:
        """Start everything, watch over it until ``stop`` is set, stop everything.

        Raises InUse when this home's stack runs already; Broken when it cannot start.
        """
        lock = Lock(self._home.make().lock, f"the stack in {self._home.path}")
        try:
            self._run()
        except Stopped:
            pass
        except BaseException as error:
            self._problem = str(error)
            raise
        finally:
            self._change_phase("stopping")
            self._supervisor.end()
            self._change_phase("failed" if self._problem else "stopped")
            lock.release()

    def _run(self) -> None:
        mark_children(self._home)
        self._change_phase("starting")
        self._step("what an earlier run left behind")
        end_marked(self._home)
        services = start_services(self._home, self._wanted_ports(), self._step)
        self._supervisor.take_over(services.running)
        # With the home named, no other stack's settings are picked up from the working directory.
        environ = {**os.environ, **self._remember(services), "METERLINE_HOME": str(self._home.path)}
        tasks = (("topics", ("topics", "create")), ("migrate", ("clickhouse", "migrate")))
        self._perform([self._program(name, arguments, environ, lambda: True) for name, arguments in tasks])
        self._supervisor.start(self._consumers(services, environ))
        deadline = time.monotonic() + READY_WITHIN_S
        while waiting := self._supervisor.not_ready():
            self._step(", ".join(program.name for program in waiting))
            self._watch()
            if time.monotonic() > deadline and not self._problem:
                self._problem = str(waiting[0].complaint(f"did not begin to serve within {READY_WITHIN_S:.0f} s"))
                self._changed()
        self._problem = ""
        self._change_phase("ready")
        while not self._stop.is_set():
            self._watch()

    def _watch(self) -> None:
        """One look at every program, and a pause."""
        self._supervisor.tend()
        failing = self._supervisor.failing(_GIVE_UP_AFTER)
        if (failing is None) == bool(self._failing):
            # Not the end: Kafka and ClickHouse go on running, since mending whatever it is may need them.
            self._failing = failing.name if failing else ""
            self._problem = str(failing.complaint("ends again and again")) if failing else ""
            self._changed()
        self._stop.wait(_TEND_EVERY_S)

    def _wanted_ports(self) -> Ports:
        """The ports of the last run, so that addresses stay; the usual ones the first time."""
        shape = read_json(self._home.shape)
        brokers = self._plan.brokers or int(shape.get("brokers", 1))
        if shape.get("brokers") != brokers:
            return Ports.usual(brokers)
        listen, metrics = shape.get("gateway", Ports.usual(brokers).gateway)
        return Ports(tuple(shape["kafka"]), tuple(shape["controllers"]), shape["clickhouse"], (listen, metrics))

    @property
    def _workers(self) -> int:
        return self._plan.workers or int(read_json(self._home.shape).get("workers", 1))

    def _remember(self, services: Services) -> dict[str, str]:
        """Write down the shape of the stack and its variables; the latter are returned."""
        ports, workers = services.ports, self._workers
        shape = {"brokers": len(ports.kafka), "workers": workers, "kafka": ports.kafka}
        shape |= {"controllers": ports.controllers, "clickhouse": ports.clickhouse, "gateway": ports.gateway}
        write_json(self._home.shape, shape)
        variables = self._plan.complete(services)
        self._home.write_env(variables)
        return variables

    def _consumers(self, services: Services, environ: Mapping[str, str]) -> list[Program]:
        plan, workers = self._plan, self._workers
        worker_group, sink_group = plan.groups(services)
        worker_members = Members(services.kafka, worker_group)
        sink_members = Members(services.kafka, sink_group)

        def folding() -> bool:
            return worker_members.count() >= workers

        def copying() -> bool:
            return sink_members.count() >= 1

        programs = []
        for number in range(1, workers + 1):
            name = f"worker-{number}" if workers > 1 else "worker"
            state = str(self._home.state / f"worker-{number}")
            own = {**environ, "METERLINE_STATE": state, "METERLINE_INSTANCE": f"worker-{number}"}
            programs.append(self._program(name, ("worker",), own, folding))
        own = {**environ, "METERLINE_STATE": str(self._home.state), "METERLINE_INSTANCE": "sink"}
        programs.append(self._program("sink", ("sink",), own, copying))
        port = services.ports.gateway[0]
        return [*programs, self._program("gateway", ("gateway",), environ, lambda: _gateway_serves(port))]

    def _program(
        self, name: str, arguments: tuple[str, ...], environ: Mapping[str, str], ready: Callable[[], bool]
    ) -> Program:
        argv = (*self._plan.command, *arguments)
        return Program(name, argv, self._home.logs / f"{name}.log", environ, ready, grace_s=15.0)

    def _perform(self, tasks: list[Program]) -> None:
        """Run programs that end by themselves, side by side, watching over the others meanwhile.

        Raises Broken when one of them fails.
        """
        self._step(", ".join(" ".join(task.argv[len(self._plan.command) :]) for task in tasks))
        runs = [Running(task, task.start()) for task in tasks]
        deadline = time.monotonic() + _TASKS_WITHIN_S
        try:
            while any(one.run.poll() is None for one in runs):
                self._watch()
                self._step(self._waiting_for)
                if time.monotonic() > deadline:
                    raise tasks[0].complaint(f"was not done within {_TASKS_WITHIN_S:.0f} s")
        finally:
            end(runs)
        for one in runs:
            if one.run.returncode != 0:
                raise one.program.complaint(f"ended with exit code {one.run.returncode}")

    def _step(self, waiting_for: str) -> None:
        """Say what is waited for; here a start that was asked to stop does."""
        if self._stop.is_set():
            raise Stopped
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            self._changed()

    def _change_phase(self, phase: str) -> None:
        self._phase, self._waiting_for = phase, ""
        self._changed()

    def _changed(self) -> None:
        standing = Standing(
            Identity.of(os.getpid()), self._phase, self._waiting_for, self._problem, self._supervisor.rows()
        )
        standing.write(self._home)
        self._tell(standing)


def _gateway_serves(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1.0) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
