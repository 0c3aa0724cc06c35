"""Commands about the journal as a whole: ``journal repartition``."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline import wiring
from pipeline.cli.rebuild import ProcessesOption, Watching, clear, muster

journal = typer.Typer(no_args_is_help=True, help="Give the journal another number of partitions.")


@journal.callback()
def group() -> None:
    """A group, also while it has one command."""


@journal.command()
def repartition(
    partitions: Annotated[int, typer.Option(min=1, max=1_000, help="How many the journal is to have.")],
    processes: ProcessesOption = None,
    margin: Annotated[int, typer.Option(min=0, help="Seconds by which the brokers' clocks may differ, at most.")] = 60,
) -> None:
    """Copy the journal into one with another number of partitions, and move over.

    While traffic goes on, everything is copied and a generation is built from
    the copy. Then the brokers refuse whatever is written for some seconds:
    the rest is copied, both generations are compared, and everybody goes over.
    Producers, gateways and workers of this version follow by themselves;
    what a foreign producer sends to the old topic is refused from then on,
    never lost, and it has to be told the new name, which is printed.

    Killed at any moment, it goes on when it is given again. Until it has moved
    over, `meterline generations drop N` throws the copy away.

    \b
    Example:
      meterline journal repartition --partitions 24
    """
    from pipeline.replay import rebuild as steps
    from pipeline.replay.repartition import begin, repartition

    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    ground, watch, crew_of = wiring.ground(settings), Watching(accept=False), muster(settings, processes)
    one = steps.unfinished(ground)
    if one is not None and one.partitions == partitions:
        with crew_of(one) as crew:
            steps.switch(ground, one, crew, watch)
    else:
        move = begin(ground, settings.rules.version, partitions, watch)
        one = move.new
        with crew_of(one) as crew:
            repartition(ground, wiring.codec(settings), move, crew, watch, margin * 1000)
    clear(settings)
    typer.echo(f"the journal is {ground.topics(one).journal} now, with {one.partitions} partitions")
