"""Commands for the stack on this machine: ``up``, ``down``, ``env``."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import wiring
from pipeline.cli.progress import progress
from pipeline.errors import MeterlineError, Refusal, UsageError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.local.services import Services
    from pipeline.local.stack import Plan

STARTED_WITHIN_S = 300.0
STOPPED_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.1

_ADDRESSES = (
    *("METERLINE_KAFKA", "METERLINE_KAFKA_SECURITY", "METERLINE_KAFKA_MECHANISM", "METERLINE_KAFKA_USER"),
    *("METERLINE_KAFKA_PASSWORD", "METERLINE_KAFKA_CA", "METERLINE_CLICKHOUSE", "METERLINE_CLICKHOUSE_USER"),
    *("METERLINE_CLICKHOUSE_PASSWORD", "METERLINE_STATE", "METERLINE_REPLICATION"),
    *("METERLINE_GATEWAY_LISTEN", "METERLINE_GATEWAY_METRICS"),
)
"""Variables that the stack decides for itself: set to anything else, commands would speak to some other deployment."""

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="The stack's directory. Default: METERLINE_HOME, else ./.meterline"),
]


def up(
    home: HomeOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready; run on without a terminal.")
    ] = False,
    brokers: Annotated[
        int | None, typer.Option(metavar="1|3", help="Kafka brokers, settled by the first start. Default: 1.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=16, help="Workers. Default: as last time, first 1.")] = None,
) -> None:
    """Start the whole stack on this machine: real Kafka, real ClickHouse.

    Kafka (a JVM per broker; Maven fetches its jars the first time), ClickHouse's
    engine behind its HTTP interface, topics, migrations, workers and a sink, all
    on 127.0.0.1, on the usual ports where they are free. What dies is started
    again. Without --detach it runs until Ctrl-C and shows what it does.

    Data, logs, ports and METERLINE_* settings given now stay in the directory,
    for the next start and for all other commands.

    \b
    Examples:
      meterline up --detach
      METERLINE_MAX_EVENT_AGE=400d meterline up --home /var/tmp/m --brokers 3 --workers 2
    """
    from pipeline.local.standing import Standing

    if brokers not in (None, 1, 3):
        raise UsageError("--brokers is 1, or 3 for a replicated cluster")
    environ = {**os.environ, **({"METERLINE_HOME": str(home)} if home else {})}
    plan = _plan(environ, brokers, workers)
    if Standing.read(plan.home).alive:
        raise Refusal(f"the stack in {plan.home.path} is running already: `meterline status` shows it")
    if detach:
        _detach(plan, environ)
        typer.echo(f"ready; addresses are in {plan.home.env}, logs in {plan.home.logs}")
        typer.echo("next: meterline status; meterline emit --help; meterline keys create; meterline down")
    else:
        _run_here(plan)


def bring_up(environ: Mapping[str, str]) -> None:
    """Start the detached stack of ``environ`` (METERLINE_HOME and settings), or wait until it is ready if it runs.

    Raises MeterlineError when it does not get ready.
    """
    _detach(_plan(environ, None, None), environ)


def down(
    home: HomeOption = None,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Then delete the directory: all events, all tables.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
) -> None:
    """Stop the stack on this machine, in order. Its data stay.

    Also ends what is left of a stack whose supervisor was killed.

    \b
    Examples:
      meterline down
      meterline down --delete-data --yes
    """
    from pipeline.local.home import Home
    from pipeline.local.standing import end_left_over, stop_supervisor

    place = Home.at(home or wiring.home_of(os.environ))
    if not place.path.is_dir():
        raise UsageError(f"there is no stack in {place.path}; --home or METERLINE_HOME says where it is")
    with progress("stopping", None):
        ran = stop_supervisor(place, STOPPED_WITHIN_S)
        left = end_left_over(place)
    typer.echo(f"stopped the stack in {place.path}" if ran or left else f"no stack was running in {place.path}")
    if delete_data:
        if not yes:
            typer.confirm(f"Delete {place.path} with all its events and tables?", abort=True)
        place.delete()
        typer.echo(f"deleted {place.path}")


def env(home: HomeOption = None) -> None:
    """Print the METERLINE_* variables in force, one KEY=VALUE a line.

    The environment's own, else those that the stack on this machine wrote
    down (the same lines are in its file `env`). Secrets are left out.

    \b
    Examples:
      set -a; source .meterline/env; set +a
      curl "$(meterline env | sed -n 's/^METERLINE_CLICKHOUSE=//p')" -d 'SELECT version()'
    """
    from pipeline.local.home import Home, env_lines

    environ = {**os.environ, **({"METERLINE_HOME": str(home)} if home else {})}
    place = Home.at(wiring.home_of(environ))
    found = {name: text for name, text in wiring.settings_environ(environ).items() if not _is_secret(name)}
    found.pop("METERLINE_HOME", None)
    if not found:
        raise UsageError(
            f"there is no stack in {place.path} and no METERLINE_* variable: start one with `meterline up`"
        )
    typer.echo(env_lines(found), nl=False)


def _is_secret(name: str) -> bool:
    return "PASSWORD" in name or "SECRETS" in name


def _plan(environ: Mapping[str, str], brokers: int | None, workers: int | None) -> Plan:
    """What ``up`` will run: this environment's settings over those remembered in the home. Raises SettingsError."""
    from pipeline.local.home import Home
    from pipeline.local.stack import Plan

    home = Home.at(wiring.home_of(environ))
    remembered = home.read_env()
    given = {name: text for name, text in environ.items() if name.startswith("METERLINE_") and name != "METERLINE_HOME"}
    foreign = [name for name in _ADDRESSES if name in given and given[name] != remembered.get(name)]
    if foreign:
        raise UsageError(f"the stack on this machine decides {', '.join(foreign)} itself: unset and try again")
    variables = {**remembered, **given}
    settings = Settings.load(variables)

    secret = f"laptop:{secrets.token_hex(32)}"

    def complete(services: Services) -> dict[str, str]:
        own = {
            "METERLINE_NAMESPACE": settings.namespace,
            "METERLINE_KAFKA": services.kafka,
            "METERLINE_CLICKHOUSE": services.clickhouse,
            "METERLINE_REPLICATION": "3" if len(services.ports.kafka) >= 3 else "1",
            "METERLINE_GATEWAY_LISTEN": f"127.0.0.1:{services.ports.gateway[0]}",
            "METERLINE_GATEWAY_METRICS": f"127.0.0.1:{services.ports.gateway[1]}",
        }
        # Made once, and kept: what API keys are hashed with. The file is its owner's alone.
        made = {"METERLINE_SNAPSHOTS": home.snapshots.as_uri(), "METERLINE_GATEWAY_SECRETS": secret}
        return {**made, **variables, **own}

    def groups(services: Services) -> tuple[str, str]:
        live = wiring.live_topics(Settings.load(complete(services)))
        return live.worker_group, live.sink_group

    command = (sys.executable, "-m", "pipeline.cli")
    return Plan(home, brokers, workers, groups, command, complete)


