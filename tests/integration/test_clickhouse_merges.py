"""FAULTS D10: whoever reads while parts are merged sees each tally once, in one of the states that were inserted."""

from __future__ import annotations

import threading

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.clickhouse.tables import derived
from pipeline.domain.events import Last, Latest, SummaryShard, TallyKey
from pipeline.sink.rows import Place, row_of, tables_of
from tests.conftest import Stack

TALLIES = 50
VERSIONS = 40
TABLE = derived("summary_shards", 1)
AS_VIEW, AS_GATEWAY = "summary_shards", f"{TABLE} FINAL"
"""What people read, and what gateways read past it."""


@pytest.fixture
def server(stack: Stack, namespace: str) -> Server:
    found = Server(stack.clickhouse, namespace)
    list(migrate(found))
    return found


def insert(client: Client, version: int) -> None:
    """Every tally once more, each with ``version`` events of 1 unit."""
    rows = []
    for number in range(TALLIES):
        key = TallyKey(True, "calls", f"cus_{number}", 60_000, ())
        last, latest = Last(60_000, 1, version, 1), Latest(1, version, 1)
        rows.append(row_of(Place(0, 0, 0), SummaryShard(key, 0, version, version, version, 1, 1, last, latest)))
    client.insert_arrow(TABLE, tables_of(rows)["summary_shards"])


def totals(client: Client, source: str) -> tuple[int, int]:
    ((rows, events),) = client.query(f"SELECT count(), sum(count) FROM {source}").result_rows
    return int(rows), int(events)


@pytest.mark.parametrize("source", [AS_VIEW, AS_GATEWAY])
def test_d10_a_total_is_one_that_was_inserted_while_parts_are_merged(server: Server, source: str) -> None:
    over = threading.Event()
    failed: list[BaseException] = []

    def change() -> None:
        try:
            with connect(server) as client:
                for version in range(1, VERSIONS + 1):
                    insert(client, version)
                    if version % 4 == 0:
                        client.command(f"OPTIMIZE TABLE {TABLE}")
        except BaseException as error:  # raised again by who reads
            failed.append(error)
        finally:
            over.set()

    with connect(server) as client:
        insert(client, 1)
        changing = threading.Thread(target=change)
        changing.start()
        seen = []
        while not over.is_set():
            seen.append(totals(client, source))
        changing.join()
        if failed:
            raise failed[0]
        seen.append(totals(client, source))
        parts = client.command(f"SELECT max(level) FROM system.parts WHERE active AND table = '{TABLE}'")
    assert {rows for rows, _ in seen} == {TALLIES}
    versions = [events // TALLIES for _, events in seen]
    assert [events % TALLIES for _, events in seen] == [0] * len(seen)
    assert versions == sorted(versions), "none goes back"
    assert (versions[-1], len(set(versions)) > 3) == (VERSIONS, True)
    assert int(str(parts)) > 0, "parts were merged"
