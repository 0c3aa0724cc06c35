"""Bringing a namespace's database up to date: the numbered SQL files of infra/clickhouse, each once, in order.

Every statement can be repeated, so a migration that broke off, or two at the same time, do no harm. Which ones are done
is kept in the table ``migrations``; a file that was changed afterwards is refused, because other databases would stay
as the old one made them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from clickhouse_connect.driver.client import Client

from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server, connect, translated
from pipeline.clickhouse.zones import Piece, known_zones, pieces_of
from pipeline.errors import Refusal

_FILE_NAME = re.compile(r"(\d{3})_([a-z0-9_]+)\.sql")

_RECORD_TABLE = f"""
CREATE TABLE IF NOT EXISTS {tables.MIGRATIONS}
(
    number     UInt32,
    name       String,
    checksum   String COMMENT 'SHA-256 of the file',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (number, checksum)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def statements(self) -> list[str]:
        """A statement ends with a semicolon at the end of its line."""
        return [part.strip() for part in re.split(r";[ \t]*(?:\n|$)", self.text) if _is_statement(part)]


def _is_statement(part: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("--") for line in part.splitlines())


def migrations_directory() -> Path:
    """Where the SQL files are: in the installed package, or in the checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "resources" / "infra" / "clickhouse"
    return packaged if packaged.is_dir() else package.parent / "infra" / "clickhouse"


def known_migrations() -> list[Migration]:
    """The files in order; their numbers are 1, 2, 3 and so on."""
    found = []
    for path in sorted(migrations_directory().glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        assert match, f"{path.name}: migrations are called 001_what_it_does.sql"
        found.append(Migration(int(match[1]), match[2], path.read_text("utf-8")))
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), (
        "migrations are numbered 1, 2, 3"
    )
    return found


def migrate(server: Server) -> Iterator[Migration]:
    """Apply what is missing, yielding each migration once it is done; then bring the time zones up to date.

    Raises Refusal when a migration that was applied has been changed since, Unavailable while ClickHouse is away.
    """
    with translated(server):
        with connect(server, database="default") as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {server.database}")
        with connect(server) as client:
            client.command(_RECORD_TABLE)
            done = _applied(client)
            for migration in known_migrations():
                if migration.number in done:
                    _check_unchanged(migration, done[migration.number])
                    continue
                for statement in migration.statements:
                    client.command(statement)
                client.insert(
                    tables.MIGRATIONS,
                    [[migration.number, migration.name, migration.checksum]],
                    column_names=["number", "name", "checksum"],
                )
                yield migration
            _write_zones(client)


def _applied(client: Client) -> dict[int, str]:
    rows = client.query(
        f"SELECT number, argMin(checksum, applied_at) FROM {tables.MIGRATIONS} GROUP BY number"
    ).result_rows
    return {int(number): str(checksum) for number, checksum in rows}


def _check_unchanged(migration: Migration, checksum: str) -> None:
    if migration.checksum != checksum:
        raise Refusal(
            f"migration {migration.number:03d}_{migration.name}.sql was changed after it was applied here; "
            "put it back as it was and write the change into a new migration"
        )


def _write_zones(client: Client) -> None:
    """Write every zone that is missing or other than Python's database has it."""
    rows = client.query(f"SELECT zone, pieces, version FROM {tables.ZONES} FINAL").result_rows
    present = {zone: tuple(Piece(*_numbers(piece)) for piece in pieces) for zone, pieces, _ in rows}
    version = 1 + max((version for *_, version in rows), default=0)
    outdated = [
        [zone, [tuple(piece) for piece in pieces], version]
        for zone in known_zones()
        if (pieces := pieces_of(zone)) != present.get(zone)
    ]
    if outdated:
        client.insert(tables.ZONES, outdated, column_names=["zone", "pieces", "version"])


def _numbers(piece: object) -> tuple[int, ...]:
    """clickhouse-connect reads a named tuple as a dict in the order of its fields."""
    return tuple(piece.values()) if isinstance(piece, dict) else tuple(piece)  # type: ignore[arg-type]
