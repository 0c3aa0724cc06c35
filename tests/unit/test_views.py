"""A switch replaces four views, one after the other: killed between any two, it is seen as unfinished and goes on."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.clickhouse import generations as sql
from pipeline.clickhouse import tables
from pipeline.clickhouse.connection import Server
from pipeline.domain.generations import BUILDING, LIVE, Generation, generations_of
from pipeline.errors import Refusal
from pipeline.replay import ground as ground_module
from pipeline.replay import rebuild
from pipeline.replay.ground import MIXED, Ground

VIEWS = len(tables.DERIVED) + len(tables.JOURNALED)


class Killed(BaseException):
    """In the middle of a command."""


class ClickHouse:
    """Its views, and how many more statements it takes before whoever gives them is killed."""

    def __init__(self) -> None:
        self.views: dict[str, str] = {}
        self.begin()

    def begin(self) -> None:
        """The first generation is shown."""
        self.left = 1_000
        sql.show(self.client, 1, 1)

    @property
    def client(self) -> Any:
        return self

    def show_killed_after(self, views: int, number: int, journal: int) -> None:
        self.left = views
        with contextlib.suppress(Killed):
            sql.show(self.client, number, journal)
        self.left = 1_000

    def command(self, statement: str) -> str:
        if self.left == 0:
            raise Killed
        self.left -= 1
        match = re.search(r"^CREATE OR REPLACE VIEW (\w+) AS (.*)", statement, re.MULTILINE)
        if match:
            self.views[match[1]] = f"SELECT * FROM namespace.{match[2].removeprefix('SELECT * FROM ')}"
        return "1"

    def query(self, _: str, parameters: dict[str, list[str]]) -> Any:
        rows = [(name, self.views[name]) for name in parameters["names"] if name in self.views]
        return SimpleNamespace(result_rows=rows)


def generation(number: int, state: str, journal: int) -> Generation:
    return Generation(number, state, journal, 8, "rules", 0)


@pytest.fixture
def clickhouse(monkeypatch: pytest.MonkeyPatch) -> ClickHouse:
    made = ClickHouse()

    @contextlib.contextmanager
    def connect(*_: object, **__: object) -> Iterator[ClickHouse]:
        yield made

    monkeypatch.setattr(ground_module, "connect", connect)
    return made


def switched(journal: int) -> Ground:
    """Generation 2, of this journal, is written down as live; the first one was before."""
    steps = [generation(1, LIVE, 1), generation(2, BUILDING, journal), generation(2, LIVE, journal)]
    ledger: Any = SimpleNamespace(read=lambda: generations_of(steps))
    return Ground({}, "test", 1, Server("http://nowhere", "test"), ledger)


@pytest.mark.parametrize(("journal", "shown"), [(1, [1, 1, 1, MIXED, 2]), (2, [1, MIXED, MIXED, MIXED, 2])])
def test_killed_between_two_views_a_switch_is_unfinished(
    clickhouse: ClickHouse, journal: int, shown: list[int]
) -> None:
    found = []
    for done in range(VIEWS + 1):
        clickhouse.begin()
        clickhouse.show_killed_after(done, 2, journal)
        ground = switched(journal)
        found.append(ground.shown())
        one = rebuild.unfinished(ground)
        assert (one is None) == (done == VIEWS), f"after {done} views"
        assert one is None or one.number == 2, "what goes on is the switch, in the direction it had"
    assert found == shown


def test_usage_is_shown_last(clickhouse: ClickHouse) -> None:
    """Whoever sees a generation there sees it everywhere."""
    clickhouse.show_killed_after(VIEWS - 1, 2, 2)
    assert set(sql.shown(clickhouse.client).values()) == {1, 2}
    assert sql.shown(clickhouse.client)["summary_shards"] == 1
    assert set(sql.shown_journals(clickhouse.client).values()) == {2}


def test_nothing_is_dropped_while_views_differ(clickhouse: ClickHouse) -> None:
    clickhouse.show_killed_after(VIEWS - 1, 2, 1)
    with pytest.raises(Refusal, match="meterline rebuild"):
        switched(1).drop(1)


def test_views_that_differ_are_not_lost(clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[Generation] = []
    monkeypatch.setattr(Ground, "want_filled", lambda _, live: filled.append(live))
    monkeypatch.setattr(ground_module, "migrate", lambda _: ())
    ground = switched(1)
    clickhouse.show_killed_after(VIEWS - 1, 2, 1)
    ground.restore_tables(ground.ledger.read().live)
    assert (ground.shown(), filled) == (2, [])
    clickhouse.views.pop("dispositions")
    assert ground.shown() is None
    ground.restore_tables(ground.ledger.read().live)
    assert (ground.shown(), len(filled)) == (2, 1), "a view that is missing is another matter"
