"""The command line ``meterline``.

Exit codes: 0 all went well; 1 it failed; 2 it was called wrongly. Whatever happens, the user gets a sentence and what
to do, never a traceback. Modules of this package import what they need inside their commands: ``--help`` stays quick.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pipeline.cli import (
    audit,
    changes,
    charges,
    demo,
    gateway,
    health,
    journal,
    keys,
    operate,
    publish,
    query,
    rebuild,
    stack,
    status,
)
from pipeline.errors import MeterlineError, Unavailable

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
_STACK = "The stack on this machine"
_USAGE = "Publish usage"
_QUESTIONS = "Ask"
_DERIVED = "Throw away what is derived, and get it back"
_PARTS = "Parts of the pipeline, each its own process"


class Commands(TyperGroup):
    """The outermost frame of every command: here errors become sentences and exit codes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """By what a person wants to do, in the order in which one meets them."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            sections.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(60)))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MeterlineError as error:
            say(f"meterline: {error}")
            if isinstance(error, Unavailable):
                say("Is the stack up? `meterline status` tells; `meterline up` starts it; `meterline env` shows where.")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            say("meterline: interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(EXIT_FAILED) from None
        except (TyperException, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            say(f"meterline: this should not have happened: {type(error).__name__}: {_first_line(error)}")
            if ctx.params.get("debug"):
                traceback.print_exc()
            else:
                say(f"The details are in {_written_down(error)}; with `meterline --debug ...` they are shown here.")
            raise typer.Exit(EXIT_FAILED) from error


def say(text: str) -> None:
    """A line for the person, not for the next program in the pipe."""
    typer.echo(text, err=True)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no message"])[0]


def _written_down(error: BaseException) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="meterline-error-", suffix=".log", delete=False) as file:
        file.writelines(traceback.format_exception(error))
        return file.name


def _forget_output() -> None:
    """The reader of our output has gone (`meterline tail ... | head`): that is its right, and no error to print."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, name="meterline"
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the details of an unexpected error.")] = False,
) -> None:
    """Usage metering that can be proven.

    Services append meter events and adjustments to Kafka; workers fold them into exact summaries; ClickHouse serves
    them. Settings are METERLINE_* variables; where they are silent, the stack that `meterline up` started answers.

    \b
    Begin with:    meterline demo                    a year of flights, metered and proven
    Then:          meterline up --detach             the whole stack on this machine
                   meterline emit usage.jsonl        publish usage
                   meterline query --help            ask for sums
                   meterline explain IDENTIFIER      why was it counted, or not?

    Exit codes: 0 all went well; 1 it failed; 2 it was called wrongly.
    """


app.command(rich_help_panel=_STACK)(demo.demo)
app.command(rich_help_panel=_STACK)(stack.up)
app.command(rich_help_panel=_STACK)(stack.down)
app.command(rich_help_panel=_STACK)(status.status)
app.command(rich_help_panel=_STACK)(stack.env)
app.command(rich_help_panel=_USAGE)(publish.emit)
app.command(rich_help_panel=_USAGE)(publish.adjust)
app.command(rich_help_panel=_QUESTIONS)(query.query)
app.command(rich_help_panel=_QUESTIONS)(charges.charges)
app.command(rich_help_panel=_QUESTIONS)(query.explain)
app.command(rich_help_panel=_QUESTIONS)(audit.audit)
app.command(rich_help_panel=_QUESTIONS)(changes.changes)
app.command(rich_help_panel=_QUESTIONS)(operate.tail)
app.command(rich_help_panel=_DERIVED)(rebuild.rebuild)
app.add_typer(rebuild.generations, name="generations", rich_help_panel=_DERIVED)
app.add_typer(journal.journal, name="journal", rich_help_panel=_DERIVED)
app.add_typer(operate.worker, name="worker", rich_help_panel=_PARTS)
app.command(rich_help_panel=_PARTS)(operate.sink)
app.command(rich_help_panel=_PARTS)(gateway.gateway)
app.command(rich_help_panel=_PARTS)(health.health)
app.add_typer(operate.topics, name="topics", rich_help_panel=_PARTS)
app.add_typer(keys.keys, name="keys", rich_help_panel=_PARTS)
app.add_typer(query.clickhouse, name="clickhouse", rich_help_panel=_PARTS)


def main() -> None:
    """The console script."""
    app()
