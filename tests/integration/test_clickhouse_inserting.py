"""Inserting: acknowledged means stored, and doing it again does no harm."""

from __future__ import annotations

import pytest

from pipeline.clickhouse.connection import ClickHouseRefused, Server, connect
from pipeline.clickhouse.inserting import Inserter
from pipeline.clickhouse.migrations import migrate
from pipeline.domain.events import SummaryShard, TallyKey
from pipeline.errors import Refusal, Unavailable
from pipeline.sink.rows import Place, row_of, tables_of
from tests.conftest import Stack
from tests.gate import Door, Gate

MONTHS = 130
"""More partitions than ClickHouse takes in one insert by default (100)."""


def shards(version: int):
    """One shard in each of many months, with a sum of their version."""
    rows = []
    for month in range(MONTHS):
        key = TallyKey(True, "calls", "c", month * 31 * 86_400_000 // 60_000 * 60_000, ())
        shard = SummaryShard(key, 0, version, 1, version * 10**12, 0, 0, None, None)
        rows.append(row_of(Place(0, 0, 0), shard))
    return tables_of(rows)["summary_shards"]


@pytest.fixture
def server(stack: Stack, namespace: str) -> Server:
    found = Server(stack.clickhouse, namespace)
    list(migrate(found))
    return found


def total(server: Server) -> tuple[int, int]:
    with connect(server) as client:
        return client.query("SELECT count(), toUInt64(sum(sum)) FROM summary_shards").result_rows[0]


def test_a_server_is_not_left_to_answer_before_it_has_the_rows(server: Server) -> None:
    """FAULTS D8: newer servers buffer inserts by default, and may answer before they are stored."""
    with Gate(server.url) as gate:
        inserter = Inserter(Server(gate.url, server.database))
        inserter.insert("summary_shards_g1", shards(1))
        inserter.close()
        head = next(asked for asked in gate.asked if b"INSERT" in asked)
    assert b"async_insert=0" in head
    assert total(server) == (MONTHS, MONTHS)


def test_the_highest_version_stands_in_whatever_order_they_come(server: Server) -> None:
    inserter = Inserter(server)
    for version in (2, 3, 1, 3, 2):
        inserter.insert("summary_shards_g1", shards(version))
    inserter.insert("summary_shards_g1", shards(3).slice(5, 7))
    inserter.close()
    assert total(server) == (MONTHS, 3 * MONTHS)


def test_failures_are_told_apart(server: Server) -> None:
    with Gate(server.url) as gate:
        inserter = Inserter(Server(gate.url, server.database))
        inserter.insert("summary_shards_g1", shards(1))
        gate.set(Door.SHUT)
        for _ in range(2):
            with pytest.raises(Unavailable):
                inserter.insert("summary_shards_g1", shards(2))
        gate.set(Door.OPEN)
        inserter.insert("summary_shards_g1", shards(2))
        with pytest.raises(Refusal, match="meterline clickhouse migrate"):
            inserter.insert("no_such_table", shards(2))
        inserter.insert("summary_shards_g1", shards(3))
        inserter.close()
    assert total(server) == (MONTHS, 3 * MONTHS)


@pytest.mark.parametrize("rows_claimed", [None, 0, 1, MONTHS - 1])
def test_d5_a_success_that_tells_of_an_exception_is_none(server: Server, rows_claimed: int | None) -> None:
    """ClickHouse has sent its 200 when it throws in the middle of a long insert; only how much is written tells."""
    with Gate(server.url) as gate:
        inserter = Inserter(Server(gate.url, server.database))
        gate.rows_claimed = rows_claimed
        gate.set(Door.LYING)
        with pytest.raises(
            ClickHouseRefused, match=f"took {rows_claimed or 0} of {MONTHS} rows into summary_shards_g1"
        ):
            inserter.insert("summary_shards_g1", shards(1))
        assert (gate.lies, total(server)) == (1, (0, 0))
        gate.set(Door.OPEN)
        inserter.insert("summary_shards_g1", shards(1))
        inserter.close()
    assert total(server) == (MONTHS, MONTHS)
