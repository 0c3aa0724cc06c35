"""Lists of adjustments, in ClickHouse and in a gateway's memory: each is on one page, and in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clickhouse.adjustments import LAST, Sent
from pipeline.domain.events import Adjustment
from pipeline.gateway import adjustment_reads
from pipeline.gateway.adjustment_reads import RECENT_MAX, RECENT_MS, list_adjustments
from pipeline.gateway.adjustments import RecentAdjustment, RecentAdjustments

NOW_MS = 1_800_000_000_000


class Accepted(NamedTuple):
    """An adjustment that this gateway took."""

    age_ms: int
    appended_later_ms: int
    """By the broker's clock, which may be behind."""
    copied_after: int
    """How many pages are asked for before ClickHouse has it."""


class World:
    """A gateway's memory beside a ClickHouse that learns of adjustments while pages are turned."""

    def __init__(self, accepted: Sequence[Accepted] = (), others: Sequence[int] = ()) -> None:
        """``others``: ages in ms of what stands in ClickHouse and came from elsewhere."""
        self._recent = RecentAdjustments()
        self._stored: list[tuple[int, Sent]] = []
        self.asked = 0
        for number, one in enumerate(accepted):
            self.accept(Adjustment(f"own_{number:04}", "e", True, "i", None), *one)
        for number, age_ms in enumerate(others):
            adjustment = Adjustment(f"other_{number:04}", "e", True, "i", None)
            self._stored.append((0, Sent(adjustment, NOW_MS - age_ms)))

    def accept(self, adjustment: Adjustment, age_ms: int, appended_later_ms: int = 0, copied_after: int = 0) -> None:
        created_ms = NOW_MS - age_ms
        self._recent.add(RecentAdjustment(adjustment, created_ms, b""))
        self._stored.append((copied_after, Sent(adjustment, created_ms + appended_later_ms)))

    def sent(
        self,
        client: None,
        *,
        livemode: bool,
        limit: int,
        event_name: str = "",
        before: tuple[int, str] = LAST,
        without: Sequence[str] = (),
    ) -> list[Sent]:
        assert len(without) <= RECENT_MAX
        found = [
            (one.appended_at_ms, one.adjustment.id, one)
            for copied_after, one in self._stored
            if copied_after < self.asked
            and one.adjustment.livemode == livemode
            and event_name in ("", one.adjustment.event_name)
            and one.adjustment.id not in without
            and (one.appended_at_ms, one.adjustment.id) < before
        ]
        return [one for _, _, one in sorted(found, reverse=True)][:limit]

    def page(self, query: dict[str, Any]) -> dict[str, Any]:
        async def ask(question: Any) -> Any:
            return question(None)

        self.asked += 1
        parts: Any = SimpleNamespace(
            questions=SimpleNamespace(ask=ask),
            recent_adjustments=self._recent,
            freshness=SimpleNamespace(partitions=8),
        )
        call: Any = SimpleNamespace(given=query, key=SimpleNamespace(livemode=True), now_ms=NOW_MS)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(adjustment_reads, "sent_adjustments", self.sent)
            patched.setattr(adjustment_reads, "decisions", lambda client, ids, livemode: {})
            body: dict[str, Any] = asyncio.run(list_adjustments(parts, call)).body
        return body

    def pages(self, **query: Any) -> list[list[dict[str, Any]]]:
        """All of them, by the addresses that they name."""
        found: list[list[dict[str, Any]]] = []
        while True:
            assert len(found) <= len(self._stored), "pages without an end"
            page = self.page(query)
            found.append(page["data"])
            if page["next_page_url"] is None:
                return found
            said = {name: texts[0] for name, texts in parse_qs(urlsplit(page["next_page_url"]).query).items()}
            query = {**said, "limit": int(said["limit"])}


ages = st.integers(0, 200) | st.integers(0, RECENT_MS - 1)
worlds = st.builds(
    World,
    st.lists(st.builds(Accepted, ages, st.integers(-2_000, 2_000), st.integers(0, 5)), max_size=25),
    st.lists(ages | st.integers(0, 10 * RECENT_MS), max_size=25),
)


@given(worlds, st.integers(1, 12))
def test_every_adjustment_is_on_one_page_also_when_it_comes_to_clickhouse_in_between(world: World, limit: int) -> None:
    pages = world.pages(limit=limit)
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert len(pages[-1]) <= limit
    assert pages[-1] or len(pages) == 1, "a page was announced that has nothing"
    shown = [(one["created"], one["id"]) for page in pages for one in page]
    assert sorted(one.adjustment.id for _, one in world._stored) == sorted(id_ for _, id_ in shown)
    assert shown == sorted(shown, reverse=True)


def test_thirty_that_clickhouse_has_are_three_pages_of_ten() -> None:
    world = World([Accepted(1_000 * number, 5, 0) for number in range(30)])
    pages = world.pages(limit=10)
    assert [[one["id"] for one in page] for page in pages] == [
        [f"own_{number:04}" for number in range(first, first + 10)] for first in (0, 10, 20)
    ]


def test_a_further_page_is_of_the_same_event_name() -> None:
    world = World([Accepted(10 * number, 5, 0) for number in range(5)])
    name = "a b&limit=1"
    for number in range(5):
        world.accept(Adjustment(f"named_{number}", name, True, "i", None), 10 * number + 5)
    pages = world.pages(limit=2, event_name=name)
    assert [one["id"] for page in pages for one in page] == [f"named_{number}" for number in range(5)]


def test_what_this_gateway_took_more_than_a_minute_ago_is_clickhouses_to_tell() -> None:
    world = World([Accepted(RECENT_MS, 5, 0), Accepted(RECENT_MS, 5, 99)])
    assert [one["id"] for page in world.pages() for one in page] == ["own_0000"]


def test_a_flood_of_adjustments_does_not_make_a_question_without_bounds() -> None:
    world = World([Accepted(number % RECENT_MS, 5, 0) for number in range(2 * RECENT_MAX)])
    shown = [one["id"] for page in world.pages(limit=100) for one in page]
    assert sorted(shown) == [f"own_{number:04}" for number in range(2 * RECENT_MAX)]
