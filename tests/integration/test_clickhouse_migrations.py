"""Migrations on the real engine: once each, in order, repeatable, refused when history was changed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.clickhouse import migrations, tables
from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import known_migrations, migrate
from pipeline.clickhouse.zones import known_zones, pieces_of
from pipeline.domain.events import SummaryShard, TallyKey
from pipeline.errors import Refusal, Unavailable
from pipeline.sink.rows import Place, row_of, tables_of
from tests.conftest import Stack

ALL = [migration.number for migration in known_migrations()]


@pytest.fixture
def server(stack: Stack, namespace: str) -> Server:
    return Server(stack.clickhouse, namespace)


def test_each_is_applied_once_and_recorded(server: Server) -> None:
    assert [migration.number for migration in migrate(server)] == ALL
    assert list(migrate(server)) == []
    with connect(server) as client:
        recorded = client.query("SELECT number, name, checksum FROM migrations ORDER BY number").result_rows
        assert recorded == [(one.number, one.name, one.checksum) for one in known_migrations()]


def test_what_broke_off_is_taken_up_again(server: Server) -> None:
    started = migrate(server)
    next(started)
    next(started)
    started.close()
    assert [migration.number for migration in migrate(server)] == ALL[2:]


def test_two_at_the_same_time_do_no_harm(server: Server) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(lambda: list(migrate(server))) for _ in range(2)]:
            done.result()
    with connect(server) as client:
        names = {
            name
            for (name,) in client.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows
        }
    assert {*tables.DERIVED, *tables.JOURNALED, *tables.SENT, tables.ZONES, tables.SUMMARIES_VIEW} <= names


def test_a_file_that_was_changed_after_it_was_applied_is_refused(server: Server, monkeypatch) -> None:
    list(migrate(server))
    changed = [dataclasses.replace(one, text=one.text + "\n-- better") for one in known_migrations()]
    monkeypatch.setattr(migrations, "known_migrations", lambda: changed)
    with pytest.raises(Refusal, match=r"001_summaries\.sql was changed after it was applied"):
        list(migrate(server))


def test_zones_are_brought_up_to_date(server: Server) -> None:
    list(migrate(server))
    with connect(server) as client:
        stored = dict(client.query("SELECT zone, length(pieces) FROM zones FINAL").result_rows)
        assert stored == {zone: len(pieces_of(zone)) for zone in known_zones()}
        client.command(
            "INSERT INTO zones SELECT zone, arraySlice(pieces, 1, 1), 7 FROM zones WHERE zone = 'Europe/Berlin'"
        )
        list(migrate(server))
        berlin = "SELECT length(pieces) FROM zones FINAL WHERE zone = 'Europe/Berlin'"
        assert client.command(berlin) == len(pieces_of("Europe/Berlin"))


def test_generations_are_swapped_by_replacing_a_view(server: Server) -> None:
    """The public face follows, and readers in between see one or the other."""
    list(migrate(server))
    face = (
        "SELECT sum FROM meter_event_summaries(livemode = true, event_name = 'e', customers = [], "
        "start = '2026-01-01 00:00:00', end = '2027-01-01 00:00:00', window = 'none', zone = 'UTC', "
        "by_customer = false, group_by = [], filter = map())"
    )
    with connect(server) as client:
        client.command("CREATE TABLE summary_shards_g2 AS summary_shards_g1")
        for generation in (1, 2):
            shard = SummaryShard(TallyKey(True, "e", "c", 1_772_323_200_000, ()), 0, 1, 1, 0, 0, 0, None, None)
            shard = shard._replace(sum=generation * 10**12)
            (rows,) = tables_of([row_of(Place(0, 0, 0), shard)]).values()
            client.insert_arrow(tables.derived("summary_shards", generation), rows)
        assert client.command(face) == 1
        client.command("CREATE OR REPLACE VIEW summary_shards AS SELECT * FROM summary_shards_g2 FINAL")
        assert client.command(face) == 2


def test_a_server_that_is_away_is_said_so() -> None:
    with pytest.raises(Unavailable, match=r"ClickHouse at http://127\.0\.0\.1:9 does not answer: Connection refused"):
        list(migrate(Server("http://127.0.0.1:9", "x")))


def test_the_command_says_what_it_did(stack: Stack, namespace: str, tmp_path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "clickhouse", "migrate"],
            env={
                "METERLINE_CLICKHOUSE": stack.clickhouse,
                "METERLINE_NAMESPACE": namespace,
                "METERLINE_HOME": str(tmp_path),
            },
            capture_output=True,
            text=True,
            check=True,
        )

    assert run().stdout.splitlines() == [f"applied {one.number:03d} {one.name}" for one in known_migrations()]
    assert run().stdout == f"database {namespace} is up to date\n"
