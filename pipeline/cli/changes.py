"""``meterline changes``: who changed what, and is all of it still there?"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline import wiring
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.domain.chain import Head
    from pipeline.replay.changes import Change, Checked, Finding


def changes(
    kept: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What --json said earlier, a line each time; kept where nobody here can write."
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Every change in a line: when, who, what.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON; with --list one for each change, too.")
    ] = False,
) -> None:
    """Tell who changed what, and whether anything was removed or altered.

    Reads from their first records the logs of API keys, meters, products and
    plans, of generations, and of adjustments. Every change of the first two
    says what its writer had read before it, and is held to that; all three are
    held to the heads in --kept, which also tell what was done to the newest
    records. A head is a count and a digest over so many records; every run
    says the present ones. Exit code 1 when something was removed, altered or
    moved, with topic, partition and offset.

    \b
    Examples:
      meterline changes
      meterline changes --list
      meterline changes --json --kept heads.jsonl > new && cat new >> heads.jsonl
    """
    from pipeline.cli.records import escaped
    from pipeline.replay.changes import follow

    heads = {} if kept is None else _heads_in(kept)
    settings = wiring.load_settings()
    wiring.await_kafka(settings)
    tell = (_tell_as_json if as_json else _tell) if listed else _say_nothing
    found = list(follow(wiring.quiet_kafka(settings), wiring.topics(settings), wiring.codec(settings), heads, tell))
    if as_json:
        typer.echo(escaped(json.dumps(_report(found), ensure_ascii=False)))
    else:
        _show(found)
    if any(one.findings for one in found):
        raise typer.Exit(1)


def _say_nothing(_: Change) -> None:
    pass


def _tell(change: Change) -> None:
    from pipeline.cli.records import escaped
    from pipeline.domain.times import timestamp_text

    log, offset, appended_at_ms, by, told = change
    void = "" if told.stands else " (void)"
    line = (
        f"{log}:{offset}  {timestamp_text(appended_at_ms)}  {by or '-'}  {told.entity or told.kind}: {told.what}{void}"
    )
    typer.echo(escaped(line))


def _tell_as_json(change: Change) -> None:
    from pipeline.cli.records import escaped
    from pipeline.domain.times import timestamp_text

    log, offset, appended_at_ms, by, told = change
    where = {"log": log, "offset": offset, "appended_at": timestamp_text(appended_at_ms), "by": by}
    what = {"kind": told.kind, "entity": told.entity, "change": told.what, "stands": told.stands}
    typer.echo(escaped(json.dumps({**where, **what}, ensure_ascii=False)))


def _show(found: list[Checked]) -> None:
    from pipeline.cli.records import escaped

    for one in found:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in one.kinds.items())
        said = [f"{one.head.records:,} records"]
        said += [kinds] if kinds else []
        said += [f"{one.void:,} void"] if one.void else []
        said += [f"{one.unlinked:,} that do not say what they follow"] if one.unlinked else []
        typer.echo(f"{one.log}: {'; '.join(said)}")
        typer.echo(f"    head {one.head}")
    for one in found:
        for finding in one.accepted:
            typer.echo(escaped(f"known since a head was kept: {_sentence(finding)}"))
    for one in found:
        for finding in one.findings:
            typer.echo(escaped(_sentence(finding)))
    count = sum(len(one.findings) for one in found)
    total = sum(one.head.records for one in found)
    outcome = "nothing was removed or altered" if not count else f"{count:,} finding{'s' if count > 1 else ''}"
    typer.echo(f"{total:,} changes: {outcome}")


def _sentence(finding: Finding) -> str:
    about = f" ({finding.entity})" if finding.entity else ""
    return f"{finding.topic}, partition {finding.partition}, offset {finding.offset}{about}: {finding.says}"


def _report(found: list[Checked]) -> dict[str, Any]:
    logs = [
        {
            "log": one.log,
            "topic": one.topic,
            "records": one.head.records,
            "kinds": one.kinds,
            "void": one.void,
            "unlinked": one.unlinked,
            "head": str(one.head),
        }
        for one in found
    ]
    return {
        "changes": sum(one.head.records for one in found),
        "logs": logs,
        "findings": [finding._asdict() for one in found for finding in one.findings],
        "known": [finding._asdict() for one in found for finding in one.accepted],
    }


def _heads_in(path: Path) -> dict[str, list[Head]]:
    """By log. Raises UsageError for a file that holds none: nothing would be proven by it."""
    from pipeline.domain.chain import head_of

    found: dict[str, list[Head]] = defaultdict(list)
    try:
        for line in path.read_text("utf-8").splitlines():
            said = json.loads(line) if line.strip() else {}
            for one in said.get("logs", ()):
                name, _, partition = str(one["log"]).rpartition("/")
                if not name or not partition.isdecimal():
                    raise ValueError(f"{one['log']!r:.60} is no log")
                found[f"{name}/{int(partition)}"].append(head_of(one["head"]))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not what `meterline changes --json` said: {error}") from error
    if not found:
        raise UsageError(f"{path} has no head in it: `meterline changes --json` says them")
    return dict(found)
