"""``meterline status``: what runs, how far each stage is behind, and how old what one sees is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pipeline import wiring
from pipeline.errors import MeterlineError, Unavailable

if TYPE_CHECKING:
    from pipeline.local.home import Home
    from pipeline.local.standing import Standing
    from pipeline.settings import Settings


class Stage(NamedTuple):
    """One consumer group: records that it still has to do, and the age of the oldest of them, in ms."""

    name: str
    behind: dict[str, int]
    oldest_ms: int | None


def status(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="The stack's directory. Default: METERLINE_HOME, else ./.meterline"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what runs, how far behind each stage is, and how fresh the answers are.

    Works for any deployment that METERLINE_KAFKA and METERLINE_CLICKHOUSE
    lead to; for a stack on this machine it also shows its programs. Lag is
    counted in records by committed offsets, which trail what is done by a few
    seconds. Freshness is how long the oldest record that is not visible yet has waited.

    Exit code 1 when something does not run or does not answer.

    \b
    Examples:
      meterline status
      METERLINE_KAFKA=kafka:9092 METERLINE_CLICKHOUSE=http://ch:8123 meterline status --json
    """
    from pipeline.clickhouse.connection import connect
    from pipeline.local.home import Home
    from pipeline.local.standing import Standing

    environ = {**os.environ, **({"METERLINE_HOME": str(home)} if home else {})}
    settings = wiring.load_settings(environ)
    place = Home.at(wiring.home_of(environ))
    here = settings.kafka == place.read_env().get("METERLINE_KAFKA")
    standing = Standing.read(place) if here else None
    troubles = _troubles_of(standing) if standing else []
    stages: list[Stage] = []
    # A stopped stack answers nothing: no need to wait for that.
    if standing is None or standing.alive or any(row.alive for row in standing.programs):
        try:
            stages = stages_of(settings)
        except Unavailable as error:
            troubles.append(str(error))
        try:
            connect(wiring.clickhouse(settings)).close()
            troubles += _unfinished_switch(settings) if stages else []
        except MeterlineError as error:
            troubles.append(str(error))
    if as_json:
        typer.echo(json.dumps(_as_object(settings, standing, stages, troubles), indent=1))
    else:
        _print(settings, place, standing, stages, troubles)
    if troubles:
        raise typer.Exit(1)


def stages_of(settings: Settings) -> list[Stage]:
    """Worker and sink, in the order in which records flow. Raises Unavailable."""
    from pipeline.kafka.waiting import oldest_waiting_ms

    wiring.await_kafka(settings)
    topics, reader, config = wiring.live_topics(settings), wiring.lag_reader(settings), wiring.quiet_kafka(settings)
    stages = []
    for name, group, read in (
        ("worker", topics.worker_group, (topics.journal, topics.adjustments)),
        ("sink", topics.sink_group, (topics.summaries, topics.dispositions)),
    ):
        behind = {topic: lag.behind for topic, lag in reader.lag(group, read).items()}
        appended_at_ms = oldest_waiting_ms(config, group, read) if any(behind.values()) else None
        oldest_ms = None if appended_at_ms is None else max(0, int(time.time() * 1000) - appended_at_ms)
        stages.append(Stage(name, behind, oldest_ms))
    return stages


def freshness_ms(stages: list[Stage]) -> int:
    """How long the oldest record that is not visible yet has waited; 0 when all is visible."""
    return max((stage.oldest_ms or 0 for stage in stages), default=0)


def _gateway_url(settings: Settings) -> str:
    host, port = settings.gateway_listen
    return f"http://{host}:{port}"


def _unfinished_switch(settings: Settings) -> list[str]:
    """What to say while the views do not show the live generation."""
    ground = wiring.ground(settings)
    shown, live = ground.shown(), ground.ledger.read().live.number
    if shown in (None, live):
        return []
    which = shown or "several"
    return [f"generation {live} is live and the views show {which}: if no `meterline rebuild` runs, it goes on with it"]


def _troubles_of(standing: Standing) -> list[str]:
    if not standing.alive:
        left = [row.name for row in standing.programs if row.alive]
        if left:
            return [f"the supervisor was killed; {', '.join(left)} run on: `meterline up` puts it right"]
        return ["the stack is not running: start it with `meterline up`"]
    troubles = [f"{row.name} does not run; its log: {row.log}" for row in standing.programs if not row.alive]
    return [*troubles, *([standing.problem] if standing.problem else [])]


def _as_object(
    settings: Settings, standing: Standing | None, stages: list[Stage], troubles: list[str]
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "namespace": settings.namespace,
        "kafka": settings.kafka,
        "clickhouse": settings.clickhouse,
        "gateway": _gateway_url(settings),
        "lag": {stage.name: {"behind": stage.behind, "oldest_waiting_ms": stage.oldest_ms} for stage in stages},
        "freshness_ms": freshness_ms(stages) if stages else None,
        "troubles": troubles,
    }
    if standing is not None:
        content["phase"] = standing.phase if standing.alive else "stopped"
        content["supervisor"] = standing.supervisor.pid if standing.supervisor and standing.alive else None
        content["programs"] = [
            {
                "name": row.name,
                "pid": row.identity.pid if row.identity and row.alive else None,
                "uptime_s": round(row.identity.uptime_s(), 1) if row.identity and row.alive else None,
                "restarts": row.restarts,
                "last_exit": row.last_exit,
                "log": str(row.log),
            }
            for row in standing.programs
        ]
    return content


def _print(settings: Settings, home: Home, standing: Standing | None, stages: list[Stage], troubles: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.cli.stack_view import programs_table

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"namespace {settings.namespace}, Kafka {settings.kafka}, ClickHouse {settings.clickhouse}")
    console.print(f"gateway {_gateway_url(settings)}")
    if standing is not None:
        phase = standing.phase if standing.alive else "not running"
        console.print(f"the stack in {home.path}: {phase}", markup=False)
        if standing.programs and (standing.alive or any(row.alive for row in standing.programs)):
            console.print(programs_table(standing))
    if stages:
        table = Table("stage", "topic", "records behind", "oldest waits", box=None, pad_edge=False)
        for stage in stages:
            for topic, behind in stage.behind.items():
                waits = f"{stage.oldest_ms / 1000:.1f} s" if behind and stage.oldest_ms is not None else "-"
                table.add_row(stage.name, topic, f"{behind:,}", waits)
        console.print(table)
        age_ms = freshness_ms(stages)
        fresh = "everything appended is visible" if not age_ms else f"what you see is {age_ms / 1000:.1f} s old"
        console.print(fresh)
    for trouble in troubles:
        console.print(trouble, style="red", markup=False)
