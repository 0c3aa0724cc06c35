"""``meterline demo``: a year of departures from New York, metered and proven."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline import wiring
from pipeline.errors import Refusal
from pipeline.settings import Settings

MAX_EVENT_AGE = "7300d"
"""2013 is long ago: the demo's deployment takes events up to twenty years old."""


def demo(
    flights: Annotated[
        int | None, typer.Option("--flights", min=1, metavar="N", help="Only the first N of the 336,776 flights.")
    ] = None,
    here: Annotated[
        bool,
        typer.Option(
            "--on-deployment",
            envvar="METERLINE_DEMO_ON_DEPLOYMENT",
            help="On the deployment that METERLINE_KAFKA leads to, which must take old events; not on one of its own.",
        ),
    ] = False,
    command: Annotated[
        str,
        typer.Option("--command", envvar="METERLINE_COMMAND", hidden=True, help="How a reader calls meterline here."),
    ] = "",
) -> None:
    """Meter a year of flights, and prove the result.

    Brings the stack up in ./.meterline (or METERLINE_HOME), publishes every
    departure from New York in 2013 as a meter event, some of them twice, takes back
    those that never departed, some of them before their event, and compares
    the summaries with a plain sum over the CSV file. Leaves the stack running;
    running it again is harmless: the same events are duplicates then.

    \b
    Examples:
      meterline demo
      meterline demo --flights 20000
      docker compose run --rm cli demo
    """
    from pipeline.cli.showcase import Showcase
    from pipeline.demo.flights import FLIGHTS, directory_of_package

    directory = directory_of_package()
    environ = deployment() if here else bring_up(wiring.home_of(os.environ))
    showcase = Showcase(
        wiring.load_settings(environ), directory, flights or FLIGHTS, own_stack=not here, command=command
    )
    if not showcase.run():
        raise typer.Exit(1)


def deployment() -> dict[str, str]:
    """The variables of this environment, which lead to a deployment that takes events of 2013. Raises Refusal."""
    settings = wiring.load_settings()
    if settings.max_past_ms < Settings.load({"METERLINE_MAX_EVENT_AGE": MAX_EVENT_AGE}).max_past_ms:
        raise Refusal(
            "this deployment does not take events of 2013: METERLINE_MAX_EVENT_AGE would have to be "
            f"{MAX_EVENT_AGE} here and for its workers, from their first start on"
        )
    return wiring.settings_environ()


def bring_up(home: Path) -> dict[str, str]:
    """Start the laptop stack for old events, or find it running; the variables that lead to it.

    Settings of the person's own deployment are left out: the demo never publishes anywhere else.
    """
    from pipeline.cli.stack import bring_up as start_stack

    wanted = Settings.load({"METERLINE_MAX_EVENT_AGE": MAX_EVENT_AGE}).max_past_ms
    made_before = (home / "env").exists()
    if made_before and wiring.load_settings({"METERLINE_HOME": str(home)}).max_past_ms != wanted:
        raise Refusal(
            f"the stack in {home} was made for younger events than those of 2013, and that cannot change any more; "
            "give the demo a stack of its own: METERLINE_HOME=.meterline-demo meterline demo"
        )
    environ = {name: text for name, text in os.environ.items() if not name.startswith("METERLINE_")}
    start_stack({**environ, "METERLINE_HOME": str(home), "METERLINE_MAX_EVENT_AGE": MAX_EVENT_AGE})
    return {"METERLINE_HOME": str(home)}
