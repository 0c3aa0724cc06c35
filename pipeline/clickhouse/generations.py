"""Tables of a generation, and the views that show one.

What a table looks like stands in infra/clickhouse alone, under the name of generation 1: here the same statements are
said of another one. A view is replaced at once: a query sees the one generation or the other, and one in flight ends on
the tables with which it began.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse import tables
from pipeline.clickhouse.migrations import known_migrations

_VIEW = re.compile(r"^CREATE OR REPLACE VIEW (\w+) ", re.MULTILINE)
_IN_ORDER = (*tables.JOURNALED, *reversed(tables.DERIVED))
"""Of views, as they are replaced. Usage is the last: once it is shown, all is."""
_OF_FIRST = re.compile(rf"\b({'|'.join(tables.DERIVED)})_g1\b|\b({'|'.join(tables.JOURNALED)})_j1\b")


def create_tables(client: Client, number: int, journal: int) -> None:
    """Those of this generation and its journal that are missing, as the newest migration has them."""
    for statement in _statements(number, journal):
        if re.search(r"^CREATE TABLE ", statement, re.MULTILINE):
            client.command(statement)


def create_shared_tables(client: Client) -> None:
    """Those tables and views that belong to no generation, where they are missing."""
    for migration in known_migrations():
        for statement in migration.statements:
            if not _OF_FIRST.search(statement):
                client.command(statement)


def show(client: Client, number: int, journal: int) -> None:
    """Let the views show this generation and its journal, one after the other. Can be repeated."""
    views = {match[1]: statement for statement in _statements(number, journal) if (match := _VIEW.search(statement))}
    for name in _IN_ORDER:
        client.command(views[name])


def shown(client: Client) -> dict[str, int | None]:
    """By view of what is derived, the generation that it shows; None when there is no such view."""
    return _numbers(client, tables.DERIVED)


def shown_journals(client: Client) -> dict[str, int | None]:
    """By view of the event log, the journal that it shows; None when there is no such view."""
    return _numbers(client, tables.JOURNALED)


def _numbers(client: Client, views: Sequence[str]) -> dict[str, int | None]:
    """By view, the number of the table behind it."""
    found: dict[str, int | None] = dict.fromkeys(views)
    rows = client.query(
        "SELECT name, as_select FROM system.tables"
        " WHERE database = currentDatabase() AND name IN {names:Array(String)}",
        parameters={"names": list(views)},
    ).result_rows
    for name, select in rows:
        match = re.search(rf"\b{name}_[gj](\d+)\b", str(select))
        found[name] = int(match[1]) if match else None
    return found


def newest_records(client: Client, number: int) -> dict[int, tuple[int, int]]:
    """By journal partition, (offset, appended_at in ms) of the newest record that this generation's summaries tell of.

    Empty where it has no tables.
    """
    name = tables.derived("summary_shards", number)
    if not int(str(client.command(f"EXISTS TABLE {name}"))):
        return {}
    newest = "argMax(toUnixTimestamp64Milli(latest_appended_at), latest_offset)"
    rows = client.query(f"SELECT shard, max(latest_offset), {newest} FROM {name} WHERE count > 0 GROUP BY shard")
    return {int(shard): (int(offset), int(appended_at_ms)) for shard, offset, appended_at_ms in rows.result_rows}


def drop_tables(client: Client, number: int) -> None:
    """Delete this generation's tables. Queries in flight end on them all the same."""
    for name in tables.DERIVED:
        client.command(f"DROP TABLE IF EXISTS {tables.derived(name, number)}")


def drop_event_log(client: Client, journal: int) -> None:
    """Delete the event log of a journal."""
    for name in tables.JOURNALED:
        client.command(f"DROP TABLE IF EXISTS {tables.table_of(name, journal=journal)}")


def _statements(number: int, journal: int) -> Iterator[str]:
    def numbered(match: re.Match[str]) -> str:
        return tables.table_of(match[1] or match[2], number, journal)

    for migration in known_migrations():
        for statement in migration.statements:
            if _OF_FIRST.search(statement):
                yield _OF_FIRST.sub(numbered, statement)