def _run_here(plan: Plan) -> None:
    """Run the stack in this process until a signal ends it."""
    from pipeline.cli.stack_view import view
    from pipeline.local.stack import StackRun

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with view(plan.home) as show:
        StackRun(plan, stop, show).run()


def _detach(plan: Plan, environ: Mapping[str, str]) -> None:
    """Start a supervisor that outlives this terminal, unless one runs, and wait until everything is ready."""
    from pipeline.local.program import Program, last_lines
    from pipeline.local.standing import Standing

    home = plan.home.make()
    run: subprocess.Popen[bytes] | None = None
    if not Standing.read(home).alive:
        arguments = ["up", "--home", str(home.path)]
        arguments += ["--brokers", str(plan.brokers)] if plan.brokers else []
        arguments += ["--workers", str(plan.workers)] if plan.workers else []
        log = home.logs / "supervisor.log"
        run = Program("supervisor", (*plan.command, *arguments), log, environ, lambda: True).start()
    deadline = time.monotonic() + STARTED_WITHIN_S
    with progress("starting the stack", None) as step:
        while True:
            standing = Standing.read(home)
            mine = run is None or (standing.supervisor is not None and standing.supervisor.pid == run.pid)
            step(0, standing.waiting_for)
            if standing.phase == "ready" and standing.alive:
                return
            if run is not None and run.poll() is not None:
                said = (standing.problem if mine else "") or last_lines(home.logs / "supervisor.log")
                raise MeterlineError(f"the stack did not start: {said.strip()}")
            # One that stops because of its problem says so by its end, a moment later.
            if standing.problem and standing.alive and standing.phase in ("starting", "ready"):
                raise MeterlineError(
                    f"the stack is not ready: {standing.problem}\n"
                    "The rest of it goes on running: mend this, or stop it with `meterline down`."
                )
            if time.monotonic() > deadline:
                raise MeterlineError(f"the stack was not ready within {STARTED_WITHIN_S:.0f} s; its logs: {home.logs}")
            time.sleep(_LOOK_EVERY_S)
