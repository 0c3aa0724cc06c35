"""When ``pipeline.replay.tables.fill`` comes to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.kafka.topics import Topics
from pipeline.replay import tables

GROUP = "test-sink-tables"


class Reader:
    """How many records of before are left, look after look."""

    def __init__(self, *left: int) -> None:
        self.looks = iter(left)

    def ends(self, topics: list[str]) -> dict[tuple[str, int], int]:
        return {(topic, 0): 10 for topic in topics}

    def left(self, group: str, ends: Mapping[tuple[str, int], int]) -> int:
        assert group == GROUP
        assert set(ends.values()) == {10}, "what comes later is another's work"
        return next(self.looks)


class Watch:
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def step(self, description: str, measured: bool = False) -> Iterator[Any]:
        yield lambda done, goal, note: self.told.append((done, goal))


@pytest.mark.parametrize(("left", "told"), [((10, 4, 0), [(6, 10), (10, 10)]), ((0,), [])])
def test_it_ends_when_all_that_there_was_is_copied_or_gone(
    monkeypatch: pytest.MonkeyPatch, left: tuple[int, ...], told: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(tables, "LOOK_EVERY_S", 0.0)
    reader, watch = Reader(*left), Watch()
    deleted: list[tuple[tuple[str, ...], list[str]]] = []
    ground: Any = SimpleNamespace(
        ledger=SimpleNamespace(read=lambda: SimpleNamespace(live=None)),
        restore_tables=lambda live: None,
        topics=lambda live: Topics("test"),
        filling_group=GROUP,
        want_filled=lambda live: None,
        lag_reader=lambda: reader,
        delete=lambda topics, groups: deleted.append((topics, groups)),
    )
    crew: Any = SimpleNamespace(tend=lambda: None)
    watching: Any = watch
    tables.fill(ground, lambda live, group: contextlib.nullcontext(crew), watching, event_log=True)
    assert list(reader.looks) == []
    assert watch.told == told
    assert deleted == [((), [GROUP])]
