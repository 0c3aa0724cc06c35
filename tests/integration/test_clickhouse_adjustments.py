"""Adjustments and their decisions as ClickHouse has them: copies, pages, partitions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.clickhouse.adjustments import Decided, decisions, sent_adjustment, sent_adjustments
from pipeline.clickhouse.connection import Server, connect
from pipeline.clickhouse.migrations import migrate
from pipeline.domain.events import CancellationRange
from pipeline.domain.limits import MINUTE_MS
from pipeline.gateway.adjustment_reads import RECENT_MAX

COLUMNS = ["id", "partition", "offset", "appended_at", "event_name", "livemode", "identifier", "range_customer",
           "range_start", "range_end"]  # fmt: skip
DECIDED = ["partition", "offset", "decided_offset", "record", "disposition", "reason", "livemode", "adjustment_id",
           "events_cancelled"]  # fmt: skip


@pytest.fixture
def client(stack) -> Iterator[Client]:
    server = Server(stack.clickhouse, f"adjustments_{uuid.uuid4().hex[:12]}")
    list(migrate(server))
    with connect(server) as found:
        yield found


def sent(
    client: Client, id_: str, offset: int, appended_ms: int, *, livemode: bool = True, name: str = "calls"
) -> None:
    row = [id_, 0, offset, appended_ms, name, livemode, f"event-{id_}", None, None, None]
    client.insert("adjustments", [row], column_names=COLUMNS)


def decided(client: Client, partition: int, offset: int, disposition: str, id_: str, events: int | None) -> None:
    row = [partition, offset, offset, "cancellation", disposition, None, True, id_, events]
    client.insert("dispositions_g1", [row], column_names=DECIDED)


def test_pages_show_each_adjustment_once_as_it_was_first_sent(client: Client) -> None:
    for number in range(7):
        sent(client, f"a{number}", number, 1_000 * (number // 2))
    sent(client, "a1", 50, 9_000, name="other")  # sent again, later, and different
    sent(client, "test", 60, 9_000, livemode=False)
    pages, before = [], None
    while True:
        page = sent_adjustments(client, livemode=True, limit=3, **({} if before is None else {"before": before}))
        if not page:
            break
        pages += [(one.adjustment.id, one.appended_at_ms, one.adjustment.event_name) for one in page]
        before = (page[-1].appended_at_ms, page[-1].adjustment.id)
    assert pages == [(f"a{number}", 1_000 * (number // 2), "calls") for number in (6, 5, 4, 3, 2, 1, 0)]
    assert sent_adjustments(client, livemode=True, limit=9, event_name="other") == []
    assert [one.adjustment.id for one in sent_adjustments(client, livemode=False, limit=9)] == ["test"]


def test_a_page_is_without_a_thousand_that_are_named(client: Client) -> None:
    for number in range(4):
        sent(client, f"a{number}", number, 1_000 * number)
    named = ["a2", "'; --", *(f"mtr_event_adj_test_{number:012}" for number in range(RECENT_MAX - 3)), "a0"]
    page = sent_adjustments(client, livemode=True, limit=9, without=named)
    assert [one.adjustment.id for one in page] == ["a3", "a1"]


def test_one_adjustment_is_its_first_copy_of_its_mode(client: Client) -> None:
    sent(client, "a", 5, 500)
    sent(client, "a", 9, 900, name="other")
    found = sent_adjustment(client, "a", livemode=True)
    assert found is not None
    assert (found.appended_at_ms, found.adjustment.event_name, found.adjustment.identifier) == (500, "calls", "event-a")
    assert sent_adjustment(client, "a", livemode=False) is None
    row = ["r", 1, 1, 1, "calls", True, None, "cus_1", 0, MINUTE_MS]
    client.insert("adjustments", [row], column_names=COLUMNS)
    ranged = sent_adjustment(client, "r", livemode=True)
    assert ranged is not None
    assert ranged.adjustment.range == CancellationRange("cus_1", 0, MINUTE_MS)


def test_the_first_decision_of_each_partition_counts(client: Client) -> None:
    decided(client, 0, 5, "cancelled", "a", 2)
    decided(client, 0, 9, "already_cancelled", "a", 0)
    decided(client, 1, 1, "duplicate", "a", None)
    decided(client, 1, 3, "cancelled", "a", 1)
    decided(client, 0, 6, "pending", "b", None)
    assert decisions(client, ["a", "b", "'; --"], livemode=True) == {
        "a": [Decided(0, "cancelled", None, 2), Decided(1, "cancelled", None, 1)],
        "b": [Decided(0, "pending", None, 0)],
    }
    assert decisions(client, ["a"], livemode=False) == {}
